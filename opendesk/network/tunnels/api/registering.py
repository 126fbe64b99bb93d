"""Registering and removing: the registry first, in one transaction, then a wait until the interface was seen to follow.

What is stored stays stored, whatever comes of the wait: the interface follows when it can.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
import time
from typing import TypeVar

from attrs import evolve, field, frozen

from opendesk.errors import FieldFault, Misfit
from opendesk.network import removing
from opendesk.network.removing import Removed
from opendesk.network.routers.errors import RouterNotFound
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.api import asked
from opendesk.network.tunnels.api.answers import PeerShown, peer_shown
from opendesk.network.tunnels.api.asked import Registration
from opendesk.network.tunnels.api.auditing import AWAY_RETRY_S
from opendesk.network.tunnels.errors import DeviceNotFound, WireguardUnavailable
from opendesk.network.tunnels.keeping.reconcile import Tunnels
from opendesk.network.tunnels.registry import bindings, devices, routers
from opendesk.network.tunnels.registry.bindings import Binding
from opendesk.network.tunnels.registry.device import Device, NewDevice, Outcome, Registered
from opendesk.network.tunnels.registry.stored import take_turn
from opendesk.network.wireguard.dump import Interface, Peer
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.settings import Settings
from opendesk.web.reading import refused

T = TypeVar("T")


@frozen
class Registering:
    _pool: Pool
    _settings: Settings
    tunnels: Tunnels
    now: Callable[[], float] = time.time
    _sealer: Sealer = field(init=False, repr=False)

    @_sealer.default
    def _sealer_of_ours(self) -> Sealer:
        return Sealer(self._settings.relay_master_key)

    @property
    def dry_run(self) -> bool:
        return self._settings.relay_dry_run

    def check_on(self) -> None:
        """Raise TunnelsOff, before anything is stored."""
        self.tunnels.require_on()

    async def device(self, new: NewDevice) -> Registered:
        self.check_on()
        registered = await self._committed(partial(self._put, new=new, allocate=False))
        await self.settle(registered.device.id)
        return registered

    async def router(self, wanted: Registration, *, allocate: bool = False) -> Registered:
        """The device, the router behind it and its binding; `allocate`: a tunnel IP from the pool, once and for all."""
        self.check_on()
        registered = await self._committed(partial(self._put_router, wanted=wanted, allocate=allocate))
        await self.settle(registered.device.id)
        return registered

    async def remove_device(self, device_id: str) -> Removed | None:
        """What went with its router, if it had one. Raise DeviceNotFound."""
        self.check_on()
        removed = await self._committed(partial(self._remove_device, device_id=device_id))
        await self.settle(device_id)
        return removed

    async def remove_router(self, router_id: str) -> Removed:
        """With its device and bindings. Raise RouterNotFound if there is neither."""
        removed, had_device = await self._committed(partial(self._remove_router, router_id=router_id))
        if had_device:
            await self.settle(router_id)
        return removed

    async def bind(self, public_key: str, device_id: str, mikrotik_ip: str) -> Binding:
        return await self._committed(
            partial(
                bindings.bind,
                public_key=public_key,
                device_id=device_id,
                mikrotik_ip=mikrotik_ip,
                dry_run=self.dry_run,
            )
        )

    async def remove_peer(self, public_key: str) -> tuple[bool, Removed | None]:
        """Whether anything was known of it, and what went with its router. It goes from the interface in any case."""
        self.check_on()
        device, was_known, removed = await self._committed(partial(self._remove_key, public_key=public_key))
        await self.settle(*(() if device is None else (device.id,)), keys=(public_key,))
        return was_known, removed

    async def settle(self, *device_ids: str, keys: Collection[str] = ()) -> None:
        """Until the interface was seen to be as the registry has it. Raise WireguardUnavailable."""
        try:
            await self.tunnels.settle(device_ids, keys)
        except WireguardUnavailable as error:
            members = {"deviceId": device_ids[0]} if device_ids else {}
            raise WireguardUnavailable(error.detail, members=members) from error

    async def seen(self) -> Interface | None:
        """The interface as it is; None where that isn't known."""
        with suppress(WireguardUnavailable):
            return await self.look()
        return None

    async def look(self) -> Interface | None:
        """None where there is none: tunnels are off here, or it is a dry run. Raise WireguardUnavailable."""
        try:
            return await self.tunnels.look()
        except WireguardUnavailable as error:
            raise WireguardUnavailable(error.detail, retry_after_s=AWAY_RETRY_S) from error

    def shown(self, peer: Peer, device_id: str | None) -> PeerShown:
        online_s = self._settings.relay_handshake_online_seconds
        return peer_shown(peer, device=device_id, now_s=self.now(), online_s=online_s)

    # ---- within a transaction

    async def _committed(self, unit: Callable[[TrioConnection], Awaitable[T]]) -> T:
        async with self._pool.connection() as conn:

            async def once() -> T:
                async with conn.transaction():
                    return await unit(conn)

            return await retrying(once)

    async def _put(self, conn: TrioConnection, new: NewDevice, *, allocate: bool) -> Registered:
        pool, own_key = self._settings.wg_tunnel_pool, self.tunnels.own_key or self._settings.wg_vps_public_key
        try:
            return await devices.put(
                conn,
                new,
                self._sealer,
                dry_run=self.dry_run,
                pool=pool,
                allocate=allocate,
                own_key=own_key,
                dialled={node.id: node.host for node in self._settings.mikrotik_nodes},
            )
        except Misfit as error:
            raise refused(error.errors or [FieldFault("", error.detail)]) from None

    async def _put_router(self, conn: TrioConnection, wanted: Registration, *, allocate: bool) -> Registered:
        name = wanted.device.id
        assert name is not None
        known = await devices.some(conn, [name], dry_run=self.dry_run)
        if allocate and known and ":" in (known[0].tunnel_ip or ""):
            raise refused([FieldFault("/deviceId", "has an IPv6 tunnel IP, which a router's script knows nothing of")])
        # The pool gives no address where another router is dialled.
        if tunnel_ip := wanted.device.tunnel_ip or (known[0].tunnel_ip if known else None):
            await routers.check_alone(conn, name, tunnel_ip, self._settings.mikrotik_nodes, dry_run=self.dry_run)
        notes = {**(known[0].meta if known else {}), **wanted.notes}
        new = evolve(wanted.device, meta=notes, login=asked.login(wanted.access))
        registered = await self._put(conn, new, allocate=allocate)
        device = registered.device
        assert device.tunnel_ip is not None
        if registered.outcome is Outcome.ROTATING:  # router and binding follow once the new key has proven itself
            return registered
        router = asked.router(name, wanted.access, device.tunnel_ip)
        await routers.keep(conn, router, self._sealer, dry_run=self.dry_run)
        await bindings.bind(
            conn,
            public_key=device.public_key,
            device_id=name,
            mikrotik_ip=device.tunnel_ip,
            dry_run=self.dry_run,
        )
        return registered

    async def _remove_device(self, conn: TrioConnection, device_id: str) -> Removed | None:
        return await self._remove_router_of(conn, await devices.remove(conn, device_id, dry_run=self.dry_run))

    async def _remove_router_of(self, conn: TrioConnection, device: Device) -> Removed | None:
        """Whoever gets the address next would be sent its password. A router that is dialled elsewhere isn't this device's."""
        if device.tunnel_ip is None:
            return None
        with suppress(RouterNotFound):
            return await self._remove_row(conn, device.id, host=device.tunnel_ip)
        return None

    async def _remove_row(self, conn: TrioConnection, router_id: str, *, host: str | None = None) -> Removed:
        is_known_besides = any(node.id == router_id for node in self._settings.mikrotik_nodes)
        return await removing.remove(
            conn, router_id, is_known_besides=is_known_besides, host=host, dry_run=self.dry_run
        )

    async def _remove_router(self, conn: TrioConnection, router_id: str) -> tuple[Removed, bool]:
        """And whether there was a device. It goes first, as in registering: both lock a device's row before a router's."""
        has_device = bool(await devices.some(conn, [router_id], dry_run=self.dry_run))
        if has_device:
            self.check_on()
            with suppress(DeviceNotFound):  # somebody else was faster
                await devices.remove(conn, router_id, dry_run=self.dry_run)
        try:
            removed = await self._remove_row(conn, router_id)
        except RouterNotFound:
            if not has_device:
                raise
            removed = Removed(0, 0)
        await bindings.unbind_device(conn, router_id, dry_run=self.dry_run)
        return removed, has_device

    async def _remove_key(self, conn: TrioConnection, public_key: str) -> tuple[Device | None, bool, Removed | None]:
        await take_turn(conn, dry_run=self.dry_run)
        device = await devices.find_key(conn, public_key, dry_run=self.dry_run)
        was_known = await devices.remove_key(conn, public_key, dry_run=self.dry_run)
        # By what is left: a rotation may have ended meanwhile, and made the next key the present one.
        if device is None or await devices.some(conn, [device.id], dry_run=self.dry_run):
            return device, was_known, None
        return device, was_known, await self._remove_router_of(conn, device)
