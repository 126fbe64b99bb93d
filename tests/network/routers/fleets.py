"""Fleets over a database of a test's own, and a network of routers that are fakes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol
from uuid import uuid4

from attrs import define, field
import trio

from opendesk.network.routeros.transport import Target
from opendesk.network.routers import registry
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.link import Connect
from opendesk.network.routers.registry import NewRouter
from opendesk.network.routers.sealing import Sealer
from opendesk.network.routers.worker import Worker
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.settings.secret import Secret
from tests.network.routers.fake_routers import FakeApi, FakeRouter

# For a condition to come true.
PATIENCE_S: Final = 30.0
KEY: Final = Secret(bytes(range(32)))
TTL_MS: Final = 1500


def settings_of(**given: Any) -> Settings:
    return Settings(**{"relay_lock_ttl_ms": TTL_MS, "relay_master_key": (KEY,), **given})


class Network(Protocol):
    @property
    def connect(self) -> Connect: ...


@define
class Net:
    """Which router is at which host."""

    routers: dict[str, FakeRouter] = field(factory=dict)

    def connect(self, target: Target) -> AbstractAsyncContextManager[FakeApi]:
        return self.routers[target.host].connect(target)

    def add(self, host: str, mood: str = "well") -> FakeRouter:
        self.routers[host] = FakeRouter(mood)
        return self.routers[host]


@define(eq=False)
class Running:
    """`kill` and `cut_off` leave the leases as they are."""

    fleet: Fleet
    pool: Pool
    opened: list[str]
    rebooted: list[str]
    nursery: trio.Nursery

    async def worker(self, router_id: str) -> Worker:
        """Once it is ours and connected."""
        await until(lambda: (worker := self.fleet.get(router_id)) is not None and worker.is_connected)
        worker = self.fleet.get(router_id)
        assert worker is not None
        return worker

    async def cut_off(self) -> None:
        """From the database, for good."""
        await self.pool.aclose()

    async def kill(self) -> None:
        await self.cut_off()
        self.nursery.cancel_scope.cancel()


@asynccontextmanager
async def fleet_on(conninfo: str, net: Network, settings: Settings | None = None) -> AsyncIterator[Running]:
    opened: list[str] = []
    rebooted: list[str] = []

    async def reboot(router_id: str) -> None:
        rebooted.append(router_id)

    listen: Callable[[], Awaitable[TrioConnection]] = partial(TrioConnection.connect, conninfo, autocommit=True)
    async with aclosing(Pool(conninfo, size=3)) as pool:
        fleet = Fleet(pool, listen, settings or settings_of(), uuid4(), connect=net.connect)
        fleet.lane_opened, fleet.on_reboot = opened.append, reboot
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.run)
            yield Running(fleet, pool, opened, rebooted, nursery)
            nursery.cancel_scope.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)


async def until_in_db(conn: TrioConnection, query: str) -> None:
    """Until it has a row."""
    with trio.fail_after(PATIENCE_S):
        while await conn.fetch_one(query) is None:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.02)


async def register(conn: TrioConnection, router_id: str, **given: Any) -> None:
    spec = {"host": router_id, "user": "api", "password": Secret("geheim"), **given}
    await registry.put(conn, NewRouter(id=router_id, **spec), Sealer((KEY,)))
