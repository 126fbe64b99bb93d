"""Backups of a database that is in use, and their way back; what docs/database.md says of them and of moving holds."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
import json
import os
from pathlib import Path
import random
import signal
import stat
import subprocess
import tarfile
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
import pytest
import trio

from opendesk.postgres.backups import programs as backup_programs
from opendesk.postgres.backups.programs import Programs
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded.lifetime import running_server
from opendesk.rental import ledger
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.crowd import move_in
from tests.system.daemon import (
    COMMAND,
    PATIENCE_S,
    Daemon,
    connection,
    database_of,
    environment,
    postgres_of,
    until,
    url_of,
)
from tests.system.people import good, rent, settle_in

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

_DATABASES: Final = "SELECT datname FROM pg_database WHERE datname LIKE 'opendesk%'"


@pytest.fixture
def programs() -> Programs:
    return backup_programs.find(14)


@pytest.fixture
def backups(folder: Path) -> Path:
    made = folder / "backups"
    made.mkdir()
    return made


async def told(*arguments: object, data_dir: Path) -> Any:
    """What a command that succeeds says of itself in JSON."""
    done = await opendesk(*map(str, arguments), "--json", data_dir=data_dir)
    assert done.code == 0, done
    return json.loads(done.out)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _largest(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.iterdir()), default=0)


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


async def counts(conn: TrioConnection) -> tuple[Any, ...] | None:
    return await conn.fetch_one("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM entries)")


async def databases(conninfo: str) -> set[str]:
    async with connection(make_conninfo(conninfo, dbname="postgres")) as conn:
        return {row[0] for row in await conn.fetch(_DATABASES)}


async def test_sessions_and_money_move_meanwhile_and_the_daemon_ends_for_the_next_to_serve_from_what_was_restored(
    start: Start, data_dir: Path, backups: Path
) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn, trio.open_nursery() as nursery:
        crowd = await move_in(daemon.http, conn, random.Random(7))
        crowd.begin(nursery)
        await crowd.works(20)
        made = await told("backup", backups, data_dir=data_dir)
        await crowd.works(20)
        await crowd.go_home()
    file, books = Path(made["file"]), made["facts"]["books"]
    assert books["ok"]
    assert (_mode(file), _names_in(backups)) == (0o600, [file.name])
    done = await told("restore", "--yes", file, data_dir=data_dir)
    assert (done["books"], done["daemon_is_told"]) == (books, True)
    assert await daemon.ended() == 1
    assert daemon.said("database.exchanged")
    (last_words,) = daemon.noise
    assert "another database took the place" in last_words
    daemon.noise.clear()
    again = await start(data_dir)
    async with database_of(data_dir) as conn:
        assert await databases(conn.info.dsn) == {"opendesk", done["kept_as"]}
        found = await ledger.verify(conn)
        assert (found.ok, found.entries) == (True, books["entries"])
        mine = crowd.clients[0]
        mine.http = again.http
        assert await mine.balance() == await _balance(conn, mine.id)
    assert await again.stop() == 0


async def _balance(conn: TrioConnection, user_id: str) -> int:
    row = await conn.fetch_one("SELECT balance FROM accounts WHERE user_id = %(id)s", {"id": user_id})
    assert row is not None
    return int(row[0])


async def _is_loading(conn: TrioConnection) -> bool:
    return await conn.fetch_one("SELECT FROM pg_database WHERE datname = 'opendesk_restoring'") is not None


async def _is_filling(conn: TrioConnection) -> bool:
    return await conn.fetch_one("SELECT FROM pg_stat_activity WHERE application_name = 'pg_restore'") is not None


async def _is_looked_through(conn: TrioConnection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = 'opendesk_restoring' AND application_name = ''"
    return await conn.fetch_one(query) is not None


async def _is_renaming(conn: TrioConnection) -> bool:
    return await conn.fetch_one("SELECT FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%'") is not None


async def _is_dumping(conn: TrioConnection) -> bool:
    return await conn.fetch_one("SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump'") is not None


async def _killed_when(is_so: Callable[[TrioConnection], Awaitable[bool]], data_dir: Path, *arguments: str) -> None:
    """A command, killed at the first sight of that; it may be over by then."""
    conninfo = await running_server(data_dir)
    assert conninfo is not None
    environ = environment({"OPENDESK_DATA_DIR": str(data_dir)})
    command = [*COMMAND, *arguments]
    async with connection(make_conninfo(conninfo, dbname="postgres")) as conn:
        process = await trio.lowlevel.open_process(command, env=environ, stdout=subprocess.DEVNULL)
        try:
            with trio.fail_after(PATIENCE_S):
                while process.returncode is None and not await is_so(conn):  # noqa: ASYNC110 - another process's state
                    await trio.sleep(0.001)
        finally:
            process.kill()
            await process.wait()


async def test_killed_before_its_last_step_a_restore_has_changed_nothing(
    start: Start, data_dir: Path, backups: Path
) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
        made = await told("backup", backups, data_dir=data_dir)
        session = await rent(people.client, people.pc_id)
        for is_so in (_is_loading, _is_filling, _is_looked_through):
            await _killed_when(is_so, data_dir, "restore", "--yes", made["file"])
            assert good(await people.client.get(f"/sessions/{session['id']}"))["session"]["status"] == "ACTIVE"
        assert not daemon.said("database.exchanged")
        await told("restore", "--check", made["file"], data_dir=data_dir)
        assert await databases(conn.info.dsn) == {"opendesk"}
    await _finds_no_room(data_dir, backups)
    assert await daemon.stop() == 0


async def _finds_no_room(data_dir: Path, backups: Path) -> None:
    """A backup that can't be written to its end leaves no half of it."""
    before = _names_in(backups)
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *COMMAND, "backup", str(backups)]
    environ = environment({"OPENDESK_DATA_DIR": str(data_dir)})
    done = await trio.run_process(limited, env=environ, check=False, capture_stderr=True)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].endswith("File too large")
    assert _names_in(backups) == before


async def test_killed_at_its_last_step_a_restore_leaves_the_old_one_or_the_new_one(
    start: Start, data_dir: Path, backups: Path
) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
        made = await told("backup", backups, data_dir=data_dir)
        then = await counts(conn)
        await rent(people.client, people.pc_id)
        now = await counts(conn)
        with suppress(psycopg.OperationalError):  # it ends with its daemon
            await _killed_when(_is_renaming, data_dir, "restore", "--yes", made["file"])
    if await _was_exchanged(daemon):
        assert await daemon.ended() == 1
        daemon.noise.clear()
        daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        is_new = len(await databases(conn.info.dsn) - {"opendesk_restoring"}) > 1
        assert await counts(conn) == (then if is_new else now)
        assert (await ledger.verify(conn)).ok
    assert await daemon.stop() == 0


async def _was_exchanged(daemon: Daemon) -> bool:
    """Whether it ends, or goes on to serve."""
    while not daemon.said("database.exchanged"):
        with suppress(Exception):
            if (await daemon.http.get("/health/ready")).status_code == 200:
                await trio.sleep(0.1)
                return bool(daemon.said("database.exchanged"))
    return True


async def test_killed_at_any_step_a_backup_leaves_no_file_and_nothing_that_goes_on(
    start: Start, data_dir: Path, backups: Path
) -> None:
    async def has_part(_conn: TrioConnection) -> bool:
        await trio.lowlevel.checkpoint()
        return bool(_names_in(backups))

    async def is_written(_conn: TrioConnection) -> bool:
        await trio.lowlevel.checkpoint()
        return _largest(backups) > tarfile.BLOCKSIZE

    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        await settle_in(daemon.http, conn)
        for is_so in (has_part, _is_dumping, is_written):
            await _killed_when(is_so, data_dir, "backup", str(backups))
            assert [name for name in _names_in(backups) if name.endswith(".tar")] == []

            async def is_over() -> bool:
                return not await _is_dumping(conn)

            await until(is_over)
        made = await told("backup", backups, data_dir=data_dir)
        assert _names_in(backups) == [Path(made["file"]).name]
    assert await daemon.stop() == 0


async def test_what_was_answered_is_in_the_old_one_whatever_a_restore_went_through(
    start: Start, data_dir: Path, backups: Path
) -> None:
    """Money moves while the server dies in the first, and while the second takes the place."""
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        crowd = await move_in(daemon.http, conn, random.Random(11))
    async with trio.open_nursery() as nursery:
        crowd.begin(nursery)
        await crowd.works(20)
        made = await told("backup", backups, data_dir=data_dir)
        await crowd.works(20)
        assert "the database's server ended meanwhile" in await _refused_when_the_server_dies(data_dir, made["file"])
        await crowd.works(20)
        done = await told("restore", "--yes", made["file"], data_dir=data_dir)
        nursery.cancel_scope.cancel()
    assert await daemon.ended() == 1
    daemon.noise.clear()
    again = await start(data_dir)
    async with database_of(data_dir) as conn, connection(make_conninfo(conn.info.dsn, dbname=done["kept_as"])) as old:
        assert (await ledger.verify(conn)).entries == made["facts"]["books"]["entries"]
        assert (await ledger.verify(old)).ok
        await crowd.compare(old)
    assert await again.stop() == 0


async def _refused_when_the_server_dies(data_dir: Path, file: str) -> str:
    """What `opendesk restore` says then."""
    refused: list[str] = []

    async def restore() -> None:
        done = await opendesk("restore", "--yes", file, data_dir=data_dir)
        refused.append(done.err if done.code == 1 else repr(done))

    conninfo = await running_server(data_dir)
    assert conninfo is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restore)
        async with connection(make_conninfo(conninfo, dbname="postgres")) as conn:
            await until(partial(_is_filling, conn))
            server = postgres_of(data_dir)
            assert server is not None
            os.kill(server, signal.SIGKILL)
    return refused[0]


async def test_old_backups_go_when_a_new_one_is_good(data_dir: Path, backups: Path) -> None:
    """Without a daemon, too: the command runs the server meanwhile."""
    for name in ("opendesk_20200101_000000.tar", "opendesk_20210101_000000.tar", "my.tar"):
        (backups / name).touch()
    made = await told("backup", backups, "--keep", "2", data_dir=data_dir)
    assert made["removed"] == ["opendesk_20200101_000000.tar"]
    assert _names_in(backups) == ["my.tar", "opendesk_20210101_000000.tar", Path(made["file"]).name]
    refused = await opendesk("backup", made["file"], data_dir=data_dir)
    assert "is there already" in refused.refusal
    nobody = await opendesk("restore", made["file"], data_dir=data_dir)
    assert (nobody.code, "--yes" in nobody.err) == (2, True)


async def test_with_a_server_of_ones_own_there_are_backups_and_the_way_back_is_by_hand(
    conninfo: str, backups: Path
) -> None:
    made = await opendesk("backup", str(backups / "one.tar"), "--json", DATABASE_URL=url_of(conninfo))
    assert made.code == 0, made
    refused = await opendesk("restore", str(backups / "one.tar"), "--yes", DATABASE_URL=url_of(conninfo))
    assert (refused.code, "docs/database.md" in refused.err) == (2, True)


async def test_a_dump_of_the_embedded_database_is_served_from_another_server(
    start: Start, data_dir: Path, tmp_path: Path, empty_conninfo: str, programs: Programs
) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
    session = await rent(people.client, people.pc_id)
    ended = good(await people.client.post(f"/sessions/{session['id']}/end", key="once"))
    await told("backup", tmp_path / "opendesk.tar", data_dir=data_dir)
    await trio.run_process(["tar", "-xf", tmp_path / "opendesk.tar", "-C", tmp_path, "opendesk.dump"])
    dump = str(tmp_path / "opendesk.dump")
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
