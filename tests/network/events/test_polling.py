"""The poller: what a backend does wrong costs a round, never an event; one of many daemons asks; nobody is asked in vain."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import uuid4

from attrs import define, field
from psycopg import OperationalError
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk.network.events import leases
from opendesk.network.events.backend import BackendClient
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.inbox import Taken
from opendesk.network.events.leases import Lease
from opendesk.network.events.polling import LONGEST_PAUSE_S, LOOK_S, MOST_NAMELESS, Polling, is_crowded
from opendesk.network.events.refusals import NotFetched
from opendesk.network.routers.lanes import PRETENDED
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.simulators.event_backend import EventBackend, Fault, Redelivery
from tests.network.events.pretending import PATIENCE_S, SECRETS, RememberingInbox, client_of, event

POLL_S = 0.02
IDS = [f"e-{number}" for number in range(5)]
# After these an answer is what it should be, or its members are.
HARMLESS = {None, Fault.DUPLICATED, Fault.REORDERED, Fault.BROKEN_MEMBERS, Fault.SIGNED_WITH_LAST}
IMPATIENT = {Fault.SILENT, Fault.DRIPPED}


def figures() -> tuple[Metrics, EventFigures]:
    metrics = Metrics()
    return metrics, EventFigures(metrics)


@asynccontextmanager
async def polled(
    client: BackendClient, inbox: RememberingInbox, pool: Pool, **more: Any
) -> AsyncIterator[trio.Nursery]:
    lease = Lease(pool, "events-poller", uuid4())
    poller = Polling(client.fetch, inbox.take, pool, lease, figures()[1], POLL_S, False, **more)  # noqa: FBT003 - no dry run
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        yield nursery
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
async def test_whatever_the_backend_does_each_event_is_stored_once(fault: Fault, pool: Pool) -> None:
    backend, inbox = EventBackend(SECRETS, Redelivery.ALWAYS, every_fetch=fault), RememberingInbox()
    backend.put(*map(event, IDS))
    with trio.fail_after(PATIENCE_S):
        async with client_of(backend, short=fault in IMPATIENT) as client, polled(client, inbox, pool):
            await backend.until(lambda: len(backend.fetches) > 1)
            if fault not in HARMLESS:
                assert inbox.calls == 0
            backend.every_fetch = None
            await inbox.until(lambda: len(inbox.ids) == len(IDS))
            before = len(backend.fetches)
            await backend.until(lambda: len(backend.fetches) > before + 1)
    assert sorted(inbox.ids) == IDS
    assert (inbox.ids == IDS) is (fault is not Fault.REORDERED)
    assert inbox.sources == {"backend"}


async def test_one_of_many_daemons_asks_and_another_follows_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    backend, inboxes = EventBackend(SECRETS), {"one": RememberingInbox(), "two": RememberingInbox()}
    scopes = {name: trio.CancelScope() for name in inboxes}
    backend.put(event("e-0"))

    async def daemon(name: str, client: BackendClient) -> None:
        with scopes[name]:
            async with polled(client, inboxes[name], pool):
                await trio.sleep_forever()

    with trio.fail_after(PATIENCE_S):
        async with client_of(backend) as client, trio.open_nursery() as nursery:
            for name in inboxes:
                nursery.start_soon(daemon, name, client)
            await backend.until(lambda: len(backend.fetches) > 10)
            (asking,) = (name for name, inbox in inboxes.items() if inbox.calls)
            (other,) = inboxes.keys() - {asking}
            backend.put(event("e-1"))
            scopes[asking].cancel()
            await inboxes[other].until(lambda: len(inboxes[other].ids) == 2)
            nursery.cancel_scope.cancel()


async def test_what_is_undecided_and_what_is_unacked_makes_a_crowd(conn: TrioConnection) -> None:
    async def crowded(*, dry_run: bool = False) -> bool:
        return await is_crowded(conn, dry_run=dry_run, most=2)

    await conn.run(
        "INSERT INTO events (id_hash, dry_run, job_id) SELECT sha256(n::text::bytea), false, uuidv7() FROM generate_series(1, 2) n"
    )
    assert not await crowded()
    await conn.run("INSERT INTO events (id_hash, dry_run, job_id) VALUES (sha256('more'), true, uuidv7())")
    assert not await crowded()
    await conn.run("UPDATE events SET dry_run = false WHERE dry_run")
    assert await crowded()
    assert not await crowded(dry_run=True)
    await conn.run("UPDATE events SET ok = true, executed_at = now()")
    assert not await crowded()
    await conn.run(
        "INSERT INTO jobs (type, lane, key, payload) SELECT 'ACK_EVENT', %(lane)s, n::text, '{}' FROM generate_series(1, 3) n",
        {"lane": f"{PRETENDED}/acks"},
    )
    assert await crowded(dry_run=True)
    assert not await crowded()


# ---- its pace, with nothing real


@define(eq=False)
class PretendedPool:
    """A database that has a lease for whoever asks; `crowded` and `away` are as they are set."""

    crowded: bool = False
    away: bool = False

    def connection(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def run(self, *_: object) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    async def fetch_one(self, *_: object) -> tuple[bool]:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise OperationalError("away")
        return (self.crowded,)


@define(eq=False)
class Script:
    """Answers one after the other, and when they were asked for; the last goes on."""

    answers: list[bytes | NotFetched]
    asked_s: list[float] = field(factory=list)

    async def fetch(self) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked_s.append(trio.current_time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotFetched):
            raise answer
        return answer

    @property
    def pauses_s(self) -> list[float]:
        return [round(b - a, 3) for a, b in zip(self.asked_s, self.asked_s[1:], strict=False)]


def poller(
    script: Script, take: Callable[[Sequence[bytes], Any], Awaitable[Taken]], pool: PretendedPool, **more: Any
) -> Polling:
    lease = Lease(pool, "x", uuid4())  # type: ignore[arg-type]  # a fake of what is used of it
    return Polling(script.fetch, take, pool, lease, figures()[1], 3.0, False, jitter=lambda: 0.5, **more)  # type: ignore[arg-type]  # noqa: FBT003 - the same


async def run_for(seconds: float, service: Polling) -> None:
    with trio.move_on_after(seconds):
        await service.run()


def failing(outcome: Any = "failed") -> NotFetched:
    return NotFetched(outcome, "it is not well")


async def test_it_asks_at_its_pace_and_at_once_again_after_something_new(autojump_clock: MockClock) -> None:
    inbox = RememberingInbox()
    script = Script([b"[]", b'[{"eventId": "a"}]', b'[{"eventId": "a"}, {"eventId": "b"}]', b'[{"eventId": "a"}]'])
    await run_for(9.5, poller(script, inbox.take, PretendedPool()))
    assert script.pauses_s == [3, 0, 0, 3, 3]
    assert inbox.ids == ["a", "b"]


async def test_a_slow_backend_is_not_asked_oftener_for_it(autojump_clock: MockClock) -> None:
    script = Script([b"[]"])

    async def slow_fetch() -> bytes:
        answer = await script.fetch()
        await trio.sleep(2)
        return answer

    service = poller(script, RememberingInbox().take, PretendedPool())
    service._fetch = slow_fetch
    await run_for(10, service)
    assert script.pauses_s == [3, 3, 3]


async def test_it_backs_off_to_a_minute_and_is_back_at_the_first_success(autojump_clock: MockClock) -> None:
    script = Script([*[failing() for _ in range(7)], b"[]"])
    with capture_logs() as logs:
        await run_for(250, poller(script, RememberingInbox().take, PretendedPool()))
    assert script.pauses_s[:9] == [3, 6, 12, 24, 48, 60, 60, 3, 3]
    assert max(script.pauses_s) <= LONGEST_PAUSE_S
    told = [line for line in logs if line["event"] == "events.not_fetched"]
    assert [line["failures"] for line in told] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"eventId": "a"}', b"[", b"\xff\xfe"], ids=repr)
async def test_what_is_no_batch_is_refused_and_backed_off_from(body: bytes, autojump_clock: MockClock) -> None:
    script, inbox = Script([body]), RememberingInbox()
    with capture_logs() as logs:
        await run_for(10, poller(script, inbox.take, PretendedPool()))
    assert script.pauses_s == [3, 6]
    assert not inbox.calls
    assert {line["outcome"] for line in logs if line["event"] == "events.not_fetched"} == {"refused"}


async def test_an_event_without_an_id_that_is_given_for_ever_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    script = Script([*[b'[{"eventId": 5}, {}]'] * 4, b"[]"])
    await run_for(11, poller(script, RememberingInbox().take, PretendedPool()))
    assert script.pauses_s == [3, 3, 3]


async def test_a_batch_of_very_many_without_an_id_is_backed_off_from(autojump_clock: MockClock) -> None:
    body = b"[" + b",".join([b"1"] * (MOST_NAMELESS + 1)) + b"]"
    script = Script([body, body, body, b'[{"eventId": "a"}, 1]', b"[]"])
    with capture_logs() as logs:
        await run_for(26, poller(script, RememberingInbox().take, PretendedPool()))
    assert script.pauses_s == [3, 6, 12, 0, 3]
    assert {line["outcome"] for line in logs if line["event"] == "events.not_fetched"} == {"refused"}


async def test_while_too_many_wait_nobody_is_asked(autojump_clock: MockClock) -> None:
    script, pool = Script([b"[]"]), PretendedPool(crowded=True)
    service = poller(script, RememberingInbox().take, pool)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            await trio.sleep(100)
            assert not script.asked_s
            pool.crowded = False
            await trio.sleep(LOOK_S + 0.1)
            assert len(script.asked_s) == 1
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "events.crowded",
        "events.crowd_gone",
    ]


async def test_while_the_database_is_away_nobody_is_asked(autojump_clock: MockClock) -> None:
    script, pool = Script([b"[]"]), PretendedPool(away=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller(script, RememberingInbox().take, pool).run)
        await trio.sleep(10)
        assert not script.asked_s
        pool.away = False
        await trio.sleep(LOOK_S + 0.1)
        assert len(script.asked_s) == 1
        nursery.cancel_scope.cancel()


async def test_what_was_fetched_is_kept_until_it_is_stored(autojump_clock: MockClock) -> None:
    inbox = RememberingInbox(failures=[OperationalError("away") for _ in range(20)])
    script = Script([b'[{"eventId": "a"}]', b"[]"])
    await run_for(20 * LOOK_S - 0.1, service := poller(script, inbox.take, PretendedPool()))
    assert (len(script.asked_s), inbox.calls, inbox.ids) == (1, 20, [])
    script = Script([b'[{"eventId": "a"}]', b"[]"])
    inbox.failures = [OperationalError("away") for _ in range(20)]
    service = poller(script, inbox.take, PretendedPool())
    await run_for(20 * LOOK_S + 1, service)
    assert inbox.ids == ["a"]
    assert len(script.asked_s) == 2


async def test_what_is_fetched_is_counted() -> None:
    metrics, counted = figures()
    script = Script([failing("refused"), failing("failed"), b"[]", b'[{"eventId": "a"}]', b"[]"])
    service = poller(script, RememberingInbox().take, PretendedPool())
    service._figures = counted
    for _ in range(4):
        await service._round()
    for outcome in ("refused", "failed", "nothing", "events"):
        assert metrics.registry.get_sample_value("opendesk_event_fetches_total", {"outcome": outcome}) == 1
