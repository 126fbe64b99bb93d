"""Tunnels over a simulated interface and a database of a test's own."""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
import time
from typing import Any, Final

from attrs import define, field
from prometheus_client.parser import text_string_to_metric_families
import trio

from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.reconcile import Terms, Tunnels
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.devices import NewDevice
from opendesk.network.wireguard.endpoints import LookUp, in_threads
from opendesk.network.wireguard.wg import Wg
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard

# For a condition to come true.
PATIENCE_S: Final = 30.0
SEALER: Final = Sealer((Secret(bytes(range(32))),))


def key(name: str) -> str:
    return b64encode(sha256(name.encode()).digest()).decode()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # nothing tells when it comes true
            await trio.sleep(0.005)


async def until_in_db(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # the same
            await trio.sleep(0.02)


@define(eq=False)
class On:
    """`now` is the clock that handshakes are told by, moved by hand from the real time on."""

    pool: Pool
    tunnels: Tunnels
    wireguard: SimulatedWireguard
    metrics: Metrics
    now: "Clock"
    back: list[str] = field(factory=list)
    told_back: list[frozenset[str]] = field(factory=list)  # a look's each

    async def put(self, name: str, *ips: str, settles: bool = True, **rest: Any) -> None:
        """As a call does it."""
        async with self.pool.connection() as conn:
            new = NewDevice(id=name, public_key=rest.pop("public_key", key(name)), allowed_ips=ips or None, **rest)
            await devices.put(conn, new, SEALER, dry_run=False)
        if settles:
            await self.tunnels.settle({name})

    async def remove(self, name: str, *, settles: bool = True) -> None:
        async with self.pool.connection() as conn:
            await devices.remove(conn, name, dry_run=False)
        if settles:
            await self.tunnels.settle({name})

    async def tombstones(self) -> frozenset[str]:
        async with self.pool.connection() as conn:
            return frozenset(await devices.tombstones(conn, dry_run=False))

    async def sql(self, statement: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as conn:
            return await conn.fetch(statement)

    async def age_tombstones(self) -> None:
        """As if they had been there for a long time."""
        await self.sql(
            "UPDATE tunnel_keys SET removed_at = removed_at - interval '1 hour' WHERE removed_at IS NOT NULL RETURNING 1"
        )

    async def age_removals(self) -> None:
        await self.sql("UPDATE tunnel_removals SET removed_at = removed_at - interval '1 day' RETURNING 1")

    def held(self) -> dict[str, list[str]]:
        return {public_key: sorted(peer.allowed_ips) for public_key, peer in self.wireguard.peers.items()}

    def sets(self) -> list[list[str]]:
        return [call for call in self.wireguard.calls if call[1] == "set"]

    def figures(self, name: str) -> dict[str, float]:
        """By the one label's value."""
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in text_string_to_metric_families(self.metrics.render().decode())
            for sample in family.samples
            if sample.name == name and sample.value
        }


@define
class Clock:
    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@asynccontextmanager
async def tunnels_on(
    conninfo: str,
    wireguard: SimulatedWireguard | None = None,
    *,
    runs: bool = True,
    has_wg: bool = True,
    real: Wg | None = None,
    look_up: LookUp | None = None,
    **terms: Any,
) -> AsyncIterator[On]:
    """With an interval of an hour, unless told otherwise: what happens sooner does so because of something."""
    pool, metrics, clock = Pool(conninfo), Metrics(), Clock()
    wireguard = wireguard or SimulatedWireguard()
    tunnels = Tunnels(
        pool,
        partial(TrioConnection.connect, conninfo, autocommit=True),
        real or (Wg("wg0", run=wireguard.run) if has_wg else None),
        Terms(**{"interval_s": 3600.0, **terms}),
        SEALER,
        TunnelFigures(metrics),
        clock,
        look_up or in_threads(),
    )
    on = On(pool, tunnels, wireguard, metrics, clock)

    def came_back(hosts: frozenset[str]) -> None:
        on.told_back.append(hosts)
        on.back.extend(sorted(hosts))

    tunnels.came_back = came_back
    try:
        async with trio.open_nursery() as nursery:
            if runs:
                nursery.start_soon(tunnels.run)
            yield on
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await pool.aclose()
