"""The calls of backends that register devices and routers behind tunnels."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from attrs import frozen
from msgspec import Meta

from opendesk.network.routers.errors import RouterNotFound, SealingUnavailable
from opendesk.network.routers.fleet import Fleet
from opendesk.network.tunnels import errors
from opendesk.network.tunnels.api import asked, auditing
from opendesk.network.tunnels.api.answers import (
    DeviceDone,
    DeviceRotating,
    DevicesPage,
    DeviceStatus,
    RouterRemoved,
    device_shown,
)
from opendesk.network.tunnels.api.auditing import audited
from opendesk.network.tunnels.api.registering import Registering
from opendesk.network.tunnels.api.requests import DeviceId, PutDevice, RegisterRouter, RouterId
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.device import Outcome, Registered
from opendesk.ops.audit import Audit
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Limit
from opendesk.web.paths import Name

STATUS: Final = {Outcome.MADE: HTTPStatus.CREATED, Outcome.ROTATING: HTTPStatus.ACCEPTED}

# Where a page ends, in hexadecimal: a number of the database's own.
_CURSOR: Final = r"^[0-9a-f]{1,15}$"

# What registering may refuse.
REFUSALS: Final = (
    SealingUnavailable,
    errors.AllowedIpsTaken,
    errors.TunnelIpTaken,
    errors.PublicKeyTaken,
    errors.RotationChangesMore,
    errors.TooManyDevices,
    errors.TunnelsOff,
    errors.WireguardUnavailable,
)


@frozen
class DevicesQuery:
    limit: Limit = 20
    cursor: Annotated[str, Meta(pattern=_CURSOR, title="a cursor of this API")] | None = None

    @property
    def before(self) -> int | None:
        """Devices with a smaller number are on this page."""
        return None if self.cursor is None else int(self.cursor, 16)


@frozen
class Devices:
    """The handlers."""

    _pool: Pool
    _registering: Registering
    _fleet: Fleet
    _audit: Audit
    _settings: Settings

    @property
    def _dry_run(self) -> bool:
        return self._settings.relay_dry_run

    async def put_device(self, call: Call) -> Answer:
        """The same again changes nothing. A known `deviceId` with another key begins a rotation (202): the new key takes over once it has proven itself."""
        body: PutDevice = call.body
        new = asked.device(body)
        facts = {"device": new.id, "publicKey": new.public_key}
        with audited(self._audit, auditing.DEVICE_PUT, call.request.request_id, **facts) as told:
            registered = await self._registering.device(new)
            told.update(auditing.became(registered))
        return self._done(registered)

    async def list_devices(self, call: Call, conn: TrioConnection) -> Answer:
        query: DevicesQuery = call.query
        found = await devices.page(conn, query.before, query.limit + 1, dry_run=self._dry_run)
        on_page = found[: query.limit]
        cursor = f"{on_page[-1].seq:x}" if len(found) > len(on_page) else None
        items = tuple(map(device_shown, on_page))
        return Answer(DevicesPage(items=items, next_cursor=cursor, dry_run=self._dry_run))

    async def remove_device(self, call: Call) -> Answer:
        """Its peer goes, whatever RELAY_RECONCILE_REMOVE says, and so does the router that is dialled at its tunnel IP, with what waits for it."""
        name = call.names["id"]
        with audited(self._audit, auditing.DEVICE_REMOVE, call.request.request_id, device=name) as told:
            told.update(auditing.went(await self._registering.remove_device(name)))
        return Answer(DeviceDone(ok=True, device_id=name, dry_run=self._dry_run))

    async def device_status(self, call: Call) -> Answer:
        async with self._pool.connection() as conn:
            device = await devices.get(conn, call.names["id"], dry_run=self._dry_run)
            mik_status = await self._fleet.mik_status(conn, device.id)
        seen = await self._registering.seen()
        peer = None if seen is None else seen.peers.get(device.public_key)
        return Answer(
            DeviceStatus(
                ok=True,
                device=device_shown(device),
                has_peer=None if seen is None else peer is not None,
                peer=None if peer is None else self._registering.shown(peer, device.id),
                mik_status=mik_status,
                dry_run=self._dry_run,
            )
        )

    async def register_router(self, call: Call) -> Answer:
        """A device that is a router: it is driven through its tunnel."""
        body: RegisterRouter = call.body
        wanted = asked.registration(body)
        facts = {"device": body.device_id, "publicKey": body.mikrotik_public_key, "tunnelIp": body.tunnel_ip}
        with audited(self._audit, auditing.ROUTER_REGISTER, call.request.request_id, **facts) as told:
            registered = await self._registering.router(wanted)
            told.update(auditing.became(registered))
        return self._done(registered)

    async def register_router_as_before(self, call: Call) -> Answer:
        """The same, where the system before had it."""
        return await self.register_router(call)

    async def remove_router(self, call: Call) -> Answer:
        """With its device, peer and bindings. Jobs that wait for it are dead letters, and what it was told stays on it."""
        name = call.names["id"]
        with audited(self._audit, auditing.ROUTER_REMOVE, call.request.request_id, device=name) as told:
            removed = await self._registering.remove_router(name)
            told.update(auditing.went(removed))
        return Answer(RouterRemoved(ok=True, jobs=removed.jobs, grants=removed.grants, dry_run=self._dry_run))

    async def remove_router_as_before(self, call: Call) -> Answer:
        """The same, where the system before had it."""
        return await self.remove_router(call)

    def _done(self, registered: Registered) -> Answer:
        name, status = registered.device.id, STATUS.get(registered.outcome, HTTPStatus.OK)
        if registered.outcome is Outcome.ROTATING:
            return Answer(DeviceRotating(ok=True, device_id=name, rotation=True, dry_run=self._dry_run), status)
        return Answer(DeviceDone(ok=True, device_id=name, dry_run=self._dry_run), status)


def endpoints(api: Devices) -> tuple[Endpoint, ...]:
    put = {200: DeviceDone, 201: DeviceDone, 202: DeviceRotating}
    removal = (errors.TunnelsOff, errors.WireguardUnavailable)
    by_id: dict[str, Any] = {"names": {"id": Name(DeviceId)}}

    def e(method: str, path: str, summary: str, answers: Any, **given: Any) -> Endpoint:
        return Endpoint(method, path, summary, answers, access=Access.RELAY, tag="tunnels", **given)

    def register(path: str, handler: Any) -> Endpoint:
        summary = "Register a router behind a tunnel"
        return e("POST", path, summary, put, handler=handler, body=RegisterRouter, errors=REFUSALS)

    def unregister(path: str, handler: Any) -> Endpoint:
        summary, refusals = "Remove a router, its peer and its binding", (RouterNotFound, *removal)
        return e(
            "DELETE",
            path,
            summary,
            {200: RouterRemoved},
            handler=handler,
            errors=refusals,
            names={"id": Name(RouterId)},
        )

    # fmt: off
    return (
        e("POST", "/devices", "Register a device behind a tunnel, or change it", put, handler=api.put_device, body=PutDevice, errors=REFUSALS),
        e("GET", "/devices", "Devices behind tunnels", {200: DevicesPage}, unit=api.list_devices, query=DevicesQuery),
        e("DELETE", "/devices/{id}", "Remove a device", {200: DeviceDone}, handler=api.remove_device,
          errors=(errors.DeviceNotFound, *removal), **by_id),
        e("GET", "/devices/{id}/status", "A device, its peer and its router", {200: DeviceStatus}, handler=api.device_status,
          errors=(errors.DeviceNotFound,), **by_id),
        register("/relay/routers/register", api.register_router),
        register("/relay/routers/routers/register", api.register_router_as_before),
        unregister("/relay/routers/{id}", api.remove_router),
        unregister("/relay/routers/routers/{id}", api.remove_router_as_before),
    )
    # fmt: on
