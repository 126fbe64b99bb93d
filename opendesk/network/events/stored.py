"""Events in PostgreSQL: what is known of them by the hashes of their ids, and the rows of new ones."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from attrs import frozen
import msgspec

from opendesk.network.events.types import MOST_TYPE
from opendesk.network.jobs.shapes import told
from opendesk.postgres.driver import TrioConnection

# Of an event as it came: ours have 200 bytes, and what is wrong with others is seen at their beginning.
MOST_BODY: Final = 4096

# An event that is given again as soon as that is told anew no sooner: a backend that gives all that it ever had at each poll would have an ACK of
# each at each poll, and a row of each ACK kept for days. One that has lost an ACK waits no longer than it would for a slow router.
ACK_AGAIN_S: Final = 60.0
# To add an ACK to one that waits for its next try would hurry that: a backend that delivers all again each time would know no backoff.
# OFFSET 0 keeps it a probe for each: else all ACKs that wait might be read.
_KNOWN: Final = """
    SELECT id_hash, ok, reason, result,
           EXISTS (SELECT FROM jobs j WHERE j.lane = %(ack_lane)s AND j.key = encode(id_hash, 'hex') AND j.state IN ('due', 'running') OFFSET 0)
               OR acked_at > clock_timestamp() - %(ack_again_s)s * interval '1 second' AS is_being_told, dry_run
      FROM events WHERE id_hash = ANY (%(hashes)s) AND dry_run = %(dry_run)s
"""
# Decided by one statement with their job: some 65 ms, and the outcomes of other jobs are written with it.
EVENTS_A_JOB: Final = 1_000
_FULL: Final = """
    SELECT asked.id FROM unnest(%(jobs)s::uuid[]) AS asked (id)
     WHERE EXISTS (SELECT FROM events WHERE job_id = asked.id OFFSET %(most)s - 1)
"""
# In one order, so that of two who bring the same events one waits for the other, and neither in a circle.
_INSERT: Final = """
    INSERT INTO events (id_hash, dry_run, validated_at, routed_at, executed_at, ok, reason, job_id, event_id, type, source, trace_id,
                        router_id, pedido_id, ip, mac, body, result, ack_lane)
    SELECT decode(id_hash, 'hex'), %(dry_run)s, CASE WHEN is_valid THEN clock_timestamp() END, CASE WHEN is_routed THEN clock_timestamp() END,
           CASE WHEN ok IS NOT NULL THEN clock_timestamp() END, ok, reason, job_id, event_id, type, source, trace_id, router_id, pedido_id,
           ip, mac, body, result, ack_lane
      FROM json_to_recordset(%(rows)s::json)
           AS row (id_hash text, is_valid bool, is_routed bool, ok bool, reason text, job_id uuid, event_id text, type text, source text,
                   trace_id text, router_id text, pedido_id text, ip inet, mac macaddr, body text, result jsonb, ack_lane text)
     ORDER BY row.id_hash
        ON CONFLICT DO NOTHING
"""


@frozen
class Known:
    """What was made of an event that came before; `ok` is None while it waits. `result` goes with age, the rest stays.

    `is_being_told`: an ACK of it is on its way, or was taken a moment ago.
    """

    id_hash: bytes
    ok: bool | None
    reason: str | None
    result: dict[str, Any] | None
    is_being_told: bool
    dry_run: bool

    @property
    def told(self) -> dict[str, Any]:
        """What its ACK says."""
        if self.result is not None:
            return self.result
        reason = {} if self.reason is None else {"reason": self.reason}
        # A backend goes on giving what was only pretended.
        return reason | ({"dryRun": True} if self.dry_run else {})


@frozen
class EventRow:
    """One to be written: with a job that does it, or decided (`ok`)."""

    id_hash: str
    is_valid: bool
    is_routed: bool
    ok: bool | None
    reason: str | None
    job_id: UUID | None
    event_id: str | None
    type: str
    source: str
    trace_id: str
    router_id: str | None
    pedido_id: str | None
    ip: str | None
    mac: str | None
    body: str | None
    result: dict[str, Any] | None
    ack_lane: str | None


async def known(
    conn: TrioConnection, hashes: Sequence[bytes], *, dry_run: bool, ack_lane: str | None
) -> dict[bytes, Known]:
    values = {"hashes": list(hashes), "dry_run": dry_run, "ack_lane": ack_lane, "ack_again_s": ACK_AGAIN_S}
    rows = await conn.fetch(_KNOWN, values, row=Known)
    return {row.id_hash: row for row in rows}


async def full(conn: TrioConnection, jobs: Collection[UUID], *, most: int = EVENTS_A_JOB) -> set[UUID]:
    """Those that do as many events as one may."""
    return {row[0] for row in await conn.fetch(_FULL, {"jobs": list(jobs), "most": most})}


async def insert(conn: TrioConnection, rows: Sequence[EventRow], *, dry_run: bool) -> int:
    """How many of them nobody had brought before."""
    return await conn.run(_INSERT, {"rows": msgspec.json.encode(rows).decode(), "dry_run": dry_run})


def body_of(member: bytes) -> str:
    """As the database takes it: of what isn't text, something is left."""
    return member.decode(errors="replace").replace("\0", "\ufffd")[:MOST_BODY]


def type_of(name: str | None) -> str:
    """Empty where there was none: NULL says that the details are gone."""
    return told(name or "")[:MOST_TYPE]
