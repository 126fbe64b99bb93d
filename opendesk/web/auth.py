"""Who is calling: passwords (argon2id) and bearer tokens (JWT, HS256)."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
import time
from typing import Any, Final
from uuid import UUID

import argon2
from attrs import define, field, frozen
import jwt
import trio

from opendesk.errors import Overloaded, Unauthenticated
from opendesk.web.shares import Shares

# OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, 2 passes, 1 lane. RFC 9106's 64 MiB are much beside an idle daemon.
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

# What a password is compared with when the user doesn't exist: the same work. (The hash of a random word, with the same costs.)
_DECOY: Final = "$argon2id$v=19$m=19456,t=2,p=1$n8T8NcFBnx9ZxELev3ShjQ$SlZRn1Bbg1nTtNkunJ2SFCf17Nu8BsfX4SnJUEau8nM"

# Hashing takes a core for some 30 ms and 19 MiB: two at once leave the rest of a small machine to the others…
HASHES_AT_ONCE: Final = 2
# …and whoever would wait longer than a few seconds is better told to come back.
HASHES_WAITING: Final = 64
# Of one address, under way or waiting: one that floods us takes no more than a quarter of that from the others.
HASHES_OF_ONE: Final = 16
_RETRY_AFTER_S: Final = 5

# For one address and e-mail: a household's, or an app that tries again. More of them at once is somebody who guesses.
TURNS_WAITING: Final = 16

# Clocks of daemons behind one name may differ a little.
_LEEWAY: Final = timedelta(seconds=5)

# Good tokens that are remembered, at some 500 bytes each: checking a signature takes as long as the rest of a heartbeat. Over this
# it begins anew, so that with more hosts than that at once each is checked as if nothing were remembered.
REMEMBERED: Final = 20_000

# The database's integers have 32 bits; a service that shares our secret may count otherwise.
_LARGEST_VERSION: Final = 2**31 - 1


@frozen
class Caller:
    """A user whose token was good; role and host are what the database says now."""

    id: UUID
    role: str
    host_id: UUID | None

    @property
    def is_admin(self) -> bool:
        return self.role == "ADMIN"


@frozen
class Claims:
    user_id: UUID
    version: int


@frozen
class Tokens:
    """Makes and checks bearer tokens."""

    secret: bytes = field(repr=False)
    lifetime: timedelta
    _clock: Callable[[], float] = time.time
    # Each with its claims and when it ends. Whether the user may still come in is asked of the database every time.
    _good: dict[str, tuple[Claims, float]] = field(factory=dict, init=False, eq=False, repr=False)

    def issue(self, user_id: UUID, role: str, version: int, *, now: datetime) -> str:
        issued = int(now.timestamp())
        claims = {
            "sub": str(user_id),
            "role": role,
            "iat": issued,
            "exp": issued + int(self.lifetime.total_seconds()),
            "ver": version,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def verify(self, token: str) -> Claims:
        """Raise Unauthenticated for one that is forged, expired or not ours."""
        claims, ends_s = self._good.get(token) or self._remember(token)
        if self._clock() >= ends_s:
            del self._good[token]
            raise Unauthenticated
        return claims

    def _remember(self, token: str) -> tuple[Claims, float]:
        decoded = self._decoded(token)
        if type(decoded["ver"]) is not int or not 0 < decoded["ver"] <= _LARGEST_VERSION:
            raise Unauthenticated
        try:
            claims = Claims(UUID(decoded["sub"]), decoded["ver"])
            ends_s = float(decoded["exp"]) + _LEEWAY.total_seconds()
        except (ValueError, OverflowError):
            raise Unauthenticated from None
        if len(self._good) >= REMEMBERED:
            self._good.clear()
        self._good[token] = claims, ends_s
        return self._good[token]

    def _decoded(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                self.secret,
                algorithms=["HS256"],
                leeway=_LEEWAY,
                # When it was issued, another daemon's clock told.
                options={"require": ["sub", "exp", "iat", "ver"], "verify_iat": False},
            )
        except (jwt.InvalidTokenError, ValueError, OverflowError):
            raise Unauthenticated from None


@define
class Passwords:
    """Hashes off the event loop, a few at a time. A hash under way can't be cancelled, so its caller waits for it."""

    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(HASHES_AT_ONCE))
    _places: Shares = field(
        factory=lambda: Shares(HASHES_OF_ONE, _RETRY_AFTER_S, of_all=HASHES_AT_ONCE + HASHES_WAITING)
    )

    def place(self, address: str) -> AbstractContextManager[None]:
        """What a caller over HTTP takes before anything else. Entering raises Overloaded when too many are at it, in all or of this address."""
        return self._places.one(address)

    async def hash(self, password: str) -> str:
        return await trio.to_thread.run_sync(_HASHER.hash, password, limiter=self._limiter)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Take the same time whether or not there is something to compare with."""
        good = await trio.to_thread.run_sync(_verify, stored or _DECOY, password, limiter=self._limiter)
        return good and stored is not None


@define
class Turns:
    """One at a time for each key. Keys are kept only while somebody is at it, or waits."""

    _locks: dict[bytes, trio.Lock] = field(factory=dict)

    @asynccontextmanager
    async def turn(self, key: bytes) -> AsyncIterator[None]:
        """Raise Overloaded when too many wait for this key."""
        lock = self._locks.setdefault(key, trio.Lock())
        if lock.statistics().tasks_waiting >= TURNS_WAITING:
            raise Overloaded(retry_after_s=_RETRY_AFTER_S)
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(key, None)


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def bearer(header: str | None) -> str:
    """The token of an `Authorization` header. Raise Unauthenticated."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


def utc_now() -> datetime:
    return datetime.now(UTC)
