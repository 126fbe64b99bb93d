"""Daemons that take events from a simulated backend and from files, and do them on simulated routers; the database stands still where a test wants it to."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
import hashlib
import hmac
import itertools
import json
from pathlib import Path
import random
from typing import Any, Final

from attrs import define, field, frozen
import trio

from opendesk.network.events.types import hash_of
from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.event_backend import ACKS_PATH, EVENTS_PATH, Ack, EventBackend, Fault, Redelivery
from opendesk.simulators.event_server import served
from opendesk.simulators.routeros import Router
from opendesk.simulators.routeros.server import serve
from opendesk.simulators.routeros.tables import Row
from tests.network.behind import BINDINGS, TOKEN, nodes
from tests.network.events import arriving
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, Daemon, connection, until, url_of

Json = dict[str, Any]

SECRETS: Final = ("hush the first secret", "hush the second secret")
# As a backend that is never sure, and that has its faults.
DELIVERIES: Final = 10
NAMELESS: Final = (b"null", b'{"eventId": 5}')
WAYS: Final = (Fault.DUPLICATED, None, Fault.BROKEN_MEMBERS, Fault.REORDERED, Fault.SIGNED_WITH_LAST)
SETTINGS: Final = {
    "RELAY_TOKEN": TOKEN,
    "RELAY_LOCK_TTL_MS": "3000",
    "RELAY_JOB_BACKOFF_BASE_MS": "100",
    "BACKEND_HMAC_SECRET": ",".join(SECRETS),
    "BACKEND_REQUIRE_HMAC": "1",
    "BACKEND_EVENTS_POLL_MS": "100",
    "BACKEND_ACK_RETRY_DELAY_MS": "10",
}

# A number that no lock of the daemon's has.
_BARRIER: Final = 4242
_WAITERS: Final = f"""
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {_BARRIER} AND objsubid = 1 AND NOT granted
                               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_STUCK: Final = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
# What a dead daemon held is free: as if the time for that had passed.
_LEASES_END: Final = """
    WITH jobs_end AS (UPDATE jobs SET leased_until = now() WHERE state = 'running'),
         routers_end AS (UPDATE router_states SET leased_until = clock_timestamp() WHERE leased_until > clock_timestamp())
    UPDATE leases SET until = clock_timestamp()
"""
_EVENTS: Final = "SELECT encode(id_hash, 'hex'), ok, executed_at FROM events WHERE NOT dry_run"


def opening(event_id: str, number: int, *, router: str = "r0", is_trial: bool = False) -> Json:
    """For an order of its own, and a device of its own: the `number`th."""
    of_kind = {"trialMinutes": 5} if is_trial else {"minutes": 60}
    make = arriving.trial if is_trial else arriving.release
    return make(event_id, pedidoId=f"order-{event_id}", mikId=router, **arriving.device(number), **of_kind)


def refused(event_id: str) -> Json:
    return arriving.release(event_id, mikId="r0", mac="no MAC")


@define(eq=False)
class History:
    """What each device's way was, as its router's rows had it."""

    router: Router
    told: dict[str, list[str]] = field(factory=dict)
    _open: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.router.state.watchers.append(self._changed)

    def _changed(self, path: str, _row: Row, _gone: bool) -> None:  # noqa: FBT001 - as watchers are called
        if path != BINDINGS:
            return
        rows = [row.values for row in self.router.state.tables[BINDINGS]]
        now = {row["mac-address"] for row in rows if row.get("disabled") != "true"}
        for mac in now - self._open:
            self.told.setdefault(mac, []).append("opened")
        for mac in self._open - now:
            self.told[mac].append("closed")
        self._open = now


@frozen
class Moment:
    """Of a transaction of the daemon's: `at` is when its trigger fires. `undone`: it is lost with the daemon; otherwise it is committed later."""

    at: str
    when: str = "true"
    is_deferred: bool = False
    undone: bool = True
    waiters: int = 1

    @property
    def trigger(self) -> str:
        kind, late = ("CONSTRAINT ", "DEFERRABLE INITIALLY DEFERRED") if self.is_deferred else ("", "")
        head = f"CREATE {kind}TRIGGER stand_still {self.at} {late}"
        return f"{head} FOR EACH ROW WHEN ({self.when}) EXECUTE FUNCTION stand_still()"

    @property
    def table(self) -> str:
        return self.at.rpartition(" ")[2]


@define(eq=False)
class World:
    """`asked`: the events that there are, by their ids; those of which nobody hears are delivered again and again."""

    start: Start
    folder: Path
    conninfo: str
    conn: TrioConnection
    backend: EventBackend
    url: str
    ports: dict[str, int]
    asked: dict[str, Json] = field(factory=dict)
    delivered: Counter[str] = field(factory=Counter)
    decided: dict[str, Any] = field(factory=dict)
    by_file_only: set[str] = field(factory=set)
    killed: bool = False
    daemon: Daemon = field(init=False)

    @property
    def file(self) -> Path:
        return self.folder / "events.json"

    async def begin(self, name: str = "one", **settings: Any) -> Daemon:
        """`name` is told to the backend with each fetch. What a daemon held that was killed is free."""
        given = {
            "DATABASE_URL": url_of(self.conninfo),
            "MIKROTIK_NODES": nodes(self.ports, timeoutMs=20_000),
            "BACKEND_EVENTS_URL": f"{self.url}{EVENTS_PATH}?{name}",
            "BACKEND_ACK_URL": self.url + ACKS_PATH,
            "RELAY_EVENTS_FILE": str(self.file),
        }
        if self.killed:
            await self.conn.run(_LEASES_END)
            self.killed = False
        self.daemon = await self.start(self.folder, **{**given, **SETTINGS, **settings})
        return self.daemon

    async def kill(self) -> None:
        await self.daemon.kill()
        self.killed = True

    def ask(self, *events: Json) -> None:
        self.asked.update({event["eventId"]: event for event in events})
        self.backend.put(*events)

    def ask_by_file(self, *events: Json, file: Path | None = None) -> None:
        """Renamed to where it is looked for, as whoever writes one should. The backend delivers them, too, once they were acknowledged."""
        self.by_file_only.update(event["eventId"] for event in events)
        self.asked.update({event["eventId"]: event for event in events})
        draft = self.folder / "draft.json"
        draft.write_text(json.dumps(list(events)))
        draft.rename(file or self.file)

    async def insist(self) -> None:
        """Deliver each event ten times, and until it is acknowledged, in any order, among members that are broken."""
        ways, chance = itertools.cycle(WAYS), random.Random(1)
        while True:
            await self.fetched(1)
            self.by_file_only -= {name for name in self.by_file_only if self.acks(name)}
            theirs = self.asked.keys() - self.by_file_only
            again = sorted(name for name in theirs if self.delivered[name] < DELIVERIES or not self.acks(name))
            chance.shuffle(again)
            self.delivered.update(again)
            for name in again:
                self.backend.put(self.asked[name], *NAMELESS)
            if not self.backend.fetch_faults:
                self.backend.fetch_faults.append(next(ways))

    # What is there

    async def fetched(self, times: int) -> None:
        seen = len(self.backend.fetches)
        await self.backend.until(lambda: len(self.backend.fetches) >= seen + times)

    def files(self) -> list[str]:
        """Of queues."""
        return [path.name for path in self.folder.iterdir() if ".json" in path.name]

    def acks(self, event_id: str) -> list[Ack]:
        return self.backend.acks_of(event_id)

    async def all_acked(self) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.backend.until(lambda: all(self.acks(name) for name in self.asked))
        await until(self._is_quiet)

    async def _is_quiet(self) -> bool:
        """No event waits, and no ACK."""
        return await self.count("events WHERE ok IS NULL OR acked_at IS NULL") == 0

    async def count(self, rest: str) -> int:
        [(number,)] = await self.conn.fetch(f"SELECT count(*) FROM {rest}")
        return int(number)

    async def check(self) -> None:
        """Each event was decided once, and all of its ACKs say the same."""
        found = {id_hash: (ok, at) for id_hash, ok, at in await self.conn.fetch(_EVENTS)}
        assert set(found) == {hash_of(name).hex() for name in self.asked}
        assert self.decided.items() <= found.items(), "something was decided again"
        self.decided = found
        for name, event in self.asked.items():
            acks = self.acks(name)
            assert len({json.dumps(json.loads(ack.asked.body), sort_keys=True) for ack in acks}) == 1, name
            assert {ack.ok for ack in acks} == {found[hash_of(name).hex()][0]} == {event["payload"]["mac"] != "no MAC"}
            assert all(_is_signed(ack) for ack in acks), name
        done = [event for event in self.asked.values() if event["payload"]["mac"] != "no MAC"]
        assert await self.count("jobs WHERE type IN ('AUTHORIZE_BY_PEDIDO', 'REVOKE_SESSION')") == len(done)
        assert await self.count("jobs WHERE state = 'dead'") == 0
        assert await self.count("entries") == await self.count("transfers") == 0

    # Where the database stands still

    @asynccontextmanager
    async def at(self, moment: Moment) -> AsyncIterator[None]:
        """Meanwhile whoever of the daemon comes to this moment stays there. On leaving, that is undone, or goes on."""
        async with connection(self.conninfo) as lock:
            await lock.run(f"SELECT pg_advisory_lock({_BARRIER})")
            await lock.run(moment.trigger)
            yield
            if moment.undone:
                await lock.fetch(f"SELECT pg_terminate_backend(pid, 5000) FROM ({_WAITERS}) AS waiting")
            await lock.run(f"SELECT pg_advisory_unlock({_BARRIER})")
            await lock.run(f"DROP TRIGGER stand_still ON {moment.table}")

    async def reached(self, waiters: int = 1) -> None:
        async def is_there() -> bool:
            return len(await self.conn.fetch(_WAITERS)) >= waiters

        await until(is_there)

    async def stuck(self, how_many: int) -> None:
        """Some at the moment, some behind them."""

        async def are_there() -> bool:
            return len(await self.conn.fetch(_STUCK)) >= how_many

        await until(are_there)


def _is_signed(ack: Ack) -> bool:
    """Reckoned from the bytes as they came."""
    expected = hmac.new(SECRETS[0].encode(), ack.asked.body, hashlib.sha256).hexdigest()
    return ack.asked.headers["x-relay-hmac"] == expected


@asynccontextmanager
async def world(
    start: Start,
    folder: Path,
    conninfo: str,
    conn: TrioConnection,
    routers: Sequence[Router],
    *,
    redelivery: Redelivery = Redelivery.NEVER,
    begin: bool = True,
    insists: bool = True,
) -> AsyncIterator[World]:
    """r0, r1, … On leaving, the last daemon is stopped."""
    await conn.run(
        f"CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({_BARRIER}); RETURN NEW; END'"
    )
    backend = EventBackend(SECRETS, redelivery)
    async with served(backend) as url, trio.open_nursery() as nursery:
        ports: dict[str, int] = {f"r{n}": await nursery.start(serve, router) for n, router in enumerate(routers)}
        made = World(start, folder, conninfo, conn, backend, url, ports)
        if insists:
            nursery.start_soon(made.insist)
        if begin:
            await made.begin()
        yield made
        await made.daemon.stop()
        nursery.cancel_scope.cancel()
