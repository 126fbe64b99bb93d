"""Sessions from reservation to settlement."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from attrs import frozen
from msgspec import Meta

from opendesk.errors import FieldFault, Forbidden, RateLimited, ValidationFailed
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import closing, errors, sessions, telling
from opendesk.rental.api.context import Rental, TxAnswer
from opendesk.rental.lifecycle import Caller as Party
from opendesk.rental.lifecycle import Status, acting_as
from opendesk.rental.sessions import Session, SettlementShape
from opendesk.rental.settlement import FailureReason
from opendesk.rental.shapes import Amount, Text
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page

Minutes = Annotated[int, Meta(ge=1, le=240, examples=[60])]


@frozen
class CreateSession:
    """`clientUserId`, if given, is the caller."""

    pc_id: UUID
    minutes_purchased: Minutes
    client_user_id: UUID | None = None


@frozen
class EndSession:
    """What is said of whose fault it was. `hostFault: true` is an older way to say `HOST`; nothing else goes with it."""

    failure_reason: FailureReason | None = None
    host_fault: bool | None = None

    # What `_claim` refuses.
    SCHEMA_EXTRA: ClassVar[Mapping[str, Any]] = {
        "not": {
            "required": ["hostFault", "failureReason"],
            "properties": {"hostFault": {"const": True}, "failureReason": {"enum": ["CLIENT", "PLATFORM", "NONE"]}},
        }
    }


@frozen
class Refund:
    amount: Amount
    reason: Text


@frozen
class SessionFilter(PageQuery):
    status: Status | None = None
    pc_id: UUID | None = None


@frozen
class SessionAnswer:
    session: Session


@frozen
class SessionCreated:
    session: Session
    code: str


@frozen
class SessionEnded:
    session: Session
    settlement: SettlementShape


@frozen
class Sessions:
    """The handlers."""

    _on: Rental

    async def create_session(self, call: Call, conn: TrioConnection) -> Answer:
        """The whole price is held from the client's wallet until the session ends. What isn't started in time (15 minutes, if not set otherwise) is paid back."""
        asked: CreateSession = call.body
        if asked.client_user_id not in (None, call.caller.id):
            raise Forbidden("clientUserId must be the caller")
        session = await sessions.create(
            conn,
            call.caller.id,
            asked.pc_id,
            asked.minutes_purchased,
            fee_rate=self._on.terms.fee_rate,
            penalty_rate=self._on.terms.penalty_rate,
        )
        then = partial(telling.booked, self._on.metrics, session, call.request.request_id)
        return Answer(SessionCreated(session, "SESSION_CREATED"), 201, then)

    async def start_session(self, call: Call, conn: TrioConnection) -> Answer:
        """From now on the minutes count, up to `endAt`."""
        session = await sessions.start(conn, call.ids["id"], call.caller.id, admin=call.caller.is_admin)
        then = partial(telling.started, self._on.metrics, session.id, call.caller.id, call.request.request_id)
        return Answer(SessionAnswer(session), then=then)

    async def end_session(self, call: Call, conn: TrioConnection) -> Answer:
        """Who ended it and whose fault it was decides who gets what: see `settlement`. A client's claim against the host counts if we saw it too."""
        found, claim = await sessions.snapshot(conn, call.ids["id"]), _claim(call.body)
        who = _party(call, found)
        if found.status != Status.ACTIVE:
            raise errors.InvalidStatus(f"the session is {found.status}")
        decided = closing.end(
            found,
            who,
            claim,
            heartbeat_timeout=self._on.terms.heartbeat_timeout,
            # A daemon that has only just come has heard nobody yet: silence proves nothing to it.
            listening_since=self._on.listening_since(found.now),
        )
        session = await _close(conn, decided)
        assert session.settlement is not None
        return Answer(SessionEnded(session, session.settlement), then=self._told(call, session))

    async def cancel_session(self, call: Call, conn: TrioConnection) -> Answer:
        """One that was not started yet; the whole price is paid back."""
        found = await sessions.snapshot(conn, call.ids["id"])
        if _party(call, found) is Party.HOST:
            raise Forbidden("only the client cancels a reservation")
        if found.status != Status.PENDING:
            raise errors.InvalidStatus(f"the session is {found.status}")
        session = await _close(conn, closing.cancel(found))
        return Answer(SessionAnswer(session), then=self._told(call, session))

    def _told(self, call: Call, session: Session) -> Callable[[], None]:
        return partial(telling.ended, self._on.metrics, [session], call.caller.id, call.request.request_id)

    async def get_session(self, call: Call, conn: TrioConnection) -> Answer:
        """`minutesUsed` runs while the session is ACTIVE."""
        found = await sessions.get(conn, call.ids["id"], caller=call.caller.id, admin=call.caller.is_admin)
        return Answer(SessionAnswer(found))

    async def list_sessions(self, call: Call, conn: TrioConnection) -> Answer:
        """Those that the caller rents, and those on the caller's PCs; for an admin, all."""
        query: SessionFilter = call.query
        found = await sessions.list_some(
            conn,
            user_id=call.caller.id,
            host_id=call.caller.host_id,
            admin=call.caller.is_admin,
            before=query.before,
            wanted=query.wanted,
            status=query.status,
            pc_id=query.pc_id,
        )
        return Answer(page(found, query))

    async def refund(self, call: Call, conn: TrioConnection) -> Answer:
        """Out of what the session `retained`, to its client; the settlement stays as it was."""
        asked: Refund = call.body
        async with conn.transaction():
            tx = await sessions.refund(conn, call.ids["id"], asked.amount, asked.reason, made_by=call.caller.id)
            return Answer(await self._on.with_balance(conn, tx), 201)


async def _close(conn: TrioConnection, decided: closing.Closing) -> Session:
    closed = await sessions.close(conn, [decided])
    if not closed:
        raise errors.InvalidStatus("someone else was first")
    return closed[0]


def _party(call: Call, found: closing.Snapshot) -> Party:
    caller = call.caller
    who = acting_as(
        is_client=caller.id == found.client_user_id, is_host=caller.id == found.host_user_id, is_admin=caller.is_admin
    )
    if who is None:
        raise Forbidden
    return who


def _claim(asked: EndSession) -> FailureReason | None:
    """`hostFault: true` is an older way to say `HOST`."""
    if not asked.host_fault:
        return asked.failure_reason
    if asked.failure_reason not in (None, FailureReason.HOST):
        fault = FieldFault("/hostFault", f"can't be true beside failureReason {asked.failure_reason}")
        raise ValidationFailed("hostFault: true means failureReason HOST", errors=[fault])
    return FailureReason.HOST


_CREATE_REFUSALS: Final = (
    errors.PcNotFound, errors.PcBusy, errors.PcOffline, errors.SessionExists, errors.OwnPc, errors.InsufficientFunds, RateLimited,
)  # fmt: skip


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    api = Sessions(on)
    e, admin = Endpoint, Access.ADMIN
    # fmt: off
    return (
        e("POST", "/sessions", "Reserve a PC", {201: SessionCreated}, unit=api.create_session, body=CreateSession, guarded=True,
          errors=(Forbidden, *_CREATE_REFUSALS)),
        e("GET", "/sessions", "List sessions", {200: Page[Session]}, unit=api.list_sessions, query=SessionFilter),
        e("GET", "/sessions/{id}", "A session", {200: SessionAnswer}, unit=api.get_session, errors=(Forbidden, errors.SessionNotFound)),
        e("POST", "/sessions/{id}/start", "Start", {200: SessionAnswer}, unit=api.start_session, guarded=True,
          errors=(Forbidden, errors.SessionNotFound, errors.InvalidStatus, errors.PcBusy, errors.PcOffline)),
        e("POST", "/sessions/{id}/end", "End, and settle", {200: SessionEnded}, unit=api.end_session, body=EndSession, body_optional=True,
          guarded=True, errors=(Forbidden, errors.SessionNotFound, errors.InvalidStatus)),
        e("POST", "/sessions/{id}/cancel", "Cancel a reservation", {200: SessionAnswer}, unit=api.cancel_session, guarded=True,
          errors=(Forbidden, errors.SessionNotFound, errors.InvalidStatus)),
        e("POST", "/sessions/{id}/refund", "Give back of what was retained", {201: TxAnswer}, unit=api.refund, access=admin, body=Refund,
          guarded=True, errors=(errors.SessionNotFound, errors.InvalidStatus, errors.RefundTooLarge)),

    )
    # fmt: on
