"""Hosts and their heartbeats."""

from uuid import UUID

from attrs import frozen

from opendesk import errors as base
from opendesk.errors import Forbidden, Unauthenticated
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import errors, hosts, pcs
from opendesk.rental.api.context import Rental
from opendesk.rental.heartbeats import Beat, BeatAnswer
from opendesk.rental.hosts import Host
from opendesk.rental.pcs import Pc
from opendesk.rental.shapes import PcStatus
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page


@frozen
class HostAnswer:
    host_profile: Host


@frozen
class Heartbeat:
    """What a host says of itself. `timestamp`, `intervalMs`, `seq` and `sentAtMs` are taken and not used: the database tells the time."""

    status: PcStatus | None = None
    pc_id: UUID | None = None
    timestamp: str | float | None = None
    interval_ms: float | None = None
    seq: float | None = None
    sent_at_ms: float | None = None


@frozen
class Hosts:
    """The handlers."""

    _on: Rental

    async def become_host(self, call: Call, conn: TrioConnection) -> Answer:
        """201 the first time, 200 with the same profile afterwards."""
        made = await hosts.add(conn, call.caller.id)
        profile = await hosts.by_user(conn, call.caller.id)
        return Answer(HostAnswer(_found(profile)), 201 if made else 200)

    async def list_hosts(self, call: Call, conn: TrioConnection) -> Answer:
        query: PageQuery = call.query
        return Answer(page(await hosts.list_all(conn, before=query.before, wanted=query.wanted), query))

    async def get_host(self, call: Call, conn: TrioConnection) -> Answer:
        return Answer(HostAnswer(_found(await hosts.by_id(conn, call.ids["id"]))))

    async def host_pcs(self, call: Call, conn: TrioConnection) -> Answer:
        host, query = call.ids["id"], call.query
        _found(await hosts.by_id(conn, host))
        found = await pcs.list_some(conn, before=query.before, wanted=query.wanted, host_id=host)
        return Answer(page([pc.public for pc in found], query))

    async def heartbeat(self, call: Call) -> Answer:
        """Every 10 s or so. With `pcId` for that PC alone, without for all of the host's. `OFFLINE` takes a PC off until it is said to be `ONLINE`."""
        said: Heartbeat = call.body
        if call.claims is None:
            raise Unauthenticated
        return Answer(await self._on.heartbeats.beat(Beat(call.claims, call.ids["id"], said.pc_id, said.status)))


def _found(host: Host | None) -> Host:
    if host is None:
        raise errors.HostNotFound
    return host


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    api = Hosts(on)
    e, anyone = Endpoint, Access.ANYONE
    # fmt: off
    return (
        e("POST", "/hosts", "Become a host", {201: HostAnswer, 200: HostAnswer}, unit=api.become_host, tag="hosts"),
        e("GET", "/hosts", "List hosts", {200: Page[Host]}, unit=api.list_hosts, access=anyone, query=PageQuery, tag="hosts"),
        e("GET", "/hosts/{id}", "A host", {200: HostAnswer}, unit=api.get_host, access=anyone, tag="hosts", errors=(errors.HostNotFound,)),
        e("GET", "/hosts/{id}/pcs", "A host's PCs", {200: Page[Pc]}, unit=api.host_pcs, access=anyone, query=PageQuery, tag="hosts",
          errors=(errors.HostNotFound,)),
        e("POST", "/hosts/{id}/heartbeat", "Say that a host and its PCs are alive", {200: BeatAnswer}, handler=api.heartbeat,
          body=Heartbeat, body_optional=True, hot=True, tag="hosts",
          errors=(errors.HostNotFound, errors.PcNotFound, Forbidden, base.Overloaded)),
    )
    # fmt: on
