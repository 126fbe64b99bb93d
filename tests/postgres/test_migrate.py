"""Migrations are applied once, in order, all or nothing; and what is not ours, or newer than us, is left alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.migrate import (
    LOCK,
    Applied,
    BadMigrationFiles,
    DatabaseTooNew,
    Migration,
    MigrationChanged,
    MigrationFailed,
    MigrationLockTimeout,
    SchemaNotOurs,
    ServerTooOld,
    applied,
    check_version,
    load,
    migrate,
    parse,
    pending,
    plan,
)

FIRST = Migration(1, "first", "CREATE TABLE opendesk.things (n integer); INSERT INTO opendesk.things VALUES (1);")
SECOND = Migration(2, "second", "INSERT INTO things VALUES (2)")
BROKEN = Migration(3, "broken", "INSERT INTO things VALUES ('three')")


@pytest.fixture
async def empty(empty_conninfo: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(empty_conninfo, autocommit=True) as conn:
        yield conn


async def value(conn: psycopg.AsyncConnection[Any], query: str) -> Any:
    row = await (await conn.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("0010_j", "0002_b", "0001_a", *(f"000{n}_x" for n in range(3, 10))):
        (tmp_path / f"{name}.sql").write_text(name)
    (tmp_path / "README.md").write_text("not a migration")
    assert [migration.version for migration in load(tmp_path)] == list(range(1, 11))
    assert load(tmp_path)[0] == Migration(1, "a", "0001_a")


@pytest.mark.parametrize("names", [["0002_b"], ["0001_a", "0003_c"], ["0001_a", "0001_b"], ["0000_a"]])
def test_gaps_and_doubles_in_the_numbers_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").touch()
    with pytest.raises(BadMigrationFiles, match="expected a migration with number"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["1_a.sql", "0001-a.sql", "0001_A b.sql", "0001_a.SQL", "00001_a.sql"])
def test_names_that_are_not_numbered_are_refused(name: str) -> None:
    with pytest.raises(BadMigrationFiles, match="NNNN_name"):
        parse(name, "")


def test_plan_is_what_is_missing() -> None:
    done = Applied(1, "first", FIRST.checksum)
    assert plan([FIRST, SECOND], []) == (FIRST, SECOND)
    assert plan([FIRST, SECOND], [done]) == (SECOND,)
    assert plan([FIRST], [done]) == ()


def test_list_of_applied_with_a_hole_is_refused() -> None:
    with pytest.raises(SchemaNotOurs, match="no number 0001"):
        plan([FIRST, SECOND], [Applied(2, "second", SECOND.checksum)])


def test_server_older_than_14_is_refused() -> None:
    check_version(140000)
    with pytest.raises(ServerTooOld, match="is PostgreSQL 13; 14 or newer"):
        check_version(130022)


async def test_what_is_missing_is_applied_once(empty: TrioConnection) -> None:
    assert await pending(empty, migrations=[FIRST]) == ["0001_first"]
    assert await migrate(empty, migrations=[FIRST]) == ["0001_first"]
    assert await migrate(empty, migrations=[FIRST]) == []
    assert await migrate(empty, migrations=[FIRST, SECOND]) == ["0002_second"]
    assert await pending(empty, migrations=[FIRST, SECOND]) == []
    assert [str(done) for done in await applied(empty)] == ["0001_first", "0002_second"]
    assert await value(empty, "SELECT sum(n) FROM opendesk.things") == 3


async def test_pending_changes_nothing(empty: TrioConnection) -> None:
    await pending(empty, migrations=[FIRST])
    assert await value(empty, "SELECT to_regnamespace('opendesk')") is None


async def test_a_run_that_fails_leaves_nothing_of_it(empty: TrioConnection) -> None:
    with pytest.raises(MigrationFailed, match=r"0003_broken failed, and nothing was changed.*three"):
        await migrate(empty, migrations=[FIRST, SECOND, BROKEN])
    assert await value(empty, "SELECT to_regnamespace('opendesk')") is None
    await migrate(empty, migrations=[FIRST])
    with pytest.raises(MigrationFailed):
        await migrate(empty, migrations=[FIRST, SECOND, BROKEN])
    assert await value(empty, "SELECT sum(n) FROM opendesk.things") == 1
    assert [done.version for done in await applied(empty)] == [1]


async def test_migration_that_ends_the_transaction_is_refused(empty: TrioConnection) -> None:
    with pytest.raises(BadMigrationFiles, match="0001_commits ends the transaction"):
        await migrate(empty, migrations=[Migration(1, "commits", "SELECT 1; COMMIT;")])


@pytest.mark.parametrize("options", ["", "-c default_transaction_isolation=repeatable\\ read"])
async def test_many_at_once_apply_it_once(empty_conninfo: str, options: str) -> None:
    results: list[list[str]] = []
    slow = Migration(1, "slow", f"SELECT pg_sleep(0.05); {FIRST.sql}")

    async def one() -> None:
        async with await TrioConnection.connect(empty_conninfo, autocommit=True, options=options) as conn:
            results.append(await migrate(conn, migrations=[slow, SECOND]))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sorted(results) == [[]] * 7 + [["0001_slow", "0002_second"]]


async def test_database_of_a_newer_program_is_refused(empty: TrioConnection) -> None:
    await migrate(empty, migrations=[FIRST, SECOND])
    for call in (migrate, pending):
        with pytest.raises(DatabaseTooNew, match=r"has migration 0002_second.*newest is 0001"):
            await call(empty, migrations=[FIRST])


async def test_a_newer_programs_is_one_too_where_there_is_a_gap(empty: TrioConnection) -> None:
    await migrate(empty, migrations=[FIRST])
    await empty.run("UPDATE opendesk.migrations SET version = 9999")
    with pytest.raises(DatabaseTooNew, match="a newer OpenDesk migrated this: it has migration 9999_first"):
        await pending(empty, migrations=[FIRST])


async def test_file_that_was_changed_after_it_was_applied_is_refused(empty: TrioConnection) -> None:
    await migrate(empty, migrations=[FIRST])
    with pytest.raises(MigrationChanged, match="0001_first is not the file"):
        await migrate(empty, migrations=[Migration(1, "first", FIRST.sql + " "), SECOND])
    assert [done.version for done in await applied(empty)] == [1]


@pytest.mark.parametrize("theirs", ["CREATE TABLE opendesk.users ()", "CREATE TABLE opendesk.migrations (id integer)"])
async def test_schema_of_somebody_else_is_refused(empty: TrioConnection, theirs: str) -> None:
    await empty.execute("CREATE SCHEMA opendesk")
    await empty.execute(theirs.encode())
    with pytest.raises(SchemaNotOurs, match="a database of its own"):
        await migrate(empty, migrations=[FIRST])
    assert await value(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'opendesk'") == 1


async def test_role_without_the_right_to_make_schemas_takes_an_empty_one_of_its_own(
    empty: TrioConnection, empty_conninfo: str
) -> None:
    async with as_new_role(empty, empty_conninfo) as conn:
        with pytest.raises(MigrationFailed, match="permission denied for database"):
            await migrate(conn, migrations=[FIRST])
        await empty.execute(f"CREATE SCHEMA opendesk AUTHORIZATION {conn.info.user}".encode())
        assert await migrate(conn, migrations=[FIRST]) == ["0001_first"]


async def test_role_with_data_rights_only_may_start_where_nothing_is_missing(
    empty: TrioConnection, empty_conninfo: str
) -> None:
    await migrate(empty, migrations=[FIRST])
    async with as_new_role(empty, empty_conninfo) as conn:
        await empty.execute(f"GRANT USAGE ON SCHEMA opendesk TO {conn.info.user}".encode())
        await empty.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA opendesk TO {conn.info.user}".encode())
        assert await migrate(conn, migrations=[FIRST]) == []
        with pytest.raises(MigrationFailed, match="permission denied"):
            await migrate(conn, migrations=[FIRST, SECOND])


async def test_wait_for_another_program_ends(empty: TrioConnection, empty_conninfo: str) -> None:
    async with await TrioConnection.connect(empty_conninfo, autocommit=True) as other:
        await other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(MigrationLockTimeout, match="more than 50 ms"):
            await migrate(empty, migrations=[FIRST], lock_timeout_ms=50)
    assert await migrate(empty, migrations=[FIRST]) == ["0001_first"]


async def test_wait_for_a_table_ends(empty: TrioConnection, empty_conninfo: str) -> None:
    await migrate(empty, migrations=[FIRST])
    async with await TrioConnection.connect(empty_conninfo) as other:
        await other.execute("SELECT * FROM opendesk.things")
        with pytest.raises(MigrationFailed, match="lock timeout"):
            await migrate(empty, migrations=[FIRST, Migration(2, "alter", "DROP TABLE things")], lock_timeout_ms=50)


async def test_settings_of_the_connection_stay_what_they_were(empty_conninfo: str) -> None:
    options = "-c statement_timeout=5s -c lock_timeout=3s -c search_path=public"
    async with await TrioConnection.connect(empty_conninfo, autocommit=True, options=options) as conn:
        await migrate(conn, migrations=[FIRST])
        settings = [await value(conn, f"SHOW {name}") for name in ("statement_timeout", "lock_timeout", "search_path")]
        assert settings == ["5s", "3s", "public"]


async def test_connection_without_autocommit_will_do(empty_conninfo: str) -> None:
    async with await TrioConnection.connect(empty_conninfo) as conn:
        await migrate(conn, migrations=[FIRST])
        await conn.rollback()
        assert [done.version for done in await applied(conn)] == [1]


def test_connection_of_asyncio_will_do(empty_conninfo: str) -> None:
    async def run() -> list[str]:
        async with await psycopg.AsyncConnection.connect(empty_conninfo) as conn:
            return await migrate(conn, migrations=[FIRST])

    assert asyncio.run(run()) == ["0001_first"]


async def test_shipped_migrations_are_all_in_the_template(conn: TrioConnection) -> None:
    assert load()
    assert await pending(conn) == []


class as_new_role:  # noqa: N801 - reads as a phrase
    """A connection of a role that has no rights yet. The role goes with the server."""

    def __init__(self, owner: TrioConnection, conninfo: str) -> None:
        self.owner, self.conninfo = owner, conninfo

    async def __aenter__(self) -> TrioConnection:
        name = f"role_{await value(self.owner, 'SELECT current_database()')}"
        await self.owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        self.conn = await TrioConnection.connect(make_conninfo(self.conninfo, user=name), autocommit=True)
        return self.conn

    async def __aexit__(self, *_: object) -> None:
        await self.conn.close()
