"""The calls that look at a router through its tunnel, and have it hold its end."""

from attrs import frozen

from opendesk.network.routers.errors import RouterNotFound, RouterUnavailable
from opendesk.network.setup import errors as setup_errors
from opendesk.network.tunnels import errors
from opendesk.network.tunnels.api import auditing
from opendesk.network.tunnels.api.answers import ConfigApplied, DeviceSynced, ProbeAnswer, config_applied
from opendesk.network.tunnels.api.applying_once import ApplyInProgress
from opendesk.network.tunnels.api.auditing import audited
from opendesk.network.tunnels.api.registering import Registering
from opendesk.network.tunnels.api.requests import ApplyConfig, DeviceId, Probe
from opendesk.network.tunnels.api.setting_up import APPLY_S, SettingUp
from opendesk.network.tunnels.api.vps import router_end, vps_of
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.device import Device
from opendesk.ops.audit import Audit
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.settings.secret import Secret
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.paths import Name
from opendesk.web.responder import CALL_S


@frozen
class Setup:
    """The handlers."""

    _pool: Pool
    _registering: Registering
    _setting_up: SettingUp
    _audit: Audit
    _settings: Settings

    @property
    def _dry_run(self) -> bool:
        return self._settings.relay_dry_run

    @property
    def probe_s(self) -> float:
        return self._settings.relay_mikrotik_probe_timeout_ms / 1000

    async def sync_device(self, call: Call) -> Answer:
        """The peer on the interface again; of a router with an IPv4 tunnel IP, its own end as well."""
        name = call.names["id"]
        with audited(self._audit, auditing.DEVICE_SYNC, call.request.request_id, device=name):
            async with self._pool.connection() as conn:
                device = await devices.get(conn, name, dry_run=self._dry_run)
            self._registering.check_on()
            await self._registering.settle(name)
            config = await self._synced(device)
        return Answer(DeviceSynced(ok=True, device_id=name, config=config, dry_run=self._dry_run))

    async def _synced(self, device: Device) -> ConfigApplied | None:
        if device.tunnel_ip is None or ":" in device.tunnel_ip or not await self._setting_up.knows(device.id):
            return None
        vps = vps_of(self._settings, self._registering.tunnels.own_key)
        end = vps.router_end(device.id, device.tunnel_ip)
        return config_applied(device.id, await self._setting_up.apply(device.id, end))

    async def probe_router(self, call: Call) -> Answer:
        """Log in to what is bound to this key, and ask who it is: as the router is dialled that is registered there, if there is one."""
        body: Probe = call.body
        facts = {"publicKey": body.public_key, "username": body.username}
        with audited(self._audit, auditing.ROUTER_PROBE, call.request.request_id, **facts):
            bound = await self._setting_up.binding(body.public_key)
            found = await self._setting_up.probe(bound, body.username, Secret(body.password))
        return Answer(
            ProbeAnswer(
                ok=True,
                device_id=bound.device_id,
                identity=found.identity,
                version=found.version,
                board=found.board,
                dry_run=self._dry_run,
            )
        )

    async def apply_config(self, call: Call) -> Answer:
        """With `dryRun` the router is looked at, and nothing of the plan is done. Before a step that may cut the tunnel, the router is told how to
        take it back by itself, which it does unless the tunnel is seen alive after it.
        """
        body: ApplyConfig = call.body
        end = router_end(body.config, self._settings, body.mik_id, self._registering.tunnels.own_key)
        user = self._setting_up.user(body.technical_user)
        facts = {"router": body.mik_id, "technicalUser": None if user is None else user[0], "dryRun": body.dry_run}
        with audited(self._audit, auditing.ROUTER_APPLY, call.request.request_id, **facts):
            applied = await self._setting_up.apply(body.mik_id, end, user, only_plan=body.dry_run)
        return Answer(config_applied(body.mik_id, applied))


_ON_THE_ROUTER = (
    errors.TunnelIpTaken,
    RouterUnavailable,
    ApplyInProgress,
    setup_errors.RouterRefused,
    setup_errors.RowInTheWay,
    setup_errors.NotHeld,
    setup_errors.UndoPending,
    setup_errors.EndpointUnproven,
    setup_errors.TunnelLost,
)
_OF_A_PROBE = (
    errors.BindingNotFound,
    setup_errors.ProbeFailed,
    setup_errors.ProbeUnreachable,
    setup_errors.ProbeAuthFailed,
    setup_errors.ProbeTimeout,
)
_OF_A_PEER = (errors.DeviceNotFound, errors.TunnelsOff, errors.WireguardUnavailable, errors.VpsConfigMissing)


def endpoints(api: Setup) -> tuple[Endpoint, ...]:
    # Of the database before and after the wait for the router, as all other calls.
    patience_s = APPLY_S + CALL_S
    return (
        Endpoint(
            "POST",
            "/devices/{id}/sync",
            "Put a device's peer right, and its router",
            {200: DeviceSynced},
            handler=api.sync_device,
            access=Access.RELAY,
            tag="tunnels",
            names={"id": Name(DeviceId)},
            limit_s=patience_s,
            errors=(*_OF_A_PEER, *_ON_THE_ROUTER, RouterNotFound),
        ),
        Endpoint(
            "POST",
            "/internal/mikrotik/probe",
            "Ask a router who it is",
            {200: ProbeAnswer},
            handler=api.probe_router,
            body=Probe,
            access=Access.INTERNAL,
            tag="tunnels",
            limit_s=api.probe_s + CALL_S,
            errors=_OF_A_PROBE,
        ),
        Endpoint(
            "POST",
            "/internal/mikrotik/apply",
            "Have a router hold its end of the tunnel",
            {200: ConfigApplied},
            handler=api.apply_config,
            body=ApplyConfig,
            access=Access.INTERNAL,
            tag="tunnels",
            limit_s=patience_s,
            errors=(RouterNotFound, errors.VpsConfigMissing, *_ON_THE_ROUTER, setup_errors.OwnUser),
        ),
    )
