"""What docs/database.md says of backups and of moving holds."""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from opendesk.postgres.embedded import binaries
from opendesk.postgres.embedded.account import Account
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import database_of, url_of
from tests.system.people import good, rent, settle_in


@pytest.fixture
def programs(tmp_path: Path) -> binaries.Binaries:
    found = binaries.find(Account(os.geteuid(), os.getegid()), tmp_path)
    if not Path(found.path("pg_dump")).exists():
        pytest.skip("this server came without pg_dump")
    return found


async def test_a_dump_of_the_embedded_database_is_served_from_another_server(
    start: Start, data_dir: Path, tmp_path: Path, empty_conninfo: str, programs: binaries.Binaries
) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
    session = await rent(people.client, people.pc_id)
    ended = good(await people.client.post(f"/sessions/{session['id']}/end", key="once"))
    socket_dir = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
    dump = str(tmp_path / "opendesk.dump")
    where = ["--host", socket_dir, "--username", "opendesk", "--dbname", "opendesk"]
    await trio.run_process([programs.path("pg_dump"), "--format=custom", "--schema=opendesk", "--file", dump, *where])
    assert await daemon.stop() == 0
    await trio.run_process(
        [
            programs.path("pg_restore"),
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
            "--dbname",
            empty_conninfo,
            dump,
        ]
    )
    place: dict[str, Any] = {"data_dir": tmp_path, "DATABASE_URL": url_of(empty_conninfo)}
    assert (await opendesk("ledger", "verify", **place)).code == 0
    moved = await start(tmp_path, DATABASE_URL=url_of(empty_conninfo))
    assert moved.said("database.migrated") == []
    # The same tokens, the same keys, the same money.
    people.client.http = moved.http
    again = await people.client.post(f"/sessions/{session['id']}/end", key="once")
    assert (again.json(), again.headers["idempotent-replayed"]) == (ended, "true")
    with psycopg.connect(empty_conninfo) as conn, pytest.raises(psycopg.errors.RestrictViolation):
        conn.execute("UPDATE opendesk.accounts SET balance = balance + 1")
    assert await moved.stop() == 0
