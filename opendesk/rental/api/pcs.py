"""PCs: offered, changed, found."""

from uuid import UUID

from attrs import frozen

from opendesk.errors import Forbidden
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import errors, pcs
from opendesk.rental.api.context import Rental
from opendesk.rental.pcs import OwnPc, Pc, PcNetwork, PcOffer
from opendesk.rental.shapes import PcStatus, Text
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page


@frozen
class PcAnswer:
    pc: Pc


@frozen
class OwnPcAnswer:
    pc: OwnPc


@frozen
class PcFilter(PageQuery):
    status: PcStatus | None = None
    category: Text | None = None
    host_id: UUID | None = None


@frozen
class Pcs:
    """The handlers."""

    _on: Rental

    async def list_pcs(self, call: Call, conn: TrioConnection) -> Answer:
        query: PcFilter = call.query
        found = await pcs.list_some(
            conn,
            before=query.before,
            wanted=query.wanted,
            host_id=query.host_id,
            status=query.status,
            category=query.category,
        )
        return Answer(page([pc.public for pc in found], query))

    async def get_pc(self, call: Call, conn: TrioConnection) -> Answer:
        return Answer(PcAnswer((await pcs.by_id(conn, call.ids["id"])).public))

    async def add_pc(self, call: Call, conn: TrioConnection) -> Answer:
        """A `localPcId` that the host has already gives the existing PC, unchanged, with 200. It is OFFLINE until a heartbeat."""
        if call.caller.host_id is None:
            raise Forbidden("only a host has PCs: POST /hosts first")
        pc, made = await pcs.add(conn, call.caller.host_id, call.body, currency=self._on.terms.currency)
        return Answer(OwnPcAnswer(pc), 201 if made else 200)

    async def change_pc(self, call: Call, conn: TrioConnection) -> Answer:
        """All of it: what is left out is back to its default, save `localPcId`, `connectionHost` and `connectionPort`, which stay. Sessions keep the price that they were made at."""
        await self._own_pc(call, conn)
        await pcs.change(conn, call.ids["id"], call.body)
        return Answer(OwnPcAnswer(await pcs.by_id(conn, call.ids["id"])))

    async def set_network(self, call: Call, conn: TrioConnection) -> Answer:
        """Addresses are shown to the host only, and to the client of a live session."""
        await self._own_pc(call, conn)
        await pcs.set_network(conn, call.ids["id"], call.body)
        return Answer(OwnPcAnswer(await pcs.by_id(conn, call.ids["id"])))

    async def delete_pc(self, call: Call, conn: TrioConnection) -> Answer:
        """Its past sessions stay."""
        await self._own_pc(call, conn)
        await pcs.delete(conn, call.ids["id"])
        return Answer(status=204)

    async def _own_pc(self, call: Call, conn: TrioConnection) -> OwnPc:
        return pcs.owned(await pcs.by_id(conn, call.ids["id"]), call.caller.host_id, admin=call.caller.is_admin)


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    api = Pcs(on)
    e, anyone = Endpoint, Access.ANYONE
    # fmt: off
    return (
        e("GET", "/pcs", "List PCs", {200: Page[Pc]}, unit=api.list_pcs, access=anyone, query=PcFilter, tag="pcs"),
        e("GET", "/pcs/{id}", "A PC", {200: PcAnswer}, unit=api.get_pc, access=anyone, tag="pcs", errors=(errors.PcNotFound,)),
        e("POST", "/pcs", "Offer a PC", {201: OwnPcAnswer, 200: OwnPcAnswer}, unit=api.add_pc, body=PcOffer, tag="pcs",
          errors=(Forbidden, errors.LocalPcIdTaken, errors.TooManyPcs)),
        e("PUT", "/pcs/{id}", "Change a PC", {200: OwnPcAnswer}, unit=api.change_pc, body=PcOffer, tag="pcs",
          errors=(Forbidden, errors.PcNotFound, errors.LocalPcIdTaken)),
        e("DELETE", "/pcs/{id}", "Withdraw a PC", {204: None}, unit=api.delete_pc, tag="pcs",
          errors=(Forbidden, errors.PcNotFound, errors.PcBusy)),
        e("POST", "/pcs/{id}/network", "Say how a PC is reached", {200: OwnPcAnswer}, unit=api.set_network, body=PcNetwork, tag="pcs",
          errors=(Forbidden, errors.PcNotFound)),
    )
    # fmt: on
