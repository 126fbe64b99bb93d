"""The calls that give out scripts: what a person pastes into a router's console. No private key ever passes."""

from attrs import evolve, frozen

from opendesk.network.setup import script
from opendesk.network.tunnels import errors
from opendesk.network.tunnels.api import asked, auditing
from opendesk.network.tunnels.api.answers import Bootstrapped, KeyNeeded, ManagerRegistered
from opendesk.network.tunnels.api.auditing import audited
from opendesk.network.tunnels.api.devices_api import REFUSALS, STATUS
from opendesk.network.tunnels.api.registering import Registering
from opendesk.network.tunnels.api.requests import Bootstrap, ManagerRegister
from opendesk.network.tunnels.api.vps import vps_of
from opendesk.network.tunnels.registry.device import Outcome, Registered
from opendesk.ops.audit import Audit
from opendesk.settings import Settings
from opendesk.web.endpoint import Access, Answer, Call, Endpoint

_OK = 200


@frozen
class Scripts:
    """The handlers. Where routers dial has to be known before anything is stored."""

    _registering: Registering
    _audit: Audit
    _settings: Settings

    @property
    def _dry_run(self) -> bool:
        return self._settings.relay_dry_run

    async def register_by_manager(self, call: Call) -> Answer:
        """A router with a tunnel IP from the pool, once and for all, and the script for its console."""
        body: ManagerRegister = call.body
        wanted = asked.managed(body)
        facts = {"device": body.device_id, "publicKey": body.wireguard.peer_public_key}
        with audited(self._audit, auditing.MANAGER_REGISTER, call.request.request_id, **facts) as told:
            vps = vps_of(self._settings, self._registering.tunnels.own_key)
            registered = await self._registering.router(wanted, allocate=True)
            told.update(auditing.became(registered))
        device = registered.device
        assert device.tunnel_ip is not None
        api_port = body.mikrotik.api_port or self._settings.mikrotik_port or script.API_PORT
        end = evolve(vps.router_end(device.id, device.tunnel_ip), api_port=api_port)
        answer = ManagerRegistered(
            success=True,
            mikrotik_script="\n".join(script.commands(end)),
            created_peer=_made_peer(registered),
            tunnel_ip=device.tunnel_ip,
            rotation=registered.outcome is Outcome.ROTATING,
            dry_run=self._dry_run,
        )
        return Answer(answer, STATUS.get(registered.outcome, _OK))

    async def bootstrap(self, call: Call) -> Answer:
        """First without a key, for lines that make one; then with it, for the peer here and the lines for there."""
        body: Bootstrap = call.body
        wanted = asked.bootstrapping(body)
        facts = {"device": body.device_id, "publicKey": body.device_public_key, "tunnelIp": wanted.tunnel_ip}
        with audited(self._audit, auditing.BOOTSTRAP, call.request.request_id, **facts) as told:
            vps = vps_of(self._settings, self._registering.tunnels.own_key)
            end = vps.router_end(body.device_id, wanted.tunnel_ip)
            end = evolve(end, api_port=self._settings.mikrotik_port or script.API_PORT)
            if wanted.device is None:
                lines = script.key_lines(end)
                return Answer(KeyNeeded(ok=True, need_public_key=True, instructions=lines, dry_run=self._dry_run))
            registered = await self._registering.device(wanted.device)
            told.update(auditing.became(registered))
        answer = Bootstrapped(
            ok=True,
            created_peer=_made_peer(registered),
            commands=script.commands(end),
            rotation=registered.outcome is Outcome.ROTATING,
            dry_run=self._dry_run,
        )
        return Answer(answer, STATUS.get(registered.outcome, _OK))


def _made_peer(registered: Registered) -> bool:
    """Also where it waits beside the old one."""
    return registered.outcome in {Outcome.MADE, Outcome.ROTATING}


def endpoints(api: Scripts) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            "POST",
            "/relay/manager/register",
            "Register a router, and get its script",
            dict.fromkeys((200, 201, 202), ManagerRegistered),
            handler=api.register_by_manager,
            body=ManagerRegister,
            access=Access.RELAY,
            tag="tunnels",
            errors=(errors.VpsConfigMissing, errors.PoolExhausted, *REFUSALS),
        ),
        Endpoint(
            "POST",
            "/mikrotik/bootstrap",
            "Get a router's script, step by step",
            {200: KeyNeeded | Bootstrapped, 201: Bootstrapped, 202: Bootstrapped},
            handler=api.bootstrap,
            body=Bootstrap,
            access=Access.RELAY,
            tag="tunnels",
            errors=(errors.VpsConfigMissing, *REFUSALS),
        ),
    )
