"""Registering and removing: the registry first, in one transaction, then a wait until the interface was seen to follow.

What is stored stays stored, whatever comes of the wait: the interface follows when it can.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
import time
from typing import TypeVar

from attrs import evolve, field, frozen

from opendesk.errors import FieldFault, Misfit
from opendesk.network import removing
from opendesk.network.removing import Removed
from opendesk.network.routers import registry
from opendesk.network.routers.errors import CannotOpen, RouterNotFound
from opendesk.network.routers.registry import NewRouter, StoredRouter
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.network.tunnels.api import asked
from opendesk.network.tunnels.api.answers import PeerShown, peer_shown
from opendesk.network.tunnels.api.asked import Registration
from opendesk.network.tunnels.api.auditing import AWAY_RETRY_S
from opendesk.network.tunnels.errors import DeviceNotFound, WireguardUnavailable
from opendesk.network.tunnels.keeping.reconcile import Tunnels
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.bindings import Binding
from opendesk.network.tunnels.registry.device import Device, NewDevice, Registered
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

    async def remove_device(self, device_id: str) -> Device:
        """Raise DeviceNotFound."""
        self.check_on()
        device = await self._committed(partial(devices.remove, device_id=device_id, dry_run=self.dry_run))
        await self.settle(device_id)
        return device

    async def remove_router(self, router_id: str) -> Removed:
        """With its device and binding. Raise RouterNotFound if there is neither."""
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

    async def remove_peer(self, public_key: str) -> bool:
        """Whether anything was known of it. It goes from the interface in any case."""
        self.check_on()
        device, was_known = await self._committed(partial(self._remove_key, public_key=public_key))
        await self.settle(*(() if device is None else (device.id,)))
        return was_known

    async def settle(self, *device_ids: str) -> None:
        """Until the interface was seen to be as the registry has it. Raise WireguardUnavailable."""
        try:
            await self.tunnels.settle(device_ids)
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
                conn, new, self._sealer, dry_run=self.dry_run, pool=pool, allocate=allocate, own_key=own_key
            )
        except Misfit as error:
            raise refused(error.errors or [FieldFault("", error.detail)]) from None

    async def _put_router(self, conn: TrioConnection, wanted: Registration, *, allocate: bool) -> Registered:
        name = wanted.device.id
        assert name is not None
        known = await devices.some(conn, [name], dry_run=self.dry_run)
        if allocate and known and ":" in (known[0].tunnel_ip or ""):
            raise refused([FieldFault("/deviceId", "has an IPv6 tunnel IP, which a router's script knows nothing of")])
        notes = {**(known[0].meta if known else {}), **wanted.notes}
        registered = await self._put(conn, evolve(wanted.device, meta=notes), allocate=allocate)
        device = registered.device
        assert device.tunnel_ip is not None
        await self._keep_router(conn, asked.router(name, wanted.access, device.tunnel_ip))
        # While a rotation runs, what is bound stays bound: it follows the new key once that has proven itself.
        await bindings.bind(
            conn,
            public_key=device.public_key,
            device_id=name,
            mikrotik_ip=device.tunnel_ip,
            dry_run=self.dry_run,
        )
        return registered

    async def _keep_router(self, conn: TrioConnection, new: NewRouter) -> None:
        """What a call can't say stays as an operator set it. The same again is no news to whoever drives the router."""
        old = await registry.get(conn, new.id, dry_run=self.dry_run)
        if old is not None:
            new = evolve(new, tls=old.tls, tls_sha256=old.tls_sha256, timeout_ms=old.timeout_ms)
        if old is None or not self._is_same(old, new):
            await registry.put(conn, new, self._sealer, dry_run=self.dry_run)

    def _is_same(self, old: StoredRouter, new: NewRouter) -> bool:
        if (old.host, old.port, old.username) != (new.host, new.port, new.user) or old.password_sealed is None:
            return False
        try:
            return self._sealer.open(old.password_sealed, about=password_of(old.id)) == new.password
        except CannotOpen:  # what nobody can read any more is replaced
            return False

    async def _remove_router(self, conn: TrioConnection, router_id: str) -> tuple[Removed, bool]:
        """And whether there was a device. It goes first, as in registering: both lock a device's row before a router's."""
        has_device = bool(await devices.some(conn, [router_id], dry_run=self.dry_run))
        if has_device:
            self.check_on()
            with suppress(DeviceNotFound):  # somebody else was faster
                await devices.remove(conn, router_id, dry_run=self.dry_run)
        is_known_besides = any(node.id == router_id for node in self._settings.mikrotik_nodes)
        try:
            removed = await removing.remove(conn, router_id, is_known_besides=is_known_besides, dry_run=self.dry_run)
        except RouterNotFound:
            if not has_device:
                raise
            removed = Removed(0, 0)
        return removed, has_device

    async def _remove_key(self, conn: TrioConnection, public_key: str) -> tuple[Device | None, bool]:
        device = await devices.find_key(conn, public_key, dry_run=self.dry_run)
        return device, await devices.remove_key(conn, public_key, dry_run=self.dry_run)
