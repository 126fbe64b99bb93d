"""What the rooms of this daemon know of who was there, written for whoever ends their sessions, on whichever daemon."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
import trio

from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.stream.presence import Presence, Presences
from opendesk.supervise import alive

log = structlog.get_logger()

# One write a second for all rooms in which something changed. An `end` reads it, and what counts there is half a minute.
EVERY_S: Final = 1.0

# Also when nothing changes: what is older than migrations/0002_stream.sql says is of a relay that is gone, and proves nothing.
AT_LEAST_EVERY_S: Final = 5.0

# By ages, since facts are told by the database's clock. A byte that was passed on stays so, even if this relay forgot it.
_WRITE: Final = """
    INSERT INTO stream_presence (session_id, node, host_down_since, client_up_since, last_byte_at, client_left_at, seen_at)
    SELECT s.id, %(node)s, now() - r.down * interval '1 second', now() - r.up * interval '1 second', now() - r.byte * interval '1 second',
           now() - r.gone * interval '1 second', now()
      FROM unnest(%(id)s::uuid[], %(down)s::float8[], %(up)s::float8[], %(byte)s::float8[], %(gone)s::float8[]) AS r (id, down, up, byte, gone)
           JOIN sessions s ON s.id = r.id AND s.status IN ('PENDING', 'ACTIVE')
     ORDER BY s.id
        ON CONFLICT (session_id, node) DO UPDATE
       SET host_down_since = excluded.host_down_since, client_up_since = excluded.client_up_since,
           last_byte_at = greatest(stream_presence.last_byte_at, excluded.last_byte_at), client_left_at = excluded.client_left_at,
           seen_at = excluded.seen_at
"""
_FORGET: Final = """
    DELETE FROM stream_presence p USING sessions s WHERE s.id = p.session_id AND s.status NOT IN ('PENDING', 'ACTIVE')
"""


async def record_presence(pool: Pool, node: UUID, presences: Presences) -> None:
    """A service of the daemon, whose id `node` is."""
    while True:
        alive(wait_s=EVERY_S)
        await trio.sleep(EVERY_S)
        due = [(session, presence) for session, presence in presences.known(trio.current_time()) if _is_due(presence)]
        if due:
            try:
                await write(pool, node, due)
            except AWAY as error:
                log.warning("relay.presence_not_written", rooms=len(due), error=repr(error))


async def write(pool: Pool, node: UUID, due: Sequence[tuple[UUID, Presence]]) -> None:
    async with pool.connection() as conn:
        # Only now: what waiting for a connection took would make all of it later than it was.
        now_s = trio.current_time()
        facts = [presence.facts for _, presence in due]
        down, up, byte, gone = (
            [None if at_s is None else now_s - at_s for at_s in column] for column in zip(*facts, strict=True)
        )
        ages = {"down": down, "up": up, "byte": byte, "gone": gone}
        await conn.run(_WRITE, {"node": node, "id": [session for session, _ in due], **ages})
        await conn.run(_FORGET)
    for (_, presence), written in zip(due, facts, strict=True):
        presence.written, presence.written_s = written, now_s


def _is_due(presence: Presence) -> bool:
    return presence.facts != presence.written or trio.current_time() - presence.written_s >= AT_LEAST_EVERY_S
