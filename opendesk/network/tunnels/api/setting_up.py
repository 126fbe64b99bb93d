"""Setting routers up through their tunnels: looks at them, and changes of theirs, one at a time for each router."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Final

from attrs import evolve, field, frozen
import trio

from opendesk.errors import FieldFault, Overloaded
from opendesk.network.routers import registry
from opendesk.network.routers.errors import RouterNotFound, RouterUnavailable
from opendesk.network.routers.link import Api, Connect, target_of
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.setup.apply import Applied, apply, pretended
from opendesk.network.setup.probe import Probed, probe
from opendesk.network.setup.proving import PROVE_S, Forget
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.user import TechnicalUser
from opendesk.network.tunnels.api.applying_once import alone
from opendesk.network.tunnels.api.requests import TechnicalUserAsked
from opendesk.network.tunnels.api.vps import host_and_port
from opendesk.network.tunnels.api.whence import source_of
from opendesk.network.tunnels.errors import TunnelIpTaken
from opendesk.network.tunnels.registry import bindings, devices, routers, stored
from opendesk.network.tunnels.registry.bindings import Binding
from opendesk.network.tunnels.registry.device import covers
from opendesk.network.tunnels.registry.pool import own_address
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.settings.routers import RouterNode
from opendesk.settings.secret import Secret
from opendesk.web.reading import refused

# Each holds a connection to the database of its own, and some to routers, for minutes at worst.
AT_ONCE: Final = 8
_CROWD_RETRY_S: Final = 5
# What a change takes besides the proof that the tunnel is alive after it: some dozen commands over a slow line.
COMMANDS_S: Final = 60.0
APPLY_S: Final = PROVE_S + COMMANDS_S


@frozen
class SettingUp:
    """`forget` is Tunnels.forget_endpoint."""

    _pool: Pool
    _connect_database: Callable[[], Awaitable[TrioConnection]]
    _settings: Settings
    _connect: Connect
    _forget: Callable[[str], Awaitable[None]]
    _turns: trio.Semaphore = field(init=False, factory=partial(trio.Semaphore, AT_ONCE))

    @property
    def dry_run(self) -> bool:
        return self._settings.relay_dry_run

    def user(self, asked: TechnicalUserAsked | None) -> tuple[str, Secret[str]] | None:
        """Name and password. Raise ValidationFailed without a password."""
        if asked is None:
            return None
        name, password = asked.username or self._settings.relay_tech_user, self._settings.relay_tech_pass
        if asked.password is not None:
            password = Secret(asked.password)
        if password is None:
            fault = FieldFault("/technicalUser/password", "is missing, and RELAY_TECH_PASS is not set")
            raise refused([fault])
        return name, password

    async def knows(self, router_id: str) -> bool:
        async with self._pool.connection() as conn:
            try:
                await registry.find(conn, self._settings, router_id)
            except RouterNotFound:
                return False
        return True

    async def apply(
        self,
        router_id: str,
        config: Tunnel,
        user: tuple[str, Secret[str]] | None = None,
        *,
        only_plan: bool = False,
    ) -> Applied:
        """Raise RouterNotFound, TunnelIpTaken, RouterUnavailable, ApplyInProgress, or what the setup refuses.

        A change that is cut off is taken back by the router itself, unless all of it was done.
        """
        async with self._pool.connection() as conn:
            spec = await registry.find(conn, self._settings, router_id)
            await self._check_own(conn, spec, config.ip)
            ways = await self._ways(conn, spec, config)
        if self.dry_run:
            return pretended(config, self._technical(ways, user))
        return await self._apply_alone(ways, config, user, only_plan=only_plan)

    async def binding(self, public_key: str) -> Binding:
        """Raise BindingNotFound."""
        async with self._pool.connection() as conn:
            return await bindings.find(conn, public_key, dry_run=self.dry_run)

    async def probe(self, bound: Binding, user: str, password: Secret[str]) -> Probed:
        """Raise ProbeFailed. In a dry run nobody is asked, and nothing is told."""
        if self.dry_run:
            return Probed(None, None, None)
        timeout_s = self._settings.relay_mikrotik_probe_timeout_ms / 1000
        known = target_of(await self._at(bound))
        target = evolve(known, user=user, password=password, timeout_s=timeout_s)
        return await probe(partial(self._connect, target), password=password)

    async def _at(self, bound: Binding) -> RouterSpec:
        """The router that is registered there, else one of which nothing but its address is known."""
        async with self._pool.connection() as conn:
            with suppress(RouterNotFound):
                known = await registry.find(conn, self._settings, bound.device_id)
                if known.host == bound.mikrotik_ip:
                    return known
            node = RouterNode(bound.device_id, bound.mikrotik_ip, user="", password=Secret(""))
            bare = registry.spec_of_node(node, self._settings)
            (found,) = await registry.through_tunnels(conn, self._settings, [bare])
        return found

    async def _check_own(self, conn: TrioConnection, spec: RouterSpec, ip: str) -> None:
        """Another router there would be taken for this one. Raise TunnelIpTaken."""
        other = await stored.other_at(conn, ip, spec.id, dry_run=self.dry_run)
        if other is not None:
            raise TunnelIpTaken(f"{ip} is the tunnel IP of device {other}", members={"deviceId": other})
        if spec.host != ip:
            nodes = self._settings.mikrotik_nodes
            await routers.check_alone(conn, spec.id, ip, nodes, dry_run=self.dry_run)

    async def _ways(self, conn: TrioConnection, spec: RouterSpec, config: Tunnel) -> "_Ways":
        there = evolve(spec, host=config.ip, is_tunnelled=False, interface=None)
        (there,) = await registry.through_tunnels(conn, self._settings, [there])
        known = await devices.some(conn, [spec.id], dry_run=self.dry_run)
        is_ours = any(covers(device.allowed_ips, config.ip) for device in known)
        can_forget = is_ours and self._settings.wg_interface is not None and not self.dry_run
        return _Ways(spec, there, partial(self._forget, spec.id) if can_forget else None)

    async def _apply_alone(
        self, ways: "_Ways", config: Tunnel, user: tuple[str, Secret[str]] | None, *, only_plan: bool
    ) -> Applied:
        spec = ways.spec
        if spec.fault is not None:
            raise RouterUnavailable(f"router {spec.id}: {spec.fault}")
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            raise Overloaded("too many routers are being set up", retry_after_s=_CROWD_RETRY_S) from None
        try:
            async with alone(self._connect_database, spec.id):
                return await apply(
                    self._dial(spec),
                    config=config,
                    user=self._technical(ways, user),
                    dry_run=only_plan,
                    prove=self._dial(ways.there),
                    forget=ways.forget,
                    own_endpoint=self._own_endpoint(),
                    limit_s=APPLY_S,
                )
        finally:
            self._turns.release()

    def _own_endpoint(self) -> tuple[str, int] | None:
        endpoint = self._settings.wg_vps_endpoint
        return None if endpoint is None else host_and_port(endpoint)

    def _technical(self, ways: "_Ways", user: tuple[str, Secret[str]] | None) -> TechnicalUser | None:
        if user is None:
            return None
        name, password = user
        is_own = name == ways.spec.user
        return TechnicalUser(
            password=password,
            log_in=self._dial(ways.spec, name, password),
            name=name,
            through=self._dial(ways.there, name, password),
            address=None if is_own else self._whence(ways),
            is_own=is_own,
        )

    def _whence(self, ways: "_Ways") -> str | None:
        """From where a router that is driven through its tunnel is called, if it is the address that all of them know."""
        own = own_address(self._settings.wg_tunnel_pool)
        if self.dry_run or ways.spec.host != ways.there.host or source_of(ways.there.host) != own:
            return None
        return f"{own}/32"

    def _dial(
        self, spec: RouterSpec, name: str | None = None, password: Secret[str] | None = None
    ) -> Callable[[], AbstractAsyncContextManager[Api]]:
        target = target_of(spec)
        if name is not None and password is not None:
            target = evolve(target, user=name, password=password)
        return partial(self._connect, target)


@frozen
class _Ways:
    """As the router is known, and as it is at its end of the tunnel. `forget` has the VPS forget where it was heard from."""

    spec: RouterSpec
    there: RouterSpec
    forget: Forget | None
