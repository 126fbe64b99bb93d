"""The same on real WireGuard: the router's rows are a simulator's, and its peer is one of wireguard-go's."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import define, field
import pytest
import trio

from opendesk.network.routeros.errors import Unreachable
from opendesk.network.routers.link import Api
from opendesk.network.setup import proving, redialling, undo
from opendesk.network.setup.apply import apply
from opendesk.network.setup.errors import TunnelLost
from opendesk.network.setup.script import PEERS, Tunnel
from opendesk.simulators.routeros import Router
from opendesk.simulators.routeros.tables import Row
from tests.network.setup.wires import Wire, held, set_up, tunnel_of, undos
from tests.network.wireguard import namespaces
from tests.network.wireguard.namespaces import INSIDE, OUTSIDE, PATIENCE_S, POOL, PORT, Joined, joined

BUS = INSIDE["bus"]
# Nobody has it.
NOWHERE = "192.0.2.77"


@pytest.fixture
def possible() -> None:
    namespaces.skip_if_impossible()


@define(eq=False)
class Mirror:
    """What the router holds of its peer is so on the bus' interface."""

    wires: Joined
    router: Router
    _asked: list[tuple[str, ...]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.router.state.watchers.append(self._changed)

    def _changed(self, path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        if path != PEERS:
            return
        peer, values = ("peer", self.wires.vps.public_key), row.values
        if gone or not row.is_enabled:
            self._asked.append((*peer, "remove"))
            return
        endpoint = ("endpoint", f"{values['endpoint-address']}:{values['endpoint-port']}")
        # RouterOS tells WireGuard of an endpoint only when it is set, as here.
        self._asked.append((*peer, *endpoint, "allowed-ips", values["allowed-address"], "persistent-keepalive", "1"))

    async def run(self) -> None:
        while True:
            self.router.settle()
            while self._asked:
                await self.wires.bus.set(*self._asked.pop(0))
            await trio.sleep(0.02)

    @asynccontextmanager
    async def through(self) -> AsyncIterator[Api]:
        """A connection through the tunnel."""
        if not await self.wires.vps.pings(BUS):
            raise Unreachable("no answer")
        async with Wire(self.router).dial() as api:
            yield api

    async def forget(self) -> None:
        """As the daemon does."""
        await self.wires.vps.set("peer", self.wires.bus.public_key, "remove")
        await know(self.wires)

    async def remember(self) -> None:
        """Its session goes, and where the router is stays: so it dials the router, which it would do some time later anyway."""
        await self.wires.vps.set("peer", self.wires.bus.public_key, "remove")
        await know(self.wires, "endpoint", self.wires.bus.endpoint)


async def know(wires: Joined, *more: str) -> None:
    peer = "peer", wires.bus.public_key
    await wires.vps.set(*peer, "allowed-ips", f"{BUS}/32", "persistent-keepalive", "1", *more)


def told(wires: Joined, host: str) -> Tunnel:
    return tunnel_of(
        address=f"{BUS}/32", vps_public_key=wires.vps.public_key, vps_host=host, vps_port=PORT, allowed_ips=(POOL,)
    )


async def until(is_so: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.02)


@pytest.mark.parametrize("forgets", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_a_wrong_endpoint_is_taken_back_and_would_not_be_if_nobody_forgot(
    possible: None,
    monkeypatch: pytest.MonkeyPatch,
    forgets: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(redialling, "REDIAL_S", 1)
    # Both ends try every 5 s: so long is enough to see that none comes through, and longer to wait for one that does.
    prove_s, undo_s = (11, 15) if forgets else (40, 60)
    monkeypatch.setattr(undo, "UNDO_S", undo_s)
    monkeypatch.setattr(proving, "AGAIN_S", 0.1)
    async with joined() as wires, trio.open_nursery() as nursery:
        await know(wires)
        router = Router()
        mirror = Mirror(wires, router)
        nursery.start_soon(mirror.run)
        await set_up(Wire(router), told(wires, OUTSIDE["vps"]))
        assert await wires.vps.pings(BUS)
        before = held(router)
        forget = mirror.forget if forgets else mirror.remember

        async def change() -> None:
            dial, wrong = Wire(router).dial, told(wires, NOWHERE)
            await apply(
                dial, config=wrong, user=None, dry_run=False, prove=mirror.through, prove_s=prove_s, forget=forget
            )

        if forgets:
            with pytest.raises(TunnelLost):
                await change()
            await until(lambda: not undos(router))
            assert held(router) == before
            with trio.fail_after(PATIENCE_S):
                while not await wires.vps.pings(BUS):  # the router dials every some seconds
                    pass
        else:
            await change()
        nursery.cancel_scope.cancel()


async def test_a_right_one_is_dialled_and_believed(possible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redialling, "REDIAL_S", 1)
    async with joined() as wires, trio.open_nursery() as nursery:
        await know(wires)
        await namespaces.ip("address add 192.0.2.3/24 dev cable", inside=wires.vps.name)
        router = Router()
        mirror = Mirror(wires, router)
        nursery.start_soon(mirror.run)
        await set_up(Wire(router), told(wires, OUTSIDE["vps"]))
        assert await wires.vps.pings(BUS)
        right = told(wires, "192.0.2.3")
        await apply(
            Wire(router).dial, config=right, user=None, dry_run=False, prove=mirror.through, forget=mirror.forget
        )
        assert (undos(router), await wires.vps.pings(BUS)) == ([], True)
        nursery.cancel_scope.cancel()
