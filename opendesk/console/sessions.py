"""Logging in and out of the console: the API's own check, and a cookie instead of its token."""

from collections.abc import Callable
from datetime import datetime
import secrets
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.console.auditing import audited
from opendesk.console.hurrying import hurried
from opendesk.console.outage import Outage
from opendesk.console.pages import Page, Pages, see_other
from opendesk.console.seals import LIFETIME, Seals, cookie_of, is_visit, session_name, set_cookie, visit_name
from opendesk.console.visits import Session, Visit, form_of
from opendesk.errors import DatabaseUnavailable, OpenDeskError, Overloaded, RateLimited, Unauthenticated
from opendesk.ops.audit import Audit
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.rental import users
from opendesk.rental.api.users import Login, Users
from opendesk.rental.errors import InvalidCredentials
from opendesk.web.auth import Claims
from opendesk.web.endpoint import WebRequest

LOG_IN: Final = "CONSOLE_LOGIN"
LOG_OUT: Final = "CONSOLE_LOGOUT"

HOME: Final = "/console"
LOGIN_PAGE: Final = "/console/login"

# As the API takes them.
_EMAIL_CHARS: Final = 254
_PASSWORD_CHARS: Final = 1000
_VISIT_BYTES: Final = 18
# For who it is: a page isn't to wait for a database that hangs, and is answered without.
_CHECK_S: Final = 2.0

# One text for whoever may not come in: it isn't said which of the three it was.
_REFUSED: Final = "These don't open the console: it is for administrators, with their e-mail and password."
_TOO_OLD: Final = "This form was too old, or not from here. Try again."


@frozen
class Sessions:
    _pool: Pool
    _users: Users
    _seals: Seals
    _pages: Pages
    _audit: Audit
    _outage: Outage
    _now: Callable[[], datetime]

    async def of(self, request: WebRequest) -> Session | None:
        """Who is logged in: an admin by now, whose password, ban and log-outs are as they were when the cookie was made.

        While the database is away or hangs, whom it let in shortly before, to look on and not to act. Raise DatabaseUnavailable for others then.
        """
        token = cookie_of(request.headers.get("cookie"), session_name(request.scheme))
        if token is None:
            return None
        try:
            claims = self._seals.tokens.verify(token)
        except Unauthenticated:
            return None
        if self._outage.is_slow and (known := self._known(request, claims, token)) is not None:
            return known
        try:
            account = await self._account(claims.user_id)
        except (DatabaseUnavailable, *AWAY):
            if (known := self._known(request, claims, token)) is None:
                raise
            return known
        if account is None or account.role != "ADMIN" or account.token_version != claims.version:
            return None
        self._outage.let_in(account.id, account.token_version, account.email)
        return Session(account.id, account.email, account.token_version, token)

    def _known(self, request: WebRequest, claims: Claims, token: str) -> Session | None:
        """Who may look on without the database. Nobody acts without it."""
        email = self._outage.email_of(claims.user_id, claims.version)
        if email is None or request.method == "POST":
            return None
        return Session(claims.user_id, email, claims.version, token)

    async def _account(self, user_id: UUID) -> users.Account | None:
        """Raise DatabaseUnavailable, or what AWAY has."""
        self._outage.check()
        try:
            return await hurried(self._pool, _CHECK_S, lambda conn: users.by_id(conn, user_id))
        except DatabaseUnavailable:
            self._outage.asked_in_vain()
            raise

    def is_current(self, session: Session) -> bool:
        """As far as the cookie's own time goes."""
        try:
            self._seals.tokens.verify(session.token)
        except Unauthenticated:
            return False
        return True

    async def ask(self, visit: Visit) -> Page:
        if visit.session is not None:
            return see_other(HOME)
        return await self._form(visit.request)

    async def log_in(self, visit: Visit) -> Page:
        request, form = visit.request, form_of(visit.request)
        visited = self._visit(request)
        email, password = form.get("email", ""), form.get("password", "")
        if visited is None or not self._seals.is_csrf(form.get("csrf", ""), visited):
            return await self._form(request, 403, fault=_TOO_OLD, email=email)
        try:
            with audited(self._audit, LOG_IN, request.request_id, address=request.address) as facts:
                account = await self._admin(request, email, password)
                facts["user"] = str(account.id)
        except (InvalidCredentials, RateLimited, Overloaded) as error:
            return await self._turned_away(request, error, email)
        token = self._seals.tokens.issue(account.id, account.role, account.token_version, now=self._now())
        session = set_cookie(session_name(request.scheme), token, request.scheme, LIFETIME)
        return see_other(HOME, session, set_cookie(visit_name(request.scheme), "", request.scheme, LIFETIME * 0))

    async def log_out(self, visit: Visit) -> Page:
        """All tokens of this admin end, as by `POST /auth/logout`: here, at the API and at every other daemon."""
        async with self._pool.connection() as conn:
            await users.end_tokens(conn, visit.who.user_id)
        self._outage.forget(visit.who.user_id, visit.who.token_version)
        self._audit.success(LOG_OUT, visit.request.request_id, user=str(visit.who.user_id))
        scheme = visit.request.scheme
        return see_other(LOGIN_PAGE, set_cookie(session_name(scheme), "", scheme, LIFETIME * 0))

    async def _admin(self, request: WebRequest, email: str, password: str) -> users.Account:
        """Raise InvalidCredentials, RateLimited, Overloaded."""
        if len(email) > _EMAIL_CHARS or len(password) > _PASSWORD_CHARS or "\0" in email:
            raise InvalidCredentials
        account = await self._users.known(Login(email, password), request.address)
        if account.role != "ADMIN":
            raise InvalidCredentials
        return account

    async def _turned_away(self, request: WebRequest, error: OpenDeskError, email: str) -> Page:
        if isinstance(error, InvalidCredentials):
            return await self._form(request, 403, fault=_REFUSED, email=email)
        wait_s = error.retry_after_s or 1
        fault = f"Too many tries. Come back in {wait_s} s."
        return await self._form(request, error.status, fault=fault, email=email, retry_after_s=wait_s)

    def _visit(self, request: WebRequest) -> str | None:
        found = cookie_of(request.headers.get("cookie"), visit_name(request.scheme))
        return found if is_visit(found) else None

    async def _form(
        self,
        request: WebRequest,
        status: int = 200,
        *,
        fault: str | None = None,
        email: str = "",
        retry_after_s: int | None = None,
    ) -> Page:
        """With a cookie for who isn't logged in, which the form's token is bound to: another site can log nobody in as somebody else."""
        known = self._visit(request)
        visited = known or secrets.token_urlsafe(_VISIT_BYTES)
        headers = () if known else (set_cookie(visit_name(request.scheme), visited, request.scheme),)
        if retry_after_s is not None:
            headers = (*headers, ("Retry-After", str(retry_after_s)))
        told = {"csrf": self._seals.csrf(visited), "fault": fault, "email": email[:_EMAIL_CHARS]}
        return await self._pages.page("login.html", status, headers, **told)
