"""What an attempt at a job comes to: what is tried again, what is too early, what is hopeless, and what is told of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve, field
from psycopg import OperationalError
import pytest
from structlog.testing import capture_logs

from opendesk.network.figures import NetworkFigures
from opendesk.network.hotspots import grants, orders
from opendesk.network.hotspots.errors import InTheWay, NotHeld
from opendesk.network.hotspots.executor import Executor
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.plan import Conflict
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import add
from opendesk.network.jobs.shapes import Again, Dead, Done, Job, Outcome
from opendesk.network.routeros.errors import TooMuch, Trap
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable, TunnelSilent
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.behind import IP, MAC

PLACE: Final = Place(IP, MAC)


@define
class Worker:
    """Raises what it is told to, or does nothing."""

    fault: Exception | None = None
    held: list[frozenset[str]] = field(factory=list)

    @asynccontextmanager
    async def holding(self, keys: frozenset[str]) -> AsyncIterator[None]:
        self.held.append(keys)
        yield

    async def use(self, act: Callable[[Any], Awaitable[Any]]) -> None:
        if self.fault is not None:
            raise self.fault


@define
class Fleet:
    workers: dict[str, Worker] = field(factory=dict)
    dry_run: bool = False

    def get(self, router: str) -> Worker | None:
        return self.workers.get(router)

    def open_lanes(self) -> Mapping[str, int]:
        return dict.fromkeys(self.workers, 3)


@define
class Bench:
    executor: Executor
    fleet: Fleet
    figures: NetworkFigures
    outcomes: list[str]

    async def does(self, work: Work, fault: Exception | None = None, *, router: str = "r1") -> Outcome:
        self.fleet.workers = {router: Worker(fault)}
        new = work.job("trace-1")
        job = Job(uuid4(), 1, new.type, new.lane, new.key, new.payload, 2, None, new.trace_id)  # type: ignore[arg-type]  # when it is due nobody asks
        return await self.executor.perform(job)


@pytest.fixture
def bench(pool: Pool) -> Bench:
    figures, fleet, outcomes = NetworkFigures(Metrics()), Fleet(), list[str]()
    executor = Executor(pool, fleet, Audit(outcomes.append), figures)  # type: ignore[arg-type]  # a fake
    return Bench(executor, fleet, figures, outcomes)


AUTHORIZE: Final = Work(Kind.AUTHORIZE, "r1", (PLACE,), "1", "checkout")


async def test_a_router_that_another_drives_is_too_early_and_not_told_of(bench: Bench) -> None:
    outcome = await bench.does(AUTHORIZE, router="r2")
    assert isinstance(outcome, Again)
    assert not outcome.counts
    assert bench.outcomes == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (CircuitOpen("five times"), "CIRCUIT_OPEN: five times"),
        (TunnelSilent("for 301 s"), "ROUTER_UNAVAILABLE: for 301 s"),
        (OperationalError("the database is away"), "DATABASE_UNAVAILABLE: the database is away"),
    ],
    ids=["an open circuit", "a silent tunnel", "a database that is away"],
)
async def test_what_is_no_fault_of_the_router_uses_no_attempt(bench: Bench, fault: Exception, told: str) -> None:
    outcome = await bench.does(AUTHORIZE, fault)
    assert outcome == Again(told, after_s=1.0, counts=False)
    assert bench.outcomes == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RouterUnavailable("no route"), "ROUTER_UNAVAILABLE"),
        (NotHeld((), []), "ROUTER_DOES_NOT_HOLD"),
        (NotHeld((), [Trap(None, "failure: no")]), "ROUTER_REFUSED"),
        (Trap(4, "not enough permissions (9)"), "ROUTER_REFUSED"),
        (TooMuch("rows"), "ROUTER_REFUSED"),
    ],
)
async def test_what_may_go_well_the_next_time_is_tried_again(bench: Bench, fault: Exception, code: str) -> None:
    with capture_logs() as log:
        outcome = await bench.does(AUTHORIZE, fault)
    assert isinstance(outcome, Again)
    assert outcome.counts
    assert outcome.error.startswith(f"{code}: ")
    assert bench.outcomes == ["failure"]
    [line] = [line for line in log if line["event"] == "audit"]
    told = {
        "traceId": "trace-1",
        "router": "r1",
        "pedidoId": "1",
        "source": "checkout",
        "attempt": 2,
        "error": outcome.error,
    }
    assert told.items() <= line.items()


@pytest.mark.parametrize(
    ("silent_s", "after_s"), [(301.0, 301 / 60), (10.0, 5.0), (86_400.0, 30.0), (inf, 30.0)],
    ids=["lately", "for a moment", "for a day", "always"],
)  # fmt: skip
async def test_what_waits_for_a_silent_tunnel_uses_no_attempt_and_asks_no_router(
    bench: Bench, silent_s: float, after_s: float
) -> None:
    bench.executor._peer_silent_for = {"its key": silent_s}.get
    await granted(bench)
    outcome = await bench.does(evolve(AUTHORIZE, peer="its key"))
    assert isinstance(outcome, Again)
    assert outcome.error.startswith("PEER_OFFLINE: ")
    assert (outcome.after_s, outcome.counts) == (after_s, False)
    assert bench.fleet.workers["r1"].held == []
    assert isinstance(await bench.does(evolve(AUTHORIZE, peer="another")), Done)
    assert isinstance(await bench.does(AUTHORIZE), Done)


async def granted(bench: Bench, pedido: str = "1", place: Place = PLACE) -> None:
    async with bench.executor._pool.connection() as conn:
        await orders.authorize(conn, "r1", pedido, place, device=None, duration_s=None, dry_run=False)


@pytest.mark.parametrize("has", ["nothing", "something elsewhere", "another order's", "what was revoked"])
async def test_what_has_nothing_to_open_waits_for_no_tunnel(bench: Bench, conn: TrioConnection, has: str) -> None:
    """Behind it may be who closes the way."""
    bench.executor._peer_silent_for = lambda _peer: inf
    if has == "something elsewhere":
        await granted(bench, place=Place("10.5.50.8", MAC))
    elif has == "another order's":
        await granted(bench, "2")
    elif has == "what was revoked":
        await granted(bench)
        await grants.revoke(conn, "r1", PLACE, dry_run=False)
    assert isinstance(await bench.does(evolve(AUTHORIZE, peer="its key")), Done)


async def test_who_closes_the_way_waits_for_the_tunnel_that_is_named(bench: Bench) -> None:
    bench.executor._peer_silent_for = {"its key": inf}.get
    revoke = Work(Kind.REVOKE, "r1", (PLACE,))
    assert isinstance(await bench.does(evolve(revoke, peer="its key")), Again)
    assert isinstance(await bench.does(revoke), Done)


async def test_who_waits_for_no_tunnel_joins_nothing_that_does(conn: TrioConnection) -> None:
    peers = ("its key", "its key", None)
    waits, again, other = [await add(conn, evolve(AUTHORIZE, peer=peer).job("e", joins=False)) for peer in peers]
    assert waits == again
    assert other != waits


async def test_a_row_in_the_way_is_hopeless(bench: Bench) -> None:
    conflict = InTheWay([Conflict("/ip/hotspot/ip-binding", "*1", "it is blocked")])
    outcome = await bench.does(AUTHORIZE, conflict)
    assert isinstance(outcome, Dead)
    assert outcome.error.startswith("ROUTER_CONFLICT: /ip/hotspot/ip-binding *1")
    assert bench.outcomes == ["failure"]


async def test_all_that_is_put_back_is_many_jobs(bench: Bench) -> None:
    async with bench.executor._pool.connection() as conn:
        await conn.run(
            """INSERT INTO hotspot_grants (router_id, pedido_id, ip, mac, dry_run)
               SELECT 'r1', n::text, '10.5.50.0'::inet + n, %s, false FROM generate_series(1, 120) AS n""",
            (MAC,),
        )
        assert isinstance(await bench.does(Work(Kind.RESTORE, "r1")), Done)
        rows = await conn.fetch(
            "SELECT lane, key, type, jsonb_array_length(payload -> 'places') FROM jobs ORDER BY seq"
        )
    assert rows == [("r1", f"restore {n}", "RESTORE_GRANTS", size) for n, size in enumerate((50, 50, 20))]


async def test_a_fault_of_ours_is_told_and_raised(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError):
        await bench.does(AUTHORIZE, ZeroDivisionError())
    assert bench.outcomes == ["failure"]


async def test_places_of_a_job_are_held_by_ip_and_by_mac(bench: Bench) -> None:
    work = Work(Kind.RESYNC, "r1", (PLACE, Place("10.5.50.8", None)), "1")
    assert isinstance(await bench.does(work), Done)
    assert bench.fleet.workers["r1"].held == [frozenset({IP, MAC, "10.5.50.8"})]


def test_work_is_read_as_it_was_written() -> None:
    for work in (
        AUTHORIZE,
        evolve(AUTHORIZE, peer="its key"),
        Work(Kind.RESTORE, "r1"),
        Work(Kind.REVOKE, "r1", (Place(None, MAC), Place(IP, None))),
    ):
        new = work.job("trace-1")
        job = Job(uuid4(), 1, new.type, new.lane, new.key, new.payload, 1, None, None)  # type: ignore[arg-type]  # as above
        assert Work.of(job) == work


async def test_lanes_are_the_fleets(bench: Bench) -> None:
    bench.fleet.workers = {"r1": Worker()}
    assert bench.executor.open_lanes() == {"r1": 3}
