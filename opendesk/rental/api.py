"""The rental API: users, hosts, PCs, wallets, sessions. What each call takes and answers stands in `endpoints`."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Final
from uuid import UUID

from attrs import define, frozen
from msgspec import Meta

from opendesk import errors as base
from opendesk.errors import FieldFault, Forbidden, RateLimited, Unauthenticated, ValidationFailed
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import closing, errors, hosts, pcs, sessions, users, wallets
from opendesk.rental.counting import count_closed
from opendesk.rental.heartbeats import Beat, BeatAnswer, Heartbeats
from opendesk.rental.hosts import Host
from opendesk.rental.lifecycle import Caller as Party
from opendesk.rental.lifecycle import Status, acting_as
from opendesk.rental.pcs import OwnPc, Pc, PcNetwork, PcOffer
from opendesk.rental.sessions import Session, SettlementShape
from opendesk.rental.settlement import FailureReason
from opendesk.rental.shapes import Amount, PcStatus, Text, Tx, TxType, Wallet
from opendesk.web.auth import Passwords, Tokens
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page

Email = Annotated[
    str,
    Meta(
        max_length=254, pattern=r"^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+$", examples=["ana@example.org"], title="e-mail address"
    ),
]
# 8 is the contract's; 1000 keeps the hash's work bounded and no one out.
Password = Annotated[str, Meta(min_length=8, max_length=1000)]
Username = Annotated[str, Meta(min_length=3, max_length=30, pattern=r"^\S(.*\S)?$")]
DisplayName = Annotated[str, Meta(min_length=1, max_length=80)]
Minutes = Annotated[int, Meta(ge=1, le=240)]


@frozen
class Register:
    email: Email
    password: Password
    username: Username
    display_name: DisplayName | None = None
    role: Annotated[str, Meta(pattern="^(CLIENT|HOST)$")] = "CLIENT"


@frozen
class Login:
    email: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=1000)]


@frozen
class ChangePassword:
    current: Annotated[str, Meta(max_length=1000)]
    password: Password


@frozen
class Welcome:
    token: str
    user: users.User
    user_id: UUID
    role: str
    host_profile_id: UUID | None
    needs_username: bool


@frozen
class Me:
    user: users.User
    wallet: Wallet
    host_profile_id: UUID | None


@frozen
class HostAnswer:
    host_profile: Host


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
class Heartbeat:
    """What a host says of itself. `timestamp`, `intervalMs`, `seq` and `sentAtMs` are taken and not used: the database tells the time."""

    status: PcStatus | None = None
    pc_id: UUID | None = None
    timestamp: str | int | None = None
    interval_ms: int | None = None
    seq: int | None = None
    sent_at_ms: int | None = None


@frozen
class MoveMoney:
    type: TxType
    amount: Amount
    reason: Text
    session_id: UUID | None = None


@frozen
class TxAnswer:
    tx: Tx
    balance: int


@frozen
class CreateSession:
    pc_id: UUID
    minutes_purchased: Minutes
    client_user_id: UUID | None = None


@frozen
class EndSession:
    failure_reason: FailureReason | None = None
    host_fault: bool | None = None


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
class Terms:
    """What is in force for new sessions."""

    currency: str
    fee_rate: Decimal
    penalty_rate: Decimal
    heartbeat_timeout: timedelta


@define
class RentalApi:
    """The handlers, with what they stand on."""

    pool: Pool
    tokens: Tokens
    passwords: Passwords
    heartbeats: Heartbeats
    terms: Terms
    metrics: Metrics
    clock: Callable[[], datetime]
    listening_since: Callable[[], datetime | None]

    # ---- users

    async def register(self, call: Call) -> Answer:
        asked: Register = call.body
        password_hash = await self.passwords.hash(asked.password)
        async with self.pool.connection() as conn:
            account = await users.add(
                conn,
                email=asked.email,
                username=asked.username,
                display_name=asked.display_name,
                role=asked.role,
                password_hash=password_hash,
            )
        return Answer(self._welcome(account), 201)

    async def login(self, call: Call) -> Answer:
        asked: Login = call.body
        key = sha256(f"{call.request.address}\n{asked.email.lower()}".encode()).digest()
        async with self.pool.connection() as conn:
            attempt = await users.try_login(conn, key)
            if attempt.failures > users.LOGIN_FAILURES:
                self.metrics.login_failed("rate_limited")
                raise RateLimited("too many failed log-ins", retry_after_s=max(1, int(attempt.left_s) + 1))
            account = await users.by_email(conn, asked.email)
        if (
            not await self.passwords.matches(account.password_hash if account else None, asked.password)
            or account is None
        ):
            self.metrics.login_failed("credentials")
            raise errors.InvalidCredentials
        async with self.pool.connection() as conn:
            await users.login_worked(conn, key)
        return Answer(self._welcome(account))

    def _welcome(self, account: users.Account) -> Welcome:
        token = self.tokens.issue(account.id, account.role, account.token_version, now=self.clock())
        return Welcome(token, account.user, account.id, account.role, account.host_id, needs_username=False)

    async def me(self, call: Call, conn: TrioConnection) -> Answer:
        account = await users.by_id(conn, call.caller.id)
        if account is None:
            raise Unauthenticated
        wallet = await wallets.by_user(conn, account.id, currency=self.terms.currency)
        return Answer(Me(account.user, wallet, account.host_id))

    async def change_password(self, call: Call) -> Answer:
        asked: ChangePassword = call.body
        async with self.pool.connection() as conn:
            account = await users.by_id(conn, call.caller.id)
        if account is None or not await self.passwords.matches(account.password_hash, asked.current):
            raise errors.InvalidCredentials("the current password is wrong")
        password_hash = await self.passwords.hash(asked.password)
        async with self.pool.connection() as conn:
            changed = await users.set_password(
                conn, account.id, old_hash=account.password_hash, password_hash=password_hash
            )
        if not changed:
            raise errors.InvalidCredentials("the password was changed meanwhile")
        return Answer(status=204)

    async def logout(self, call: Call, conn: TrioConnection) -> Answer:
        await users.end_tokens(conn, call.caller.id)
        return Answer(status=204)

    # ---- hosts and PCs

    async def become_host(self, call: Call, conn: TrioConnection) -> Answer:
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
        said: Heartbeat = call.body
        if call.claims is None:
            raise Unauthenticated
        return Answer(await self.heartbeats.beat(Beat(call.claims, call.ids["id"], said.pc_id, said.status)))

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
        if call.caller.host_id is None:
            raise Forbidden("only a host has PCs: POST /hosts first")
        pc, made = await pcs.add(conn, call.caller.host_id, call.body, currency=self.terms.currency)
        return Answer(OwnPcAnswer(pc), 201 if made else 200)

    async def change_pc(self, call: Call, conn: TrioConnection) -> Answer:
        await self._own_pc(call, conn)
        await pcs.change(conn, call.ids["id"], call.body)
        return Answer(OwnPcAnswer(await pcs.by_id(conn, call.ids["id"])))

    async def set_network(self, call: Call, conn: TrioConnection) -> Answer:
        await self._own_pc(call, conn)
        await pcs.set_network(conn, call.ids["id"], call.body)
        return Answer(OwnPcAnswer(await pcs.by_id(conn, call.ids["id"])))

    async def delete_pc(self, call: Call, conn: TrioConnection) -> Answer:
        await self._own_pc(call, conn)
        await pcs.delete(conn, call.ids["id"])
        return Answer(status=204)

    async def _own_pc(self, call: Call, conn: TrioConnection) -> OwnPc:
        return pcs.owned(await pcs.by_id(conn, call.ids["id"]), call.caller.host_id, admin=call.caller.is_admin)

    # ---- wallets

    async def get_wallet(self, call: Call, conn: TrioConnection) -> Answer:
        owner = _own(call)
        return Answer(await wallets.by_user(conn, owner, currency=self.terms.currency))

    async def transactions(self, call: Call, conn: TrioConnection) -> Answer:
        owner, query = _own(call), call.query
        await wallets.by_user(conn, owner, currency=self.terms.currency)
        return Answer(page(await wallets.transactions(conn, owner, before=query.before, wanted=query.wanted), query))

    async def move_money(self, call: Call, conn: TrioConnection) -> Answer:
        owner, asked = call.ids["userId"], call.body
        tx = await wallets.move(
            conn, owner, asked.type, asked.amount, asked.reason, session_id=asked.session_id, made_by=call.caller.id
        )
        return Answer(await self._with_balance(conn, tx), 201)

    async def _with_balance(self, conn: TrioConnection, tx: Tx) -> TxAnswer:
        wallet = await wallets.by_user(conn, tx.user_id, currency=self.terms.currency)
        return TxAnswer(tx, wallet.balance)

    # ---- sessions

    async def create_session(self, call: Call, conn: TrioConnection) -> Answer:
        asked: CreateSession = call.body
        if asked.client_user_id not in (None, call.caller.id):
            raise Forbidden("clientUserId must be the caller")
        session = await sessions.create(
            conn,
            call.caller.id,
            asked.pc_id,
            asked.minutes_purchased,
            fee_rate=self.terms.fee_rate,
            penalty_rate=self.terms.penalty_rate,
        )
        self.metrics.session_event("created")
        return Answer(SessionCreated(session, "SESSION_CREATED"), 201)

    async def start_session(self, call: Call, conn: TrioConnection) -> Answer:
        session = await sessions.start(conn, call.ids["id"], call.caller.id, admin=call.caller.is_admin)
        self.metrics.session_event("started")
        return Answer(SessionAnswer(session))

    async def end_session(self, call: Call, conn: TrioConnection) -> Answer:
        found, claim = await sessions.snapshot(conn, call.ids["id"]), _claim(call.body)
        who = _party(call, found)
        if found.status != Status.ACTIVE:
            raise errors.InvalidStatus(f"the session is {found.status}")
        decided = closing.end(
            found, who, claim, heartbeat_timeout=self.terms.heartbeat_timeout, listening_since=self.listening_since()
        )
        session = await self._close(conn, decided)
        assert session.settlement is not None
        return Answer(SessionEnded(session, session.settlement))

    async def cancel_session(self, call: Call, conn: TrioConnection) -> Answer:
        found = await sessions.snapshot(conn, call.ids["id"])
        if _party(call, found) is Party.HOST:
            raise Forbidden("only the client cancels a reservation")
        if found.status != Status.PENDING:
            raise errors.InvalidStatus(f"the session is {found.status}")
        return Answer(SessionAnswer(await self._close(conn, closing.cancel(found))))

    async def _close(self, conn: TrioConnection, decided: closing.Closing) -> Session:
        closed = await sessions.close(conn, [decided])
        if not closed:
            raise errors.InvalidStatus("someone else was first")
        count_closed(self.metrics, closed)
        return closed[0]

    async def get_session(self, call: Call, conn: TrioConnection) -> Answer:
        found = await sessions.get(conn, call.ids["id"], caller=call.caller.id, admin=call.caller.is_admin)
        return Answer(SessionAnswer(found))

    async def list_sessions(self, call: Call, conn: TrioConnection) -> Answer:
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
        tx = await sessions.refund(conn, call.ids["id"], call.body.amount, call.body.reason, made_by=call.caller.id)
        return Answer(await self._with_balance(conn, tx), 201)


def _found(host: Host | None) -> Host:
    if host is None:
        raise errors.HostNotFound
    return host


def _own(call: Call) -> UUID:
    owner = call.ids["userId"]
    if owner != call.caller.id and not call.caller.is_admin:
        raise Forbidden
    return owner


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


def endpoints(api: RentalApi) -> tuple[Endpoint, ...]:
    """Every call of the rental API."""
    anyone, admin = Access.ANYONE, Access.ADMIN
    e = Endpoint
    # fmt: off
    return (
        e("POST", "/auth/register", "Register", {201: Welcome}, handler=api.register, access=anyone, body=Register, tag="users",
          errors=(errors.EmailTaken, errors.UsernameTaken, base.Overloaded)),
        e("POST", "/auth/login", "Log in", {200: Welcome}, handler=api.login, access=anyone, body=Login, tag="users",
          errors=(errors.InvalidCredentials, RateLimited, base.Overloaded)),
        e("GET", "/auth/me", "Who am I", {200: Me}, unit=api.me, tag="users"),
        e("POST", "/auth/password", "Change the password; older tokens end", {204: None}, handler=api.change_password, body=ChangePassword,
          tag="users", errors=(errors.InvalidCredentials, base.Overloaded)),
        e("POST", "/auth/logout", "Log out; older tokens end", {204: None}, unit=api.logout, tag="users"),

        e("POST", "/hosts", "Become a host", {201: HostAnswer, 200: HostAnswer}, unit=api.become_host, tag="hosts"),
        e("GET", "/hosts", "List hosts", {200: Page[Host]}, unit=api.list_hosts, access=anyone, query=PageQuery, tag="hosts"),
        e("GET", "/hosts/{id}", "A host", {200: HostAnswer}, unit=api.get_host, access=anyone, tag="hosts", errors=(errors.HostNotFound,)),
        e("GET", "/hosts/{id}/pcs", "A host's PCs", {200: Page[Pc]}, unit=api.host_pcs, access=anyone, query=PageQuery, tag="hosts",
          errors=(errors.HostNotFound,)),
        e("POST", "/hosts/{id}/heartbeat", "Say that a host and its PCs are alive", {200: BeatAnswer}, handler=api.heartbeat,
          body=Heartbeat, body_optional=True, hot=True, tag="hosts",
          errors=(errors.HostNotFound, errors.PcNotFound, Forbidden, base.Overloaded)),

        e("GET", "/pcs", "List PCs", {200: Page[Pc]}, unit=api.list_pcs, access=anyone, query=PcFilter, tag="pcs"),
        e("GET", "/pcs/{id}", "A PC", {200: PcAnswer}, unit=api.get_pc, access=anyone, tag="pcs", errors=(errors.PcNotFound,)),
        e("POST", "/pcs", "Offer a PC", {201: OwnPcAnswer, 200: OwnPcAnswer}, unit=api.add_pc, body=PcOffer, tag="pcs",
          errors=(Forbidden, errors.LocalPcIdTaken)),
        e("PUT", "/pcs/{id}", "Change a PC", {200: OwnPcAnswer}, unit=api.change_pc, body=PcOffer, tag="pcs",
          errors=(Forbidden, errors.PcNotFound, errors.LocalPcIdTaken)),
        e("DELETE", "/pcs/{id}", "Withdraw a PC", {204: None}, unit=api.delete_pc, tag="pcs",
          errors=(Forbidden, errors.PcNotFound, errors.PcBusy)),
        e("POST", "/pcs/{id}/network", "Say how a PC is reached", {200: OwnPcAnswer}, unit=api.set_network, body=PcNetwork, tag="pcs",
          errors=(Forbidden, errors.PcNotFound)),

        e("GET", "/wallets/{userId}", "A wallet", {200: Wallet}, unit=api.get_wallet, tag="wallets", errors=(Forbidden, errors.UserNotFound)),
        e("GET", "/wallets/{userId}/transactions", "What came and went", {200: Page[Tx]}, unit=api.transactions, query=PageQuery,
          tag="wallets", errors=(Forbidden, errors.UserNotFound)),
        e("POST", "/wallets/{userId}/tx", "Credit or debit a wallet", {201: TxAnswer}, unit=api.move_money, access=admin, body=MoveMoney,
          guarded=True, tag="wallets", errors=(errors.UserNotFound, errors.SessionNotFound, errors.InsufficientFunds)),

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
