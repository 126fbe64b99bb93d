"""One role owns the schema and migrates, another has data rights only and serves."""

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
import pytest

from opendesk.database import GRANTS
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import connection, url_of
from tests.system.people import beating, good, rent, reserve, settle_in


@pytest.fixture
def role(server: str) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"serving_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    yield name
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def limited(conninfo: str, role: str) -> Iterator[str]:
    """The database as that role reaches it."""
    yield make_conninfo(conninfo, user=role)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))


async def test_every_table_is_thought_of(conninfo: str) -> None:
    async with connection(conninfo) as conn:
        rows = await (await conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'opendesk'")).fetchall()
    granted = set(re.findall(r"opendesk\.(\w+)", GRANTS.read_text()))
    assert {name for (name,) in rows} == granted


async def test_a_day_is_served_with_data_rights_only(
    start: Start, folder: Path, conninfo: str, limited: str, role: str
) -> None:
    done = await opendesk("migrate", "--grant", role, data_dir=folder, DATABASE_URL=url_of(conninfo))
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{role} may serve.")
    quick: dict[str, Any] = {
        "SESSION_PENDING_TIMEOUT_MS": "300",
        "HOST_HEARTBEAT_TIMEOUT_MS": "2000",
        "HOST_HEARTBEAT_CHECK_INTERVAL_MS": "100",
    }
    daemon = await start(folder, DATABASE_URL=url_of(limited), **quick)
    async with connection(conninfo) as owner:
        people = await settle_in(daemon.http, owner)
        async with beating(people.host):
            ended = await rent(people.client, people.pc_id)
            good(await people.client.post(f"/sessions/{ended['id']}/end", key="once"))
            body = {"amount": 1, "reason": "GOODWILL"}
            good(await people.admin.post(f"/sessions/{ended['id']}/refund", body, key="refund"))
            given_up = await reserve(people.client, people.pc_id)
        await daemon.says("hosts.timed_out")  # nobody beats any more
        found = good(await people.client.get(f"/sessions/{given_up['id']}"))["session"]
        assert found["endReason"] in {"NEVER_STARTED", "HOST_TIMEOUT"}
    for command in (["ledger", "verify"], ["migrate", "--check"], ["admin", "ban", people.host.email]):
        assert (await opendesk(*command, data_dir=folder, DATABASE_URL=url_of(limited))).code == 0
    backup = await opendesk("backup", str(folder / "day.tar"), data_dir=folder, DATABASE_URL=url_of(limited))
    assert (backup.code, backup.err) == (0, "")
    assert await daemon.stop() == 0


FORBIDDEN = (
    "UPDATE accounts SET balance = balance + 1",
    "UPDATE entries SET amount = amount + 1",
    "UPDATE transfers SET made_by = NULL",
    "DELETE FROM entries",
    "DELETE FROM sessions",
    "TRUNCATE entries",
    "ALTER TABLE accounts DISABLE TRIGGER USER",
    "DROP TABLE entries",
    "CREATE TABLE opendesk.more (id int)",
    "UPDATE migrations SET name = 'x'",
    "UPDATE secrets SET value = ''",
    "SELECT setval(pg_get_serial_sequence('opendesk.jobs', 'seq'), 1)",
    # The trigger's function has its owner's rights: on a table of one's own it would post what are no entries.
    """CREATE TEMP TABLE mine (transfer_id uuid, account_id bigint, amount bigint);
       CREATE TRIGGER post AFTER INSERT ON mine REFERENCING NEW TABLE AS posted
           FOR EACH STATEMENT EXECUTE FUNCTION opendesk.post_entries()""",
)


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_a_role_that_serves_is_refused(conninfo: str, limited: str, role: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(GRANTS.read_text().replace(':"role"', role).encode())
    with psycopg.connect(limited, autocommit=True) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())


async def test_a_role_that_may_not_migrate_says_who_may(folder: Path, empty_conninfo: str, role: str) -> None:
    url = url_of(make_conninfo(empty_conninfo, user=role))
    for command in ("serve", "migrate"):
        done = await opendesk(command, data_dir=folder, DATABASE_URL=url)
        assert done.code == 1
        assert "run `opendesk migrate` as the role that owns the schema" in done.refusal


async def test_a_role_without_any_rights_is_told_in_one_line(folder: Path, limited: str) -> None:
    done = await opendesk("serve", data_dir=folder, DATABASE_URL=url_of(limited))
    assert "permission denied for schema opendesk" in done.refusal
    assert "docs/database.md" in done.refusal


async def test_a_role_that_does_not_exist_is_told(folder: Path, conninfo: str) -> None:
    done = await opendesk("migrate", "--grant", "nobody's", data_dir=folder, DATABASE_URL=url_of(conninfo))
    assert done.refusal == "Error: there is no database role nobody's: make it with CREATE ROLE first"
