"""The stamps of signed calls: taken once, on whichever daemon, across restarts, and not long after they were made.

The database's clock decides, so that all daemons agree on what is too old, and none forgets a nonce that another would still take.
"""

from typing import Final

from attrs import define, field
import trio

from opendesk.errors import InvalidSignature
from opendesk.network.signatures import Stamp
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

# Of a pool's ten connections: at some 2000 statements a second each, a backend in a hurry doesn't keep all other callers from theirs.
AT_ONCE: Final = 4
# Deleted by one statement, some 50 ms.
FORGOTTEN_AT_ONCE: Final = 5_000

# A nonce is kept until its request would be too old, and for a window from now: one from the past isn't taken again sooner than one that was
# made just now.
_TAKE = """
    WITH asked AS MATERIALIZED (
        SELECT to_timestamp(%(sent_ms)s::bigint / 1000.0) AS sent_at, clock_timestamp() AS now,
               %(window_ms)s::bigint * interval '1 millisecond' AS span
    ), fresh AS MATERIALIZED (
        SELECT now, greatest(now, sent_at) + span AS forget_at FROM asked WHERE sent_at BETWEEN now - span AND now + span
    ), taken AS (
        INSERT INTO relay_nonces AS n (nonce, forget_at) SELECT %(nonce)s, forget_at FROM fresh
            ON CONFLICT (nonce) DO UPDATE SET forget_at = excluded.forget_at WHERE n.forget_at < (SELECT now FROM fresh)
     RETURNING true
    )
    SELECT EXISTS (SELECT FROM fresh), EXISTS (SELECT FROM taken)
"""
# Its age is asked again, as in `idempotency`: one that was taken anew meanwhile stays.
_FORGET = f"""
    DELETE FROM relay_nonces
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM relay_nonces WHERE forget_at < now() LIMIT {FORGOTTEN_AT_ONCE}))
       AND forget_at < now()
"""


@define
class Nonces:
    _pool: Pool
    window_ms: int
    _turns: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(AT_ONCE), init=False)

    async def take(self, stamp: Stamp) -> None:
        """Raise InvalidSignature for a stamp that was taken before, or is more than the window away from now."""
        values = {"sent_ms": stamp.sent_ms, "window_ms": self.window_ms, "nonce": stamp.nonce}
        async with self._turns, self._pool.connection() as conn:
            row = await conn.fetch_one(_TAKE, values)
        assert row is not None
        is_fresh, is_taken = row
        if not is_fresh:
            raise InvalidSignature(f"x-relay-ts is more than {self.window_ms} ms off our clock")
        if not is_taken:
            raise InvalidSignature("x-relay-nonce was used before")


async def forget_old(conn: TrioConnection) -> int:
    """How many nonces of requests that nobody would take any more are gone now."""
    total = 0
    while gone := await conn.run(_FORGET):
        total += gone
    return total
