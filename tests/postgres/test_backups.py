"""A backup of one database becomes another, which takes its place."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import pytest
import trio

from opendesk import database
from opendesk.postgres.backups import archive as archives
from opendesk.postgres.backups import programs
from opendesk.postgres.backups.making import back_up
from opendesk.postgres.backups.manifest import Books, Manifest
from opendesk.postgres.backups.restoring import LOADING, alone
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import BackupFailed, BinariesMissing, RestoreFailed
from opendesk.postgres.identity import DatabaseExchanged, SameDatabase
from opendesk.postgres.migrate import load, migrate
from opendesk.postgres.pool import Pool
from opendesk.rental import ledger

NO_BOOKS = Books(ok=False, wallets=0, transfers=0, entries=0, sessions=0, in_wallets=0)

_NAMES = "SELECT datname FROM pg_database WHERE datname LIKE %(like)s"
# A client that has 50.00, took a PC for 1.00, and was given it back.
_A_LIFE = """
    SET LOCAL search_path = opendesk;
    INSERT INTO users (email, username, role, password_hash) VALUES ('h@x', 'host', 'HOST', ''), ('c@x', 'client', 'CLIENT', '');
    INSERT INTO accounts (kind, user_id, balance) SELECT 'WALLET', id, 0 FROM users;
    INSERT INTO hosts (user_id, display_name) SELECT id, username FROM users WHERE role = 'HOST';
    INSERT INTO pcs (host_id, name, level, cpu, ram_gb, gpu, vram_gb, storage_type, internet_upload_mbps, price_per_hour, currency)
    SELECT id, 'pc', 'A', 'cpu', 8, 'gpu', 4, 'SSD', 100, 600, 'BRL' FROM hosts;
    INSERT INTO sessions (pc_id, host_id, client_user_id, status, minutes_purchased, minutes_used, price_per_hour, price_total, currency,
                          platform_fee_rate, penalty_rate, ended_at, end_reason, failure_reason, proportional, platform_fee, host_payout,
                          penalty, client_credit, retained)
    SELECT pcs.id, host_id, users.id, 'FAILED', 10, 0, 600, 100, 'BRL', 0.2, 0.1, now(), 'CANCELLED', 'NONE', 0, 0, 0, 0, 100, 0
      FROM pcs, users WHERE role = 'CLIENT';
    INSERT INTO transfers (kind, session_id) SELECT unnest(ARRAY['CREDIT', 'HOLD', 'RELEASE']), id FROM sessions;
    INSERT INTO entries (transfer_id, account_id, amount, reason)
    SELECT t.id, e.account, e.amount * CASE t.kind WHEN 'CREDIT' THEN 5000 WHEN 'HOLD' THEN -100 ELSE 100 END, t.kind
      FROM transfers t JOIN accounts a ON a.user_id = (SELECT id FROM users WHERE role = 'CLIENT')
           CROSS JOIN LATERAL (VALUES (a.id, 1), (CASE t.kind WHEN 'CREDIT' THEN 4 ELSE 1 END, -1)) AS e (account, amount)
"""
# Whoever asked in vain has run this last.
_LOCK_IS_ASKED_FOR = (
    "SELECT count(*) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND query LIKE '%%pg_try_advisory_lock%%'"
)
_PUBLIC_MAY = "SELECT has_function_privilege('public', 'opendesk.post_entries()', 'EXECUTE')"


async def prove(conn: TrioConnection) -> Books:
    """As the commands have it, which are tested as processes."""
    found = await ledger.verify(conn)
    return Books(found.ok, found.wallets, found.transfers, found.entries, found.sessions, found.in_wallets)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ignore(_stage: str, _done: int) -> None:
    pass


@define
class Place:
    """A database, and where it is backed up to."""

    conninfo: str
    file: Path

    async def backup(self, conn: TrioConnection) -> Manifest:
        return await back_up(conn, self.conninfo, self.file, prove, program="0.1.0", progress=ignore)

    async def restore(self, *, expected: Books | None = None) -> str:
        archive = archives.read(self.file)
        found = programs.find(14)
        async with alone(self.conninfo, database.connect, ignore) as new:
            await new.load(archive, found)
            await database.bring_up_to_date(new.loading)
            await new.prove(prove, expected or archive.manifest.facts.books)
            return await new.take_place()

    async def databases(self) -> set[str]:
        """Those that have to do with it."""
        name = str(conninfo_to_dict(self.conninfo)["dbname"])
        conn = await database.connect(make_conninfo(self.conninfo, dbname="postgres"))
        try:
            return {row[0] for like in (f"{name}%", LOADING) for row in await conn.fetch(_NAMES, {"like": like})}
        finally:
            conn.drop()


@pytest.fixture
async def place(conninfo: str, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(conninfo, tmp_path / "backup.tar")
    yield made
    name = conninfo_to_dict(conninfo)["dbname"]
    with psycopg.connect(make_conninfo(conninfo, dbname="postgres"), autocommit=True) as conn:
        for kept in await made.databases() - {name}:
            conn.execute(f'DROP DATABASE "{kept}" WITH (FORCE)'.encode())


async def test_what_is_written_after_the_snapshot_is_not_in_the_backup(
    place: Place, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dump begins late, and what was written meanwhile is in neither part of the file."""
    read_from = programs.read_from

    async def late(command: Sequence[str], environ: dict[str, str], take: Any) -> None:
        async with await TrioConnection.connect(place.conninfo, autocommit=True) as other:
            await other.run("INSERT INTO secrets (name, value) VALUES ('late', '')")
        await read_from(command, environ, take)

    await conn.run("INSERT INTO secrets (name, value) VALUES ('early', '')")
    monkeypatch.setattr(programs, "read_from", late)
    manifest = await place.backup(conn)
    assert manifest.facts.rows["secrets"] == 1
    await place.restore()
    async with await TrioConnection.connect(place.conninfo) as restored:
        assert await restored.fetch("SELECT name FROM secrets") == [("early",)]


async def test_an_older_schema_is_backed_up_and_comes_up_to_date_in_the_restore(
    place: Place, conn: TrioConnection
) -> None:
    await conn.run("DROP SCHEMA opendesk CASCADE")
    await migrate(conn, migrations=load()[:-1])
    manifest = await place.backup(conn)
    assert manifest.facts.books is None
    assert len(manifest.facts.migrations) == len(load()) - 1
    await place.restore()
    assert await database.missing(place.conninfo) == []


async def test_rows_of_the_first_schema_come_through_all_that_came_later(place: Place, conn: TrioConnection) -> None:
    await conn.run("DROP SCHEMA opendesk CASCADE")
    await migrate(conn, migrations=load()[:1])
    async with conn.transaction():
        await conn.execute(_A_LIFE)
    manifest = await place.backup(conn)
    assert (manifest.facts.books, manifest.facts.rows["entries"]) == (None, 6)
    await place.restore()
    async with await TrioConnection.connect(place.conninfo, autocommit=True) as restored:
        found = await prove(restored)
        assert (found.ok, found.entries, found.sessions, found.in_wallets) == (True, 6, 1, 5000)


async def test_the_restored_one_guards_what_the_old_one_guarded(place: Place, conn: TrioConnection) -> None:
    await place.backup(conn)
    await place.restore()
    async with await TrioConnection.connect(place.conninfo) as restored:
        assert await restored.fetch_one(_PUBLIC_MAY) == (False,)


async def test_the_old_one_is_kept_under_the_name_that_is_told(place: Place, conn: TrioConnection) -> None:
    await place.backup(conn)
    kept_as = await place.restore()
    name = str(conninfo_to_dict(place.conninfo)["dbname"])
    assert await place.databases() == {name, kept_as}
    assert kept_as.startswith(f"{name}_before_2")


async def test_those_who_serve_from_it_are_cut_off_and_know_the_new_one_from_the_old(
    place: Place, conn: TrioConnection
) -> None:
    """However eagerly they come back."""
    same = SameDatabase()
    pool = Pool(place.conninfo, check=same.check)
    refused = trio.Event()

    async def serve() -> None:
        while True:
            try:
                async with pool.connection() as lent:
                    await lent.fetch("SELECT 1")
            except DatabaseExchanged:
                refused.set()
                return
            except psycopg.OperationalError:
                await trio.lowlevel.checkpoint()

    await place.backup(conn)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(serve)
        await place.restore()
    assert refused.is_set()
    assert same.exchanged.is_set()
    await pool.aclose()


async def test_books_that_are_wrong_never_take_the_place(place: Place, conn: TrioConnection) -> None:
    before = await place.databases()
    await conn.run("SET session_replication_role = replica")  # no trigger forbids it
    await conn.run("INSERT INTO users (email, username, role, password_hash) VALUES ('a@x', 'abc', 'CLIENT', '')")
    assert (await place.backup(conn)).facts.books == NO_BOOKS
    with pytest.raises(RestoreFailed, match="ledger is wrong"):
        await place.restore()
    assert await place.databases() == before


async def test_books_that_are_others_never_take_the_place(place: Place, conn: TrioConnection) -> None:
    before = await place.databases()
    await place.backup(conn)
    with pytest.raises(RestoreFailed, match="not those that were backed up"):
        await place.restore(expected=evolve(NO_BOOKS, ok=True, sessions=1))
    assert await place.databases() == before


async def test_rows_that_are_missing_are_named(place: Place, conn: TrioConnection) -> None:
    manifest = await place.backup(conn)
    archive = archives.read(place.file)
    manifest.facts.rows["sessions"] += 1
    archive.manifest.facts.rows["sessions"] += 1
    async with alone(place.conninfo, database.connect, ignore) as new:
        with pytest.raises(RestoreFailed, match="sessions: 0 where 1 was expected"):
            await new.load(archive, programs.find(14))


async def test_two_restores_take_turns(place: Place, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendesk.postgres.backups.restoring._LOCK_WAIT_S", 0.1)
    await place.backup(conn)
    async with alone(place.conninfo, database.connect, ignore):
        with pytest.raises(RestoreFailed, match="another restore is under way"):
            await place.restore()
    await place.restore()


async def test_who_waited_for_another_restore_is_told_that_it_took_the_place(
    place: Place, conn: TrioConnection
) -> None:
    told: list[RestoreFailed] = []

    async def second() -> None:
        with pytest.raises(RestoreFailed, match="another restore took the database's place") as refused:
            await place.restore()
        told.append(refused.value)

    async def waits(admin: TrioConnection) -> None:
        while await admin.fetch_one(_LOCK_IS_ASKED_FOR) == (0,):  # noqa: ASYNC110 - another session's state
            await trio.sleep(0.01)

    await place.backup(conn)
    archive = archives.read(place.file)
    async with trio.open_nursery() as nursery, alone(place.conninfo, database.connect, ignore) as first:
        nursery.start_soon(second)
        await waits(first.admin)
        await first.load(archive, programs.find(14))
        await first.take_place()
    assert told


async def test_a_server_that_ended_meanwhile_is_named_as_the_reason(place: Place, conn: TrioConnection) -> None:
    async def load() -> None:
        async with alone(place.conninfo, database.connect, ignore) as new:
            await new.load(archives.read(place.file), programs.find(14))
            new.admin.drop()
            raise BackupFailed("pg_restore failed with exit code 1: server closed the connection unexpectedly")

    await place.backup(conn)
    before = await place.databases()
    with pytest.raises(RestoreFailed, match="server ended meanwhile"):
        await load()
    assert await place.databases() == before | {LOADING}
    await place.restore()


async def test_an_empty_database_is_not_backed_up(empty_conninfo: str, tmp_path: Path) -> None:
    async with await TrioConnection.connect(empty_conninfo, autocommit=True) as conn:
        with pytest.raises(BackupFailed, match="nothing of OpenDesk's"):
            await Place(empty_conninfo, tmp_path / "none.tar").backup(conn)
    assert names_in(tmp_path) == []


async def test_pg_dumps_own_words_are_told(place: Place, conn: TrioConnection) -> None:
    elsewhere = Place(make_conninfo(place.conninfo, dbname="nowhere"), place.file)
    with pytest.raises(BackupFailed, match=r'pg_dump failed with exit code 1: .*database "nowhere" does not exist'):
        await elsewhere.backup(conn)
    assert not place.file.exists()


def test_a_server_that_is_newer_than_all_programs_is_told() -> None:
    with pytest.raises(BinariesMissing, match="apt-get install postgresql-client-99"):
        programs.find(99)


def test_no_password_is_in_the_arguments() -> None:
    where, secret = programs.to_database("postgresql://me:hush@db.example.org/opendesk?sslmode=require")
    assert "hush" not in where
    assert secret == {"PGPASSWORD": "hush"}
    with pytest.raises(BackupFailed, match="sslpassword"):
        programs.to_database("host=x sslpassword=hush")
