"""ACKs: the bytes that were stored, signed, until the backend takes them; for a week; and no crash loses one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
import hashlib
import hmac
import json
from uuid import uuid4

from attrs import evolve
import httpx
from hypothesis import given
from hypothesis import strategies as st
import pytest
import trio

from opendesk.network.events import acks, backend
from opendesk.network.events.acks import ACK_EVENT, ACK_LANE, FEWEST_TRIES, PATIENCE_S, Acks, AckTerms, ack_job, is_over
from opendesk.network.events.backend import BackendClient
from opendesk.network.events.refusals import NotTaken
from opendesk.network.jobs import Again, Dead, Done, Job, JobView, NewJob, Outcome, Retries, add, get, replay, table
from opendesk.network.jobs.runner import Handler
from opendesk.network.jobs.shapes import ended
from opendesk.ops.audit import Audit
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings.secret import Secret
from tests.network.events.wires import Answer, RawBackend, cut, cut_amid_the_head, drip, raw_backend, stall, status
from tests.network.jobs.working import Workshop, claimed, make_due, new, running, until_state

SECRETS = ("first of them", "second")
TERMS = AckTerms(quick_retries=2, quick_pause_s=0.01, first_pause_s=30.0)
ONCE = AckTerms(quick_retries=0, quick_pause_s=0.01, first_pause_s=30.0)
RETRIES = Retries(max_attempts=5, base_s=30.0, patience_s={ACK_EVENT: PATIENCE_S})
DAY_S = 86_400.0


def hash_of(event_id: str) -> bytes:
    return hashlib.sha256(event_id.encode(errors="surrogatepass")).digest()


def ack(event_id: str = "evt-1", *, ok: bool = True, **payload: object) -> NewJob:
    return ack_job(hash_of(event_id), event_id, ok, payload, lane=ACK_LANE, trace_id=None)


@asynccontextmanager
async def client_of(wire: RawBackend, *, ack_s: float = backend.ACK_S) -> AsyncIterator[BackendClient]:
    made = BackendClient(None, httpx.URL(wire.url), tuple(Secret(secret) for secret in SECRETS), ack_s=ack_s)
    yield made
    await made.aclose()


def acks_of(
    acknowledge: Callable[[bytes], Awaitable[int]], terms: AckTerms = TERMS, counted: list[str] | None = None
) -> Acks:
    told = list[str]() if counted is None else counted
    return Acks(acknowledge, Audit(lambda _outcome: None), told.append, terms)


async def attempt(conn: TrioConnection, sender: Acks) -> JobView:
    """One, as the runner does it."""
    (job,) = await claimed(conn, {ACK_LANE: 1})
    await finish(conn, job, await sender.perform(job))
    view = await get(conn, job.id)
    assert view is not None
    return view


async def finish(conn: TrioConnection, job: Job, outcome: Outcome) -> None:
    assert await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)]) == {job.id}


async def age(conn: TrioConnection, seconds: float) -> None:
    """Time passes."""
    await conn.run(
        "UPDATE jobs SET created_at = created_at - %(s)s * interval '1 second', run_at = run_at - %(s)s * interval '1 second'",
        {"s": seconds},
    )


async def nobody(_body: bytes) -> int:
    raise NotTaken("the backend answered 503", 503)


async def somebody(_body: bytes) -> int:
    return 200


# ---- on the wire


async def test_an_ack_is_signed_by_the_first_secret_over_its_bytes_as_they_are_sent(conn: TrioConnection) -> None:
    await add(conn, ack("evt-ü😀", online=True, error='"quoted" é'))
    async with raw_backend(status(200)) as wire, client_of(wire) as client:
        view = await attempt(conn, acks_of(client.acknowledge))
    (request,) = wire.requests
    assert request.head.startswith(b"POST /acks HTTP/1.1\r\n")
    assert request.headers["x-relay-hmac"] == hmac.new(SECRETS[0].encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-relay-ts"].isdigit()
    assert request.headers["content-type"] == "application/json"
    told = json.loads(request.body)
    assert told == {"eventId": "evt-ü😀", "ok": True, "payload": {"online": True, "error": '"quoted" é'}}
    assert (view.state, view.result) == ("done", {"status": 200})


async def test_what_the_database_writes_of_an_event_is_what_is_sent(conn: TrioConnection) -> None:
    job_id = await add(conn, new(kind="AUTHORIZE_BY_PEDIDO"))
    await take_in(conn, "evt-1", job_id=job_id)
    (job,) = await claimed(conn)
    await finish(conn, job, Done({"online": True, "until": None, "changed": True, "steps": [], "dryRun": False}))
    async with raw_backend(status(204)) as wire, client_of(wire) as client:
        view = await attempt(conn, acks_of(client.acknowledge))
    (request,) = wire.requests
    assert request.headers["x-relay-hmac"] == hmac.new(SECRETS[0].encode(), request.body, hashlib.sha256).hexdigest()
    told = json.loads(request.body)
    assert (told["eventId"], told["ok"], told["payload"]["online"]) == ("evt-1", True, True)
    assert view.key == hash_of("evt-1").hex()
    assert await conn.fetch_one("SELECT acked_at IS NOT NULL, ok FROM events") == (True, True)


@pytest.mark.parametrize(
    "answer",
    [
        status(500),
        status(404),
        status(302, "location: /elsewhere"),
        status(401),
        cut,
        cut_amid_the_head,
        stall,
        drip,
    ],
    ids=["500", "404", "302", "401", "cut", "cut amid the head", "stall", "drip"],
)
async def test_what_was_not_taken_is_brought_again_as_the_same_bytes(conn: TrioConnection, answer: Answer) -> None:
    await add(conn, ack())
    counted = list[str]()
    async with raw_backend(answer, answer, answer, status(200)) as wire, client_of(wire, ack_s=0.3) as client:
        sender = acks_of(client.acknowledge, counted=counted)
        view = await attempt(conn, sender)
        assert (view.state, view.attempts, view.outcomes) == ("due", 0, 1)
        assert view.last_error
        await make_due(conn)
        assert (await attempt(conn, sender)).state == "done"
    assert len(wire.requests) == 4  # the first, two quick retries, and the one after the pause
    assert len({request.body for request in wire.requests}) == 1
    assert counted == ["failed", "taken"]


async def test_a_quick_retry_that_is_taken_ends_it(conn: TrioConnection) -> None:
    await add(conn, ack())
    async with raw_backend(status(500), status(503), status(202)) as wire, client_of(wire) as client:
        view = await attempt(conn, acks_of(client.acknowledge))
    assert (view.state, view.result, len(wire.requests)) == ("done", {"status": 202}, 3)


async def test_quick_retries_end_before_the_attempt_is_stopped(autojump_clock: trio.testing.MockClock) -> None:
    begun = list[float]()

    async def slowly(_body: bytes) -> int:
        begun.append(trio.current_time())
        await trio.sleep(backend.ACK_S)
        raise NotTaken("slow")

    outcome = await acks_of(slowly, AckTerms(10, 60.0, 30.0)).perform(a_job())
    assert isinstance(outcome, Again)
    assert 1 < len(begun) < 10
    assert begun[-1] - begun[0] <= acks.QUICK_S


# ---- for how long


def a_job(*, outcomes: int = 0, age_s: float = 0.0) -> Job:
    due = None  # when it was due nobody asks
    return Job(uuid4(), 1, ACK_EVENT, ACK_LANE, "00", {"body": "{}"}, 1, due, None, outcomes, age_s)  # type: ignore[arg-type]  # as above


@given(st.integers(1, 10_000), st.floats(-1e9, 1e9))
def test_an_ack_is_given_up_after_a_week_and_some_tries_and_never_before(tries: int, age_s: float) -> None:
    if is_over(tries, age_s):
        assert tries >= FEWEST_TRIES
        assert age_s >= PATIENCE_S or age_s < 0
        assert is_over(tries + 1, age_s)
    elif age_s >= PATIENCE_S:
        assert tries < FEWEST_TRIES


def test_an_ack_from_the_future_comes_to_an_end_too() -> None:
    assert not is_over(acks.TRIES_OF_A_WEEK - 1, -1.0)
    assert is_over(acks.TRIES_OF_A_WEEK, -1.0)


@given(st.integers(0, 100_000), st.floats(0, PATIENCE_S - 1))
async def test_a_failed_attempt_uses_none_and_waits_up_to_an_hour_before_jitter(outcomes: int, age_s: float) -> None:
    outcome = await acks_of(nobody, ONCE).perform(a_job(outcomes=outcomes, age_s=age_s))
    assert isinstance(outcome, Again)
    assert not outcome.counts
    nominal = min(30.0 * 2.0 ** min(outcomes, 60), 3600.0)
    assert outcome.after_s is not None
    assert nominal * 0.5 <= outcome.after_s <= nominal * 1.5


async def test_a_backend_that_is_away_for_a_week_leaves_a_dead_letter_that_can_be_replayed(
    conn: TrioConnection,
) -> None:
    job_id = await add(conn, new(kind="AUTHORIZE_BY_PEDIDO"))
    await take_in(conn, "evt-1", job_id=job_id)
    (job,) = await claimed(conn)
    await finish(conn, job, Done({"online": True}))
    sender, tries, passed_s = acks_of(nobody, ONCE), 0, 0.0
    while (view := await attempt(conn, sender)).state == "due":
        tries += 1
        row = await conn.fetch_one("SELECT extract(epoch FROM run_at - now())::float8 FROM jobs WHERE state = 'due'")
        assert row is not None
        passed_s += row[0] + 1
        await age(conn, row[0] + 1)
    assert (view.state, view.last_error) == ("dead", "the backend answered 503")
    assert PATIENCE_S <= passed_s < PATIENCE_S + 2 * 3600
    assert 100 < tries < 400
    assert await conn.fetch_one("SELECT acked_at, ok FROM events") == (None, True)
    # Of the event nothing was done again, whatever became of its ACK.
    assert await conn.fetch_one("SELECT state, attempts, outcomes FROM jobs WHERE id = %(id)s", {"id": job_id}) == (
        "done",
        1,
        1,
    )

    assert await replay(conn, view.id)
    assert (await attempt(conn, sender)).state == "dead"  # one honest try
    assert await replay(conn, view.id)
    assert (await attempt(conn, acks_of(somebody))).state == "done"
    assert await conn.fetch_one("SELECT acked_at IS NOT NULL, ok FROM events") == (True, True)


async def test_a_daemon_that_was_away_for_weeks_still_tries_some_times(conn: TrioConnection) -> None:
    await add(conn, ack())
    await age(conn, 30 * DAY_S)
    for _ in range(FEWEST_TRIES - 1):
        assert (await attempt(conn, acks_of(nobody, ONCE))).state == "due"
        await make_due(conn)
    assert (await attempt(conn, acks_of(nobody, ONCE))).state == "dead"


async def test_a_fault_of_ours_buries_none(conn: TrioConnection) -> None:
    async def faulty(_body: bytes) -> int:
        raise ZeroDivisionError

    await add(conn, ack())
    for _ in range(RETRIES.max_attempts + 1):
        view = await attempt(conn, acks_of(faulty))
        assert (view.state, view.last_error) == ("due", "ZeroDivisionError()")
        await make_due(conn)


@given(st.integers(0, 1_000), st.floats(-1e9, 1e9))
def test_attempts_that_were_stopped_bury_none_before_its_time(attempts: int, age_s: float) -> None:
    stopped = Again("it took longer than 120 s")
    job = evolve(a_job(age_s=age_s), attempts=attempts)
    is_dead = ended(job, stopped, RETRIES, jitter=0.5).state == "dead"
    assert is_dead == (attempts >= RETRIES.max_attempts and age_s >= PATIENCE_S)
    other = ended(evolve(job, type="WORK"), stopped, RETRIES, jitter=0.5).state == "dead"
    assert other == (attempts >= RETRIES.max_attempts)


# ---- daemons that die


async def lose(conn: TrioConnection) -> Job:
    """A daemon claims it, and is gone."""
    (job,) = await claimed(conn, {ACK_LANE: 1})
    await conn.run("UPDATE jobs SET leased_until = now() - interval '1 second' WHERE state = 'running'")
    assert await table.take_back(conn, RETRIES) == 1
    return job


async def test_however_often_its_daemon_dies_an_ack_is_sent_in_the_end(conn: TrioConnection) -> None:
    job_id = await add(conn, ack())
    lost = [await lose(conn) for _ in range(3 * RETRIES.max_attempts)]
    assert {job.payload["body"] for job in lost} == {ack().payload["body"]}
    view = await attempt(conn, acks_of(somebody))
    assert (view.id, view.state) == (job_id, "done")


async def test_an_ack_that_kills_its_daemon_for_a_week_is_dead(conn: TrioConnection) -> None:
    job_id = await add(conn, ack())
    for _ in range(RETRIES.max_attempts):
        await lose(conn)
    await age(conn, PATIENCE_S + 1)
    await lose(conn)
    view = await get(conn, job_id)
    assert view is not None
    assert view.state == "dead"


async def test_other_jobs_die_of_daemons_as_before(conn: TrioConnection) -> None:
    job_id = await add(conn, new())
    for _ in range(RETRIES.max_attempts):
        (_job,) = await claimed(conn)
        await conn.run("UPDATE jobs SET leased_until = now() - interval '1 second' WHERE state = 'running'")
        await table.take_back(conn, RETRIES)
    view = await get(conn, job_id)
    assert view is not None
    assert view.state == "dead"


# ---- beside each other


async def test_one_that_is_not_taken_holds_up_no_other(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    taken = list[str]()

    async def picky(body: bytes) -> int:
        event_id = json.loads(body)["eventId"]
        if event_id == "evt-0":
            raise NotTaken("not this one")
        taken.append(event_id)
        return 200

    sender = acks_of(picky)
    ids = [await add(conn, ack(f"evt-{number}")) for number in range(10)]
    async with running(
        pool, conninfo, Workshop(), retries=RETRIES, handlers={ACK_LANE: Handler(acks.AT_ONCE, sender.perform)}
    ):
        for job_id in ids[1:]:
            await until_state(conn, job_id, "done")
        refused = await until_state(conn, ids[0], "due")
    assert sorted(taken) == [f"evt-{number}" for number in range(1, 10)]
    assert refused.attempts == 0


async def test_without_somebody_to_send_them_they_wait(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    """A daemon that has no BACKEND_ACK_URL leaves them to the others."""
    job_id = await add(conn, ack())
    async with running(pool, conninfo, shop := Workshop(), retries=RETRIES):
        other = await add(conn, new())
        await until_state(conn, other, "done")
    view = await get(conn, job_id)
    assert view is not None
    assert (view.state, view.attempts, [job.id for job in shop.begun]) == ("due", 0, [other])


async def test_asking_again_for_one_that_waits_makes_no_second(conn: TrioConnection) -> None:
    job_id = await add(conn, ack())
    assert (await attempt(conn, acks_of(nobody, ONCE))).state == "due"
    assert await add(conn, ack()) == job_id
    # Who asks again is there: it isn't kept waiting for the end of the pause.
    assert (await attempt(conn, acks_of(somebody))).id == job_id


@given(st.text(st.characters(), max_size=40))
def test_an_id_comes_back_as_it_came(event_id: str) -> None:
    body = ack(event_id, ok=False, reason="validation").payload["body"]
    assert body.isascii()
    assert json.loads(body) == {"eventId": event_id, "ok": False, "payload": {"reason": "validation"}}


async def test_any_id_can_be_written_down(conn: TrioConnection) -> None:
    job_id = await add(conn, ack("\0\ud800\x1b😀", ok=False))
    (job,) = await claimed(conn, {ACK_LANE: 1})
    assert job.id == job_id
    assert json.loads(job.payload["body"])["eventId"] == "\0\ud800\x1b😀"


async def take_in(conn: TrioConnection, event_id: str, *, job_id: object) -> None:
    await conn.run(
        "INSERT INTO events (id_hash, dry_run, job_id, event_id, type, ack_lane)"
        " VALUES (%(hash)s, false, %(job)s, %(id)s, 'RELEASE_REQUESTED', '/acks')",
        {"hash": hash_of(event_id), "job": job_id, "id": event_id},
    )


async def test_one_that_is_dead_is_not_acked(conn: TrioConnection) -> None:
    await take_in(conn, "evt-1", job_id=uuid4())
    await add(conn, ack())
    (job,) = await claimed(conn, {ACK_LANE: 1})
    await finish(conn, job, Dead("no"))
    assert await conn.fetch_one("SELECT acked_at FROM events") == (None,)
