"""Rows as the daemon leaves them, and commands that tell of them, run in this process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from attrs import define
from click.testing import CliRunner, Result
import psycopg
from psycopg.types.json import Jsonb

from opendesk.cli import group
from tests.system.daemon import url_of

RESULT = {
    "changed": True,
    "online": True,
    "until": "2026-01-01T00:30:00.000Z",
    "dryRun": False,
    "steps": [
        {
            "menu": "/ip/hotspot/ip-binding",
            "verb": "add",
            "row": None,
            "attributes": {"address": "10.5.50.7", "type": "bypassed"},
            "why": "open",
        }
    ],
}
MAC, IP = "AA:BB:CC:DD:EE:01", "10.5.50.7"


def hash_of(event_id: str) -> bytes:
    return hashlib.sha256(event_id.encode()).digest()


@define
class Rows:
    """What is written is the least that a row needs, and what a test says."""

    conn: psycopg.Connection

    def run(self, statement: str, **values: Any) -> Any:
        cursor = self.conn.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        names = ", ".join(values)
        self.run(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f'%({name})s' for name in values)})", **values)

    def event(self, event_id: str, *, job: UUID | None = None, **more: Any) -> None:
        about = {"type": "RELEASE_REQUESTED", "router_id": "r1", "pedido_id": "pedido-1", "ip": IP, "mac": MAC}
        own = {"id_hash": hash_of(event_id), "dry_run": False, "event_id": event_id, "source": "backend", "job_id": job}
        self.insert("events", {**own, **about, "ack_lane": "/acks", **more})
        self.run(
            "UPDATE events SET validated_at = received_at, routed_at = received_at WHERE job_id = %(job)s", job=job
        )

    def refused(self, event_id: str, reason: str, error: str, **more: Any) -> None:
        result = Jsonb({"reason": reason, "error": error})
        self.event(event_id, ok=False, reason=reason, result=result, executed_at="2026-01-01", **more)

    def job(self, kind: str = "AUTHORIZE_BY_PEDIDO", *, lane: str = "r1", key: str = MAC, **more: Any) -> UUID:
        payload = more.pop("payload", {"pedidoId": "pedido-1"})
        row = self.run("SELECT opendesk.uuid7()")
        own = {"id": row[0], "type": kind, "lane": lane, "key": key, "payload": Jsonb(payload)}
        self.insert("jobs", {**own, **more})
        job_id: UUID = row[0]
        return job_id

    def ends(self, job: UUID, state: str, *, result: Any = None, error: str | None = None) -> None:
        self.run(
            "UPDATE jobs SET state = %(state)s, finished_at = now(), outcomes = 1, attempts = 1, result = %(result)s,"
            " last_error = %(error)s WHERE id = %(id)s",
            id=job,
            state=state,
            result=None if result is None else Jsonb(result),
            error=error,
        )

    def ack_is_taken(self) -> None:
        self.run(
            "UPDATE jobs SET state = 'done', finished_at = now(), result = '{\"status\": 200}' WHERE type = 'ACK_EVENT'"
        )

    def grant(self, **more: Any) -> UUID:
        (grant_id,) = self.run("SELECT opendesk.uuid7()")
        own = {"id": grant_id, "router_id": "r1", "pedido_id": "pedido-1", "ip": IP, "mac": MAC, "dry_run": False}
        self.insert("hotspot_grants", {**own, **more})
        return UUID(str(grant_id))

    def router(self, router_id: str = "r1", *, drives: bool = True, **more: Any) -> None:
        until = "infinity" if drives else "-infinity"
        self.insert("router_states", {"router_id": router_id, "leased_by": uuid4(), "leased_until": until, **more})


@contextmanager
def rows_in(conninfo: str) -> Iterator[Rows]:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        yield Rows(conn)


@define
class Shell:
    """`opendesk …` of one database."""

    conninfo: str
    folder: Path

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Result:
        env = {"DATABASE_URL": url_of(self.conninfo), "OPENDESK_DATA_DIR": str(self.folder)}
        return CliRunner(env=env).invoke(group, arguments, input=stdin, prog_name="opendesk")

    def good(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = self(*arguments, stdin=stdin)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.good(*arguments, "--json"))
