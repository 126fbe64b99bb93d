"""Details of events are kept for a time, the hashes of their ids for good."""

from typing import Final

from opendesk.postgres.driver import TrioConnection

# Written anew by one statement: some milliseconds a thousand, in which nobody waits for it.
FORGOTTEN_AT_ONCE: Final = 2_000

# Only what is decided, however old: what waits is still to be done and told.
_FORGET: Final = """
    UPDATE events
       SET event_id = NULL, type = NULL, source = NULL, trace_id = NULL, router_id = NULL, pedido_id = NULL, ip = NULL, mac = NULL,
           body = NULL, result = NULL, outcome = NULL, ack_lane = NULL
     WHERE (id_hash, dry_run) IN (
               SELECT id_hash, dry_run FROM events
                WHERE received_at < now() - %(days)s * interval '1 day' AND type IS NOT NULL AND ok IS NOT NULL
                ORDER BY received_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""
# What a dry run has left, and whose job is kept no longer: nobody decides it any more. The next dry run may be told of it anew.
_FORGET_LEFT: Final = """
    DELETE FROM events WHERE dry_run AND ok IS NULL AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = job_id)
"""


async def forget_details(conn: TrioConnection, days: int) -> int:
    """Of events that are older than EVENTS_RETENTION_DAYS; of how many."""
    total = 0
    while forgotten := await conn.run(_FORGET, {"days": days, "limit": FORGOTTEN_AT_ONCE}):
        total += forgotten
    return total


async def forget_left(conn: TrioConnection) -> int:
    """Pretended events that nobody will decide; how many."""
    return await conn.run(_FORGET_LEFT)
