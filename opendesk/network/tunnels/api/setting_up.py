"""Setting routers up through their tunnels: looks at them, and changes of theirs, one at a time for each router."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from attrs import evolve, field, frozen
import trio

from opendesk.errors import FieldFault, Overloaded
from opendesk.network.routeros.transport import Target
from opendesk.network.routers import registry
from opendesk.network.routers.errors import RouterNotFound, RouterUnavailable
from opendesk.network.routers.link import Api, Connect, target_of
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.setup.apply import Applied, apply, pretended
from opendesk.network.setup.probe import Probed, probe
from opendesk.network.setup.proving import PROVE_S
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.user import TechnicalUser
from opendesk.network.tunnels.api.applying_once import alone
from opendesk.network.tunnels.api.requests import TechnicalUserAsked
from opendesk.network.tunnels.registry import bindings
from opendesk.network.tunnels.registry.bindings import Binding
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.settings.routers import API_PORT
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
    _pool: Pool
    _connect_database: Callable[[], Awaitable[TrioConnection]]
    _settings: Settings
    _connect: Connect
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
        limit_s: float = APPLY_S,
    ) -> Applied:
        """Raise RouterNotFound, RouterUnavailable, ApplyInProgress, or what the setup refuses.

        A change that is cut off is taken back by the router itself, unless all of it was done.
        """
        async with self._pool.connection() as conn:
            spec = await registry.find(conn, self._settings, router_id)
        if self.dry_run:
            return pretended(config, self._technical(spec, user))
        with trio.move_on_after(limit_s):
            return await self._apply_alone(spec, config, user, only_plan=only_plan)
        raise RouterUnavailable(f"router {router_id} did not take its configuration within {limit_s:g} s")

    async def binding(self, public_key: str) -> Binding:
        """Raise BindingNotFound."""
        async with self._pool.connection() as conn:
            return await bindings.find(conn, public_key, dry_run=self.dry_run)

    async def probe(self, host: str, user: str, password: Secret[str]) -> Probed:
        """Raise ProbeFailed. In a dry run nobody is asked, and nothing is told."""
        if self.dry_run:
            return Probed(None, None, None)
        timeout_s = self._settings.relay_mikrotik_probe_timeout_ms / 1000
        port = self._settings.mikrotik_port or API_PORT
        target = Target(
            host=host, port=port, user=user, password=password, tls=False, tls_sha256=None, timeout_s=timeout_s
        )
        return await probe(partial(self._connect, target), password=password)

    async def _apply_alone(
        self, spec: RouterSpec, config: Tunnel, user: tuple[str, Secret[str]] | None, *, only_plan: bool
    ) -> Applied:
        if spec.fault is not None:
            raise RouterUnavailable(f"router {spec.id}: {spec.fault}")
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            raise Overloaded("too many routers are being set up", retry_after_s=_CROWD_RETRY_S) from None
        try:
            async with alone(self._connect_database, spec.id):
                technical = self._technical(spec, user)
                return await apply(self._dial(spec), config=config, user=technical, dry_run=only_plan)
        finally:
            self._turns.release()

    def _technical(self, spec: RouterSpec, user: tuple[str, Secret[str]] | None) -> TechnicalUser | None:
        if user is None:
            return None
        name, password = user
        log_in = partial(self._connect, evolve(target_of(spec), user=name, password=password))
        return TechnicalUser(password=password, log_in=log_in, name=name)

    def _dial(self, spec: RouterSpec) -> Callable[[], AbstractAsyncContextManager[Api]]:
        return partial(self._connect, target_of(spec))
