"""Registering, logging in and out."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from attrs import frozen
from msgspec import Meta

from opendesk import errors as base
from opendesk.errors import RateLimited, Unauthenticated
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import errors, users, wallets
from opendesk.rental.api.context import Rental
from opendesk.rental.shapes import Role, Wallet
from opendesk.web.endpoint import Access, Answer, Call, Endpoint

# What is neither white space nor a control character. What Python and JavaScript call white space differs in the two written out.
_INK = r"[^\s\u0000-\u001f\u007f-\u009f\ufeff]"
_NAME = r"[^\s@.\u0000-\u001f\u007f-\u009f\ufeff]+"
Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=rf"^{_NAME}(\.{_NAME})*@{_NAME}(\.{_NAME})+$",
        title="an e-mail address",
        examples=["ana@example.org"],
    ),
]
# 8 is the contract's; 1000 keeps the hash's work bounded and no one out.
Password = Annotated[str, Meta(min_length=8, max_length=1000, examples=["correct horse battery"])]
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=30,
        pattern=rf"^{_INK}([^\u0000-\u001f\u007f-\u009f]*{_INK})?$",
        title="a name of one line, without spaces around it",
        examples=["ana"],
    ),
]
DisplayName = Annotated[str, Meta(min_length=1, max_length=80)]


class NewRole(StrEnum):
    """Admins come from the command line, never from here."""

    CLIENT = "CLIENT"
    HOST = "HOST"


@frozen
class Register:
    email: Email
    password: Password
    username: Username
    display_name: DisplayName | None = None
    role: NewRole = NewRole.CLIENT


@frozen
class Login:
    email: Annotated[str, Meta(max_length=254, examples=["ana@example.org"])]
    password: Annotated[str, Meta(max_length=1000, examples=["correct horse battery"])]


@frozen
class ChangePassword:
    current: Annotated[str, Meta(max_length=1000)]
    password: Password


@frozen
class Welcome:
    token: str
    user: users.User
    user_id: UUID
    role: Role
    host_profile_id: UUID | None
    needs_username: bool


@frozen
class Me:
    user: users.User
    wallet: Wallet
    host_profile_id: UUID | None


@frozen
class Users:
    """The handlers.

    Those that hash take a place for it first, and keep it to the end: nobody is turned away once a try is counted, and no address
    has more calls at the database than it has places.
    """

    _on: Rental

    async def register(self, call: Call) -> Answer:
        asked: Register = call.body
        with self._on.passwords.place(call.request.address):
            password_hash = await self._on.passwords.hash(asked.password)
            async with self._on.pool.connection() as conn:
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
        """After 5 failures within 5 minutes for an address and e-mail, the next are answered 429 until they are over."""
        return Answer(self._welcome(await self.known(call.body, call.request.address)))

    async def known(self, asked: Login, address: str) -> users.Account:
        """Whose e-mail and password these are, whatever they are to open. Raise InvalidCredentials, RateLimited, Overloaded."""
        key = sha256(f"{address}\n{asked.email.lower()}".encode()).digest()
        async with self._on.turns.turn(key):
            with self._on.passwords.place(address):
                return await self._try(asked, key)

    async def _try(self, asked: Login, key: bytes) -> users.Account:
        account = await self._counted(key, lambda conn: users.by_email(conn, asked.email))
        stored = account.password_hash if account else None
        if not await self._on.passwords.matches(stored, asked.password) or account is None:
            self._on.metrics.login_failed("credentials")
            raise errors.InvalidCredentials
        async with self._on.pool.connection() as conn:
            await users.login_worked(conn, key)
        return account

    def _welcome(self, account: users.Account) -> Welcome:
        token = self._on.tokens.issue(account.id, account.role, account.token_version, now=self._on.clock())
        return Welcome(token, account.user, account.id, account.role, account.host_id, needs_username=False)

    async def me(self, call: Call, conn: TrioConnection) -> Answer:
        account = await users.by_id(conn, call.caller.id)
        if account is None:
            raise Unauthenticated
        wallet = await wallets.by_user(conn, account.id, currency=self._on.terms.currency)
        return Answer(Me(account.user, wallet, account.host_id))

    async def change_password(self, call: Call) -> Answer:
        asked: ChangePassword = call.body
        with self._on.passwords.place(call.request.address):
            await self._change(asked, call.caller.id)
        return Answer(status=204)

    async def _change(self, asked: ChangePassword, user_id: UUID) -> None:
        key = sha256(b"password\n" + user_id.bytes).digest()
        account = await self._counted(key, lambda conn: users.by_id(conn, user_id))
        if account is None or not await self._on.passwords.matches(account.password_hash, asked.current):
            raise errors.InvalidCredentials("the current password is wrong")
        password_hash = await self._on.passwords.hash(asked.password)
        async with self._on.pool.connection() as conn:
            changed = await users.set_password(
                conn, account.id, old_hash=account.password_hash, password_hash=password_hash
            )
            await users.login_worked(conn, key)
        if not changed:
            raise errors.InvalidCredentials("the password was changed meanwhile")

    async def _counted(
        self, key: bytes, find: Callable[[TrioConnection], Awaitable[users.Account | None]]
    ) -> users.Account | None:
        """Count a try and look the user up, or neither: a database that goes away in between is no wrong password.

        Raise RateLimited when there were too many failures already; a stolen token must not help to guess the password, either.
        """
        async with self._on.pool.connection() as conn, conn.transaction():
            attempt = await users.try_login(conn, key)
            account = await find(conn)
        if attempt.failures > users.LOGIN_FAILURES:
            self._on.metrics.login_failed("rate_limited")
            raise RateLimited("too many wrong passwords", retry_after_s=max(1, int(attempt.left_s) + 1))
        return account

    async def logout(self, call: Call, conn: TrioConnection) -> Answer:
        await users.end_tokens(conn, call.caller.id)
        return Answer(status=204)


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    api = Users(on)
    e, anyone = Endpoint, Access.ANYONE
    # fmt: off
    return (
        e("POST", "/auth/register", "Register", {201: Welcome}, handler=api.register, access=anyone, body=Register, tag="users",
          errors=(errors.EmailTaken, errors.UsernameTaken, base.Overloaded)),
        e("POST", "/auth/login", "Log in", {200: Welcome}, handler=api.login, access=anyone, body=Login, tag="users",
          errors=(errors.InvalidCredentials, RateLimited, base.Overloaded)),
        e("GET", "/auth/me", "Who am I", {200: Me}, unit=api.me, tag="users"),
        e("POST", "/auth/password", "Change the password; older tokens end", {204: None}, handler=api.change_password, body=ChangePassword,
          tag="users", errors=(errors.InvalidCredentials, RateLimited, base.Overloaded)),
        e("POST", "/auth/logout", "Log out; older tokens end", {204: None}, unit=api.logout, tag="users"),
    )
    # fmt: on
