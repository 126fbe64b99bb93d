"""Events as a backend writes them, and an inbox that takes them on a database, without routers."""

from collections.abc import Callable, Mapping
import json
from typing import Any, Final
from uuid import uuid4

from attrs import define, field
from prometheus_client.parser import text_string_to_metric_families

from opendesk.network.events.figures import EventFigures
from opendesk.network.events.inbox import Inbox, Source, Taken
from opendesk.network.events.types import hash_of
from opendesk.network.routers.fleet import Fleet
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import load

Json = dict[str, Any]

ROUTERS: Final = ("r1", "r2")
MAC: Final = "AA:BB:CC:DD:EE:01"
IP: Final = "10.5.50.7"


def event(event_id: str = "e1", kind: str = "RELEASE_REQUESTED", **payload: Any) -> Json:
    """For the usual device, unless it is told of another; None leaves a member out."""
    whole: Json = {"mikId": "r1", "ip": IP, "mac": MAC}
    if kind != "REVOKE_REQUESTED":
        whole["pedidoId"] = "1"
    whole |= payload
    left = {name: value for name, value in whole.items() if value is not None}
    return {"eventId": event_id, "type": kind, "payload": left}


def release(event_id: str = "e1", **payload: Any) -> Json:
    return event(event_id, **payload)


def trial(event_id: str = "e1", **payload: Any) -> Json:
    return event(event_id, "TRIAL_REQUESTED", **payload)


def revoke(event_id: str = "e1", **payload: Any) -> Json:
    return event(event_id, "REVOKE_REQUESTED", **payload)


def device(number: int) -> Json:
    """The addresses of one of many."""
    return {
        "ip": f"10.5.{number // 250}.{number % 250 + 1}",
        "mac": f"AA:BB:CC:00:{number // 256:02X}:{number % 256:02X}",
    }


def raw(*events: Any) -> list[bytes]:
    return [one if isinstance(one, bytes) else json.dumps(one).encode() for one in events]


@define(eq=False)
class Taker:
    """An inbox, and what it says."""

    inbox: Inbox
    conn: TrioConnection
    metrics: Metrics
    fleet: Fleet
    audited: list[str] = field(factory=list)

    async def take(self, *events: Any, source: Source = "backend") -> Taken:
        return await self.inbox.take(raw(*events), source)

    async def row(self, event_id: str = "e1") -> Mapping[str, Any]:
        """What is stored of one event."""
        (found,) = await self.conn.fetch(
            "SELECT row_to_json(e)::jsonb FROM events e WHERE id_hash = %(hash)s", {"hash": hash_of(event_id)}
        )
        row: Mapping[str, Any] = found[0]
        return row

    async def acks(self) -> list[Json]:
        """As they would be sent, the oldest first."""
        found = await self.conn.fetch("SELECT payload ->> 'body' FROM jobs WHERE type = 'ACK_EVENT' ORDER BY seq")
        return [json.loads(body) for (body,) in found]

    async def jobs(self) -> list[tuple[Any, ...]]:
        """Types, keys and ids of those that wait for routers, the oldest first."""
        return await self.conn.fetch(
            "SELECT type, key, id FROM jobs WHERE type NOT IN ('ACK_EVENT', 'END_GRANT') AND state = 'due' ORDER BY seq"
        )

    async def live(self) -> list[tuple[Any, ...]]:
        """Orders, MACs and whether it is a trial, of what is granted now."""
        return await self.conn.fetch(
            "SELECT pedido_id, upper(mac::text), trial FROM hotspot_grants WHERE ended_at IS NULL ORDER BY id"
        )

    async def do(self, job_id: Any, state: str = "done", **result: Any) -> None:
        """As if a router had been made to follow, or had refused it for good."""
        await self.conn.run(
            "UPDATE jobs SET state = %(state)s, finished_at = now(), result = %(result)s::jsonb,"
            " last_error = CASE WHEN %(state)s = 'dead' THEN 'ROUTER_REFUSED: no' END WHERE id = %(id)s",
            {"id": job_id, "state": state, "result": json.dumps({"online": True, **result})},
        )

    def figure(self, kind: str, outcome: str) -> float:
        families = text_string_to_metric_families(self.metrics.render().decode())
        wanted = {"type": kind, "outcome": outcome}
        found = (
            s.value for f in families for s in f.samples if s.name == "opendesk_events_total" and s.labels == wanted
        )
        return next(found, 0.0)


def taker(
    pool: Pool,
    conn: TrioConnection,
    *,
    acks: bool = True,
    peer_silent_for: Callable[[str], float | None] = lambda _key: None,
    **settings: str,
) -> Taker:
    """One whose fleet knows the routers, and drives none."""
    nodes = json.dumps([{"id": name, "host": "127.0.0.1", "port": 1, "user": "u", "pass": "p"} for name in ROUTERS])
    wanted = load({"OPENDESK_DATA_DIR": "/nowhere", "RELAY_TOKEN": "t" * 32, "MIKROTIK_NODES": nodes, **settings})

    async def listen() -> TrioConnection:
        raise NotImplementedError

    fleet, metrics, audited = Fleet(pool, listen, wanted, uuid4()), Metrics(), list[str]()
    inbox = Inbox(pool, fleet, Audit(audited.append), EventFigures(metrics), acks, peer_silent_for)
    return Taker(inbox, conn, metrics, fleet, audited)
