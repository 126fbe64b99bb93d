"""Commands and a database that is behind the program: nobody's schema is changed beneath the daemons that serve from it."""

from pathlib import Path
import re
from typing import Any, Final

import psycopg
import pytest
import trio

from opendesk.database import DatabaseBehind, make_ready_for_command
from opendesk.settings import load
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import connection, database_of, url_of
from tests.system.people import PASSWORD

COMMANDS: Final = (
    ["ledger", "verify"],
    ["wallet", "credit", "ana@example.org", "5"],
    ["admin", "ban", "ana@example.org"],
    ["admin", "create", "ana@example.org", "--password-stdin"],
)
BEHIND: Final = r"the database is behind this program \(it lacks 0001_rental.*\): .*run `opendesk migrate`"

_FORGET: Final = (
    "ALTER TABLE opendesk.migrations RENAME TO later; CREATE TABLE opendesk.migrations AS TABLE later WITH NO DATA"
)
_REMEMBER: Final = "INSERT INTO opendesk.migrations SELECT * FROM opendesk.later"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_a_command_refuses_a_server_of_ones_own_that_is_behind(
    folder: Path, empty_conninfo: str, command: list[str]
) -> None:
    done = await opendesk(*command, data_dir=folder, stdin=PASSWORD.encode(), DATABASE_URL=url_of(empty_conninfo))
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(f"Error: {BEHIND}", done.refusal)
    with psycopg.connect(empty_conninfo) as conn:
        assert conn.execute("SELECT to_regnamespace('opendesk')").fetchone() == (None,)


async def test_serve_brings_it_up_to_date_and_then_commands_work(
    start: Start, folder: Path, empty_conninfo: str
) -> None:
    place: dict[str, Any] = {"DATABASE_URL": url_of(empty_conninfo)}
    daemon = await start(folder, **place)
    assert "0001_rental" in daemon.said("database.migrated")[0]["applied"]
    assert (await opendesk("ledger", "verify", data_dir=folder, **place)).code == 0


async def test_an_embedded_database_that_nobody_serves_from_is_made_on_the_way(folder: Path) -> None:
    done = await opendesk("ledger", "verify", data_dir=folder / "new")
    assert (done.code, "0 sessions" in done.out) == (0, True)


async def test_an_embedded_database_that_a_daemon_serves_from_is_waited_for_and_not_changed(
    start: Start, data_dir: Path
) -> None:
    """A daemon that has just begun migrates it soon; an older one never does."""
    await start(data_dir)
    settings = load({"OPENDESK_DATA_DIR": str(data_dir)})
    async with database_of(data_dir) as conn:
        conninfo = conn.info.dsn
        await conn.execute("SET search_path TO opendesk")
        await conn.execute(_FORGET.encode())
        with pytest.raises(DatabaseBehind, match=BEHIND):
            await make_ready_for_command(conninfo, settings, wait_s=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(make_ready_for_command, conninfo, settings)
            await conn.execute(_REMEMBER.encode())


async def test_a_daemon_that_cannot_do_its_work_ends_and_says_why(folder: Path, conninfo: str) -> None:
    """An administrator took a table away; systemd starts it again, and the log says what to look for."""
    async with connection(conninfo) as conn:
        await conn.execute("ALTER TABLE login_attempts RENAME TO taken_away")
    done = await opendesk("serve", data_dir=folder, DATABASE_URL=url_of(conninfo))
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert re.match(
        r"Error: retention failed 6 times within 300 s, at last with UndefinedTable\(.*login_attempts", last
    )
    assert '"event":"service.gave_up"' in done.err.replace(": ", ":")
    assert not any(line.startswith("Traceback") for line in done.err.splitlines())
