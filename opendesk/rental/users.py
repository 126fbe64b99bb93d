"""Users: who they are, whether they may come in, and how they are kept out."""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen
import psycopg

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.errors import EmailTaken, UsernameTaken
from opendesk.rental.shapes import Role
from opendesk.web.auth import Caller, Claims

# A user comes with an empty wallet and, as a host, with a profile.
_ADD = """
    WITH made AS (
        INSERT INTO users (email, username, display_name, role, password_hash)
        VALUES (%(email)s, %(username)s, %(display_name)s, %(role)s, %(password_hash)s)
        RETURNING *
    ), wallet AS (
        INSERT INTO accounts (kind, user_id, balance) SELECT 'WALLET', id, 0 FROM made
    ), host AS (
        INSERT INTO hosts (user_id, display_name)
        SELECT id, coalesce(display_name, username) FROM made WHERE role = 'HOST'
        RETURNING id
    )
    SELECT made.id, email, username, display_name, role, made.created_at, token_version, password_hash, host.id AS host_id
      FROM made LEFT JOIN host ON true
"""
_ACCOUNT = """
    SELECT u.id, u.email, u.username, u.display_name, u.role, u.created_at, u.token_version, u.password_hash, h.id AS host_id
      FROM users u LEFT JOIN hosts h ON h.user_id = u.id
     WHERE u.banned_at IS NULL
"""
_BY_EMAIL = f"{_ACCOUNT} AND lower(u.email) = lower(%(email)s)"
_BY_ID = f"{_ACCOUNT} AND u.id = %(id)s"
_ID_BY_EMAIL = "SELECT id FROM users WHERE lower(email) = lower(%(email)s)"
_CALLER = """
    SELECT u.id, u.role, h.id AS host_id
      FROM users u LEFT JOIN hosts h ON h.user_id = u.id
     WHERE u.id = %(id)s AND u.token_version = %(version)s AND u.banned_at IS NULL
"""
_END_TOKENS = "UPDATE users SET token_version = token_version + 1 WHERE id = %(id)s"
_CHANGE_HASH = """
    UPDATE users SET password_hash = %(password_hash)s, token_version = token_version + 1
     WHERE id = %(id)s AND password_hash = %(old_hash)s
"""
_BAN = """
    UPDATE users SET banned_at = CASE WHEN %(banned)s THEN coalesce(banned_at, now()) END, token_version = token_version + 1
     WHERE lower(email) = lower(%(email)s)
"""

# Failures are counted up before the password is looked at, so that a hundred tries at once are a hundred failures.
_TRY_LOGIN = """
    INSERT INTO login_attempts AS a (key, failures, window_start) VALUES (%(key)s, 1, now())
        ON CONFLICT (key) DO UPDATE
       SET failures = CASE WHEN a.window_start < now() - %(window)s * interval '1 second' THEN 1 ELSE a.failures + 1 END,
           window_start = CASE WHEN a.window_start < now() - %(window)s * interval '1 second' THEN now() ELSE a.window_start END
 RETURNING failures, extract(epoch FROM window_start - now())::float8 + %(window)s AS left_s
"""
_LOGIN_WORKED = "DELETE FROM login_attempts WHERE key = %(key)s"
# Their age is asked again: a window may have begun anew while this waited for the row (as in web/idempotency.py).
_FORGET_ATTEMPTS = """
    DELETE FROM login_attempts
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM login_attempts WHERE window_start < now() - %(window)s * interval '1 second' LIMIT 5000))
       AND window_start < now() - %(window)s * interval '1 second'
"""

# Failed log-ins for an address and e-mail before the door is shut, and for how long (contracts/rental-http.md).
LOGIN_FAILURES: Final = 5
LOGIN_WINDOW_S: Final = 300


@frozen
class User:
    """A user as the wire shows it."""

    id: UUID
    email: str
    username: str
    display_name: str | None
    role: Role
    created_at: datetime


@frozen
class Account:
    """A user with what log-in needs."""

    id: UUID
    email: str
    username: str
    display_name: str | None
    role: Role
    created_at: datetime
    token_version: int
    password_hash: str
    host_id: UUID | None

    @property
    def user(self) -> User:
        return User(self.id, self.email, self.username, self.display_name, self.role, self.created_at)


@frozen
class Attempt:
    failures: int
    left_s: float


async def add(
    conn: TrioConnection, *, email: str, username: str, display_name: str | None, role: str, password_hash: str
) -> Account:
    """Raise EmailTaken or UsernameTaken."""
    values = {
        "email": email,
        "username": username,
        "display_name": display_name,
        "role": role,
        "password_hash": password_hash,
    }
    try:
        account = await conn.fetch_one(_ADD, values, row=Account)
    except psycopg.errors.UniqueViolation as error:
        raise EmailTaken if violated(error) == "users_email" else UsernameTaken from None
    assert account is not None
    return account


async def by_email(conn: TrioConnection, email: str) -> Account | None:
    return await conn.fetch_one(_BY_EMAIL, {"email": email}, row=Account)


async def id_by_email(conn: TrioConnection, email: str) -> UUID | None:
    """Also of one who is banned: their money is still theirs."""
    row = await conn.fetch_one(_ID_BY_EMAIL, {"email": email})
    return None if row is None else row[0]


async def by_id(conn: TrioConnection, user_id: UUID) -> Account | None:
    return await conn.fetch_one(_BY_ID, {"id": user_id}, row=Account)


async def find_caller(conn: TrioConnection, claims: Claims) -> Caller | None:
    """None for a user who is banned or gone, or a token from before a log-out."""
    return await conn.fetch_one(_CALLER, {"id": claims.user_id, "version": claims.version}, row=Caller)


async def end_tokens(conn: TrioConnection, user_id: UUID) -> None:
    await conn.run(_END_TOKENS, {"id": user_id})


async def set_password(conn: TrioConnection, user_id: UUID, *, old_hash: str, password_hash: str) -> bool:
    """False if the password was changed by someone else meanwhile. Older tokens end."""
    values = {"id": user_id, "old_hash": old_hash, "password_hash": password_hash}
    return await conn.run(_CHANGE_HASH, values) == 1


async def set_banned(conn: TrioConnection, email: str, *, banned: bool) -> bool:
    """False if there is no such user."""
    return await conn.run(_BAN, {"email": email, "banned": banned}) == 1


async def try_login(conn: TrioConnection, key: bytes) -> Attempt:
    """Count a failure in advance; `login_worked` takes it back."""
    attempt = await conn.fetch_one(_TRY_LOGIN, {"key": key, "window": LOGIN_WINDOW_S}, row=Attempt)
    assert attempt is not None
    return attempt


async def login_worked(conn: TrioConnection, key: bytes) -> None:
    await conn.run(_LOGIN_WORKED, {"key": key})


async def forget_old_attempts(conn: TrioConnection) -> int:
    """How many are gone. In batches: many at once would run into the statement's time-out."""
    total = 0
    while gone := await conn.run(_FORGET_ATTEMPTS, {"window": LOGIN_WINDOW_S}):
        total += gone
    return total
