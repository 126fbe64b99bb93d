"""A daemon among everything that comes and goes: routers, a backend with events, people, and a pretended WireGuard interface."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
from pathlib import Path
import signal
from typing import IO, Any, Final

from attrs import asdict, define, field
import trio

from opendesk.postgres.driver import TrioConnection
from scripts.benchmarks import churn_daemon
from scripts.benchmarks.churn_acts import Caller
from scripts.benchmarks.churn_hour import Hour
from scripts.benchmarks.churn_load import BEAT_S, HOUR_ENDS_S
from scripts.benchmarks.churn_memory import Held, held
from scripts.benchmarks.events_made import ACKS_PATH, EVENTS_PATH, REVOKE_APART, SECRET
from scripts.benchmarks.people import MONEY, add_hosts, add_users, token, top_up
from scripts.benchmarks.routers_child import Child, child
from scripts.benchmarks.routers_world import TOKEN, Fleet, World, world
from scripts.benchmarks.servers import Database, folder

# Both sides of every rental: more than an hour has without its end.
_RENTERS: Final = 40
_ACCOUNTS: Final = 6
_ADMINS: Final = 4
_PASSWORD: Final = "churn churn churn"  # noqa: S105  # of nobody
_ROUTERS: Final = 20
# Events' devices are others than those of calls.
_FIRST_EVENT: Final = 1_000_000
# On a machine that does other things as well.
_SETTLED_S: Final = 180.0
_TOLD_S: Final = 60.0
_LOOK_S: Final = 0.05
_REFUSING_S: Final = 1.0

_DAEMON: Final = ("-m", "scripts.benchmarks.churn_daemon")
_SETTINGS: Final = {
    "SESSION_EXPIRATION_INTERVAL_MS": "500",
    "HOST_HEARTBEAT_CHECK_INTERVAL_MS": "500",
    # Five times what a host beats in, as by default.
    "HOST_HEARTBEAT_TIMEOUT_MS": str(round(BEAT_S * 5000)),
    "RELAY_CONNECT_LIMIT": "100000",
    "RELAY_AUTH_FAIL_LIMIT": "100000",
    "WG_INTERFACE": "wg-bench",
    "RELAY_RECONCILE_INTERVAL_MS": "1000",
    "BACKEND_EVENTS_POLL_MS": "250",
    "BACKEND_HMAC_SECRET": SECRET,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
}

# What `opendesk simulate` does for a whole database (time_shift.py), for a few: it is three hours later for them.
_PAST_TRIGGERS: Final = "SET LOCAL session_replication_role = replica"
_AGE: Final = """
    UPDATE opendesk.sessions SET created_at = created_at - interval '3 hours', start_at = start_at - interval '3 hours', end_at = end_at - interval '3 hours'
     WHERE status IN ('PENDING', 'ACTIVE') AND NOT pc_id = ANY (%(silent)s::uuid[])
"""
_SILENCE: Final = "UPDATE opendesk.pc_beats SET last_seen_at = last_seen_at - interval '3 hours' WHERE pc_id = ANY (%(silent)s::uuid[])"
_LEFT: Final = "SELECT count(*) FROM opendesk.sessions WHERE status IN ('PENDING', 'ACTIVE')"
_MAKE_ADMINS: Final = "UPDATE opendesk.users SET role = 'ADMIN' WHERE email = ANY (%(emails)s)"
_BY_RELAY: Final = "UPDATE opendesk.pcs SET network_provider = 'RELAY'"


@define(eq=False)
class Churn:
    """One hour after another."""

    found: World
    backend: Child
    crowd: Child
    told: Path
    _conn: TrioConnection
    refused: Counter[str] = field(factory=Counter)
    acts: int = 0
    _events: int = _FIRST_EVENT
    _hours: int = field(default=0)

    async def hour(self, much: Hour) -> float:
        """Everything of it, and what it leaves undone: over when nothing lives any more. Its seconds. Raise RuntimeError."""
        begun_s = trio.current_time()
        told = await self.crowd.ask({"ask": "hour", "hour": asdict(much)}, within_s=HOUR_ENDS_S)
        if told["faults"]:
            raise RuntimeError(f"not all went well: {told['faults']}")
        self.refused.update(told["refused"])
        self.acts += told["acts"]
        await self._age(told)
        await self._let_through_and_out(much.events)
        await self._flap(much.flaps)
        await self._until_over()
        await self.crowd.ask({"ask": "back"})
        self._hours += 1
        return trio.current_time() - begun_s

    def held(self) -> Held:
        return held(self.found.served.process, self.found.served.postmaster)

    async def census(self) -> dict[str, Any]:
        """The tasks and objects of the daemon."""
        self.told.unlink(missing_ok=True)
        self.found.served.process.send_signal(signal.SIGUSR1)
        with trio.fail_after(_TOLD_S):
            while not self.told.exists():  # noqa: ASYNC110  # another process writes it
                await trio.sleep(_LOOK_S)
        counted: dict[str, Any] = json.loads(self.told.read_text())
        return counted

    async def _age(self, told: dict[str, Any]) -> None:
        async with self._conn.transaction():
            await self._conn.run(_PAST_TRIGGERS)
            await self._conn.run(_AGE, told)
            await self._conn.run(_SILENCE, told)

    async def _let_through_and_out(self, count: int) -> None:
        routers = [node["id"] for node in self.found.nodes]
        await self.found.phones(self._events, count)
        for kind, first in (("paid", self._events), ("revoked", self._events + REVOKE_APART)):
            offer = {"ask": "offer", "kind": kind, "first": first, "count": count, "seconds": 0, "routers": routers}
            await self.backend.ask(offer)
            acked = await self.backend.ask({"ask": "acked", "within_s": _SETTLED_S}, within_s=_SETTLED_S)
            if acked["faults"]:
                raise RuntimeError(f"not all went well: {acked['faults']}")
        self._events += count

    async def _flap(self, count: int) -> None:
        """All of them hang up, and half of them can't be called for a while."""
        indices = [(self._hours + number) % _ROUTERS for number in range(count)]
        ask = self.found.simulated.ask
        await ask({"ask": "flap", "indices": indices[::2], "refuses": False})
        await ask({"ask": "flap", "indices": indices[1::2], "refuses": True})
        await trio.sleep(_REFUSING_S)
        await ask({"ask": "flap", "indices": indices[1::2], "refuses": False})

    async def _until_over(self) -> None:
        with trio.move_on_after(_SETTLED_S):
            while await self._alive():  # noqa: ASYNC110  # other processes know
                await trio.sleep(_LOOK_S)
            return
        raise RuntimeError(f"after {_SETTLED_S:g} s there are still sessions, or routers that aren't connected to")

    async def _alive(self) -> bool:
        rows = await self._conn.fetch(_LEFT)
        return rows[0][0] > 0 or (await self.found.counts())["open"] < _ROUTERS


@asynccontextmanager
async def churn(base: Database, conn: TrioConnection, log: IO[bytes]) -> AsyncIterator[Churn]:
    """Entered when everybody is there."""
    async with child("events_backend") as backend:
        port = await backend.ask({"ask": "port"})
        url = f"http://127.0.0.1:{port}"
        with folder() as made:
            settings = {
                **_SETTINGS,
                "BACKEND_EVENTS_URL": f"{url}{EVENTS_PATH}",
                "BACKEND_ACK_URL": f"{url}{ACKS_PATH}",
                churn_daemon.TOLD: str(made / "told.json"),
            }
            fleet = Fleet("churn", _ROUTERS, latency_s=0.0)
            async with (
                world(base, fleet, settings=settings, log=log, command=_DAEMON) as found,
                child("churn_load") as crowd,
            ):
                await crowd.ask(await _people(found, conn))
                yield Churn(found, backend, crowd, made / "told.json", conn)


async def _people(found: World, conn: TrioConnection) -> dict[str, Any]:
    hosts = await add_hosts(conn, "churn-host", _RENTERS)
    users = await add_users(conn, "churn", _RENTERS)
    await top_up(conn, users, MONEY)
    await conn.run(_BY_RELAY)
    caller = Caller(found.served.port)
    try:
        accounts = await trio.to_thread.run_sync(_accounts, caller, "account", _ACCOUNTS)
        admins = await trio.to_thread.run_sync(_accounts, caller, "admin", _ADMINS)
    finally:
        caller.close()
    await conn.run(_MAKE_ADMINS, {"emails": [admin["email"] for admin in admins]})
    renters = [
        {
            "user": str(user),
            "token": token(user),
            "pc": str(host.pc),
            "host": str(host.host),
            "host_user": str(host.user),
            "host_token": token(host.user, "HOST"),
        }
        for user, host in zip(users, hosts, strict=True)
    ]
    town = {
        "port": found.served.port,
        "network_token": TOKEN,
        "accounts": accounts,
        "admins": admins,
        "routers": [node["id"] for node in found.nodes],
    }
    return {"town": town, "renters": renters}


def _accounts(caller: Caller, name: str, count: int) -> list[dict[str, str]]:
    return [_account(caller, f"{name}-{number}") for number in range(count)]


def _account(caller: Caller, name: str) -> dict[str, str]:
    email = f"{name}@example.org"
    asked = {"email": email, "password": _PASSWORD, "username": name}
    made = caller.ask("POST", "/auth/register", body=asked)
    return {"email": email, "password": _PASSWORD, "user": made["userId"], "token": made["token"]}
