"""`Idempotency-Key`: the answer is written in the transaction that it guards, so a crash leaves neither.

Two requests with one key meet at an advisory lock, which is never waited for: the second looks whether the first has answered, and
is told that it is running if not.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
import re
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.errors import FieldFault, IdempotencyInProgress, IdempotencyKeyReused
from opendesk.postgres.driver import TrioConnection
from opendesk.web.reading import refused

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

# How long an answer is kept (contracts/README.md).
KEPT_HOURS: Final = 24

# Answers deleted by one statement, some 50 ms: a day's worth after a long stop would run into the statement's time-out again and again.
FORGOTTEN_AT_ONCE: Final = 5_000

_OVER = f"k.created_at < now() - interval '{KEPT_HOURS} hours'"

# One that is past its time and not swept up yet counts as new.
_TAKE = f"""
    INSERT INTO idempotency_keys AS k (caller, key, fingerprint)
    SELECT %(caller)s, %(key)s, %(fingerprint)s
     WHERE pg_try_advisory_xact_lock(%(lock)s)
        ON CONFLICT (caller, key) DO UPDATE
       SET fingerprint = CASE WHEN {_OVER} THEN excluded.fingerprint ELSE k.fingerprint END,
           status = CASE WHEN {_OVER} THEN NULL ELSE k.status END,
           body = CASE WHEN {_OVER} THEN NULL ELSE k.body END,
           created_at = CASE WHEN {_OVER} THEN excluded.created_at ELSE k.created_at END
 RETURNING fingerprint, status, body
"""
# For those who didn't get the lock. Whoever has it may be the first, or one like them who is just being given the first one's answer:
# that was there before the lock was free, so a statement that begins now sees it.
_FIND = f"""
    SELECT fingerprint, status, body FROM idempotency_keys k
     WHERE caller = %(caller)s AND key = %(key)s AND status IS NOT NULL AND NOT {_OVER}
"""
_STORE = "UPDATE idempotency_keys SET status = %(status)s, body = %(body)s WHERE caller = %(caller)s AND key = %(key)s"
# Its age is asked again: of one that was taken anew while this waited for it, servers from before late 2025 don't see that it has
# another place now, and would delete it.
_FORGET = f"""
    DELETE FROM idempotency_keys k
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys k WHERE {_OVER} LIMIT {FORGOTTEN_AT_ONCE}))
       AND {_OVER}
"""


@frozen
class StoredAnswer:
    status: int
    body: bytes
    replayed: bool = False


@frozen
class Guard:
    """One request's key: whose, and what it stands for."""

    caller: UUID
    key: str
    fingerprint: bytes

    @classmethod
    def of(cls, caller: UUID, key: str, method: str, path: str, body: bytes) -> "Guard":
        """Raise ValidationFailed when the key isn't 1–255 visible ASCII characters."""
        if _KEY.fullmatch(key) is None:
            raise refused([FieldFault("/Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
        return cls(caller, key, sha256(b"\n".join([method.encode(), path.encode(), body])).digest())

    @property
    def _lock(self) -> int:
        digest = sha256(self.caller.bytes + self.key.encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    async def run(self, conn: TrioConnection, unit: Callable[[], Awaitable[StoredAnswer]]) -> StoredAnswer:
        """Do `unit` and keep its answer, in one transaction; or give the answer that was kept.

        Raise IdempotencyInProgress, IdempotencyKeyReused, or what the unit raises: then nothing is kept.
        """
        async with conn.transaction():
            kept = await self._take(conn)
            if kept is not None:
                return kept
            answer = await unit()
            values = {"status": answer.status, "body": answer.body, "caller": self.caller, "key": self.key}
            await conn.run(_STORE, values)
            return answer

    async def _take(self, conn: TrioConnection) -> StoredAnswer | None:
        values = {"caller": self.caller, "key": self.key, "fingerprint": self.fingerprint, "lock": self._lock}
        row = await conn.fetch_one(_TAKE, values) or await conn.fetch_one(_FIND, values)
        if row is None:
            raise IdempotencyInProgress(retry_after_s=1)
        fingerprint, status, body = row
        if bytes(fingerprint) != self.fingerprint:
            raise IdempotencyKeyReused
        return None if status is None else StoredAnswer(status, bytes(body), replayed=True)


async def forget_old_keys(conn: TrioConnection) -> int:
    """How many answers were past their time and are gone now."""
    total = 0
    while gone := await conn.run(_FORGET):
        total += gone
    return total
