"""A backup becomes the database: loaded beside the one that serves, proved there, and put in its place in one step.

Killed at any moment there is the old one or the new one under the name, whole: all but the last step happens to a database of
another name, and that step is one transaction.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import define
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import structlog
import trio

from opendesk.postgres.backups import programs
from opendesk.postgres.backups.archive import Archive
from opendesk.postgres.backups.checking import counted
from opendesk.postgres.backups.manifest import Books, differences
from opendesk.postgres.backups.programs import Programs
from opendesk.postgres.backups.reading import Prove, rows
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY, RestoreFailed

log = structlog.get_logger()

Progress = Callable[[str, int], object]
Connect = Callable[[str], Awaitable[TrioConnection]]

LOADING: Final = "opendesk_restoring"
# The one that every server has beside ours; what is done to databases is done from there.
_ELSEWHERE: Final = "postgres"

# "restores" in ASCII.
_LOCK: Final = int.from_bytes(b"restores", "big", signed=True)
# The server notices in this time that a restore was killed, whatever it was at.
_LOCK_WAIT_S: Final = 20.0
_LOCK_LOOK_S: Final = 0.2

# A dump says no more of rights than our migrations do, but for roles that this server may not have: `migrate --grant` gives them theirs.
_RIGHTS: Final = "REVOKE ALL ON FUNCTION opendesk.post_entries() FROM PUBLIC"

_CUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s"
# Each look costs microseconds; renaming waits for as long as somebody is connected, up to 5 s, which is the server's own limit.
_CUT_EVERY_S: Final = 0.02
# Removing a database takes a moment; a server that is gone is not waited for.
_REMOVE_S: Final = 30.0

_WHICH: Final = "SELECT oid FROM pg_database WHERE datname = %(name)s"
_KEPT_AS: Final = "SELECT %(name)s || to_char(now() AT TIME ZONE 'UTC', '_\"before\"_YYYYMMDD_HH24MISS')"


@define(eq=False)
class Restore:
    """`conninfo` is the serving database's; `connect` opens connections like it. All of it inside `alone`."""

    conninfo: str
    connect: Connect
    admin: TrioConnection
    progress: Progress
    is_in_place: bool = False

    @property
    def name(self) -> str:
        return str(conninfo_to_dict(self.conninfo)["dbname"])

    @property
    def loading(self) -> str:
        """The conninfo of the new one."""
        return make_conninfo(self.conninfo, dbname=LOADING)

    async def load(self, archive: Archive, found: Programs) -> None:
        """Into a new database, in which there is then what was in the old one. Raise RestoreFailed and others."""
        await self._do("CREATE DATABASE {} TEMPLATE template0", LOADING)
        where, secret = programs.to_database(self.loading)
        how = ["--format=custom", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password"]
        command = [found.path("pg_restore"), *how, where]
        await programs.write_to(command, secret, counted(archive, "loaded", self.progress))
        async with self._inside() as conn:
            await conn.run("SET statement_timeout = 0")
            wrong = differences(archive.manifest.facts.rows, await rows(conn))
            if wrong:
                raise RestoreFailed(f"what was loaded is not what was backed up: {'; '.join(wrong)}")
            await conn.run(_RIGHTS)
            await conn.run("ANALYZE")

    async def prove(self, prove: Prove, expected: Books | None) -> Books:
        """Raise RestoreFailed if the books are wrong, or not those that were backed up."""
        async with self._inside() as conn:
            books = await prove(conn)
        if not books.ok:
            raise RestoreFailed(
                "its ledger is wrong: `opendesk ledger verify` says where, with the backup loaded by hand (docs/database.md)"
            )
        if expected is not None and expected != books:
            raise RestoreFailed(f"its books are not those that were backed up: {books} where {expected} was expected")
        return books

    async def take_place(self) -> str:
        """The name that the old one has now. Raise RestoreFailed."""
        row = await self.admin.fetch_one(_KEPT_AS, {"name": self.name})
        assert row is not None
        kept_as = str(row[0])
        # The cutter is closed when nobody is at it any more.
        async with self._outside() as cutter, trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_out, cutter)
            async with self.admin.transaction():
                await self._do("ALTER DATABASE {} RENAME TO {}", self.name, kept_as)
                await self._do("ALTER DATABASE {} RENAME TO {}", LOADING, self.name)
            self.is_in_place = True  # and the server may end at any moment, with the daemon
            nursery.cancel_scope.cancel()
        return kept_as

    async def remove_unfinished(self) -> None:
        with trio.move_on_after(_REMOVE_S, shield=True):
            await self._do("DROP DATABASE IF EXISTS {} WITH (FORCE)", LOADING)

    async def _keep_out(self, cutter: TrioConnection) -> None:
        """Daemons connect again at once; those who come while it is renamed wait, and find the new one."""
        while True:
            for name in (self.name, LOADING):
                await cutter.run(_CUT, {"name": name})
            await trio.sleep(_CUT_EVERY_S)

    async def _do(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        await self.admin.run(query.as_bytes(self.admin))

    @asynccontextmanager
    async def _inside(self) -> AsyncIterator[TrioConnection]:
        async with _closed(await self.connect(self.loading)) as conn:
            yield conn

    @asynccontextmanager
    async def _outside(self) -> AsyncIterator[TrioConnection]:
        async with _closed(await self.connect(make_conninfo(self.conninfo, dbname=_ELSEWHERE))) as conn:
            yield conn


@asynccontextmanager
async def alone(conninfo: str, connect: Connect, progress: Progress) -> AsyncIterator[Restore]:
    """No other restore runs meanwhile; what one that was killed left is removed, as is what this one leaves."""
    async with _closed(await connect(make_conninfo(conninfo, dbname=_ELSEWHERE))) as admin:
        restore = Restore(conninfo, connect, admin, progress)
        before = await _which(restore)
        await _lock(admin)
        if await _which(restore) != before:
            raise RestoreFailed(
                "another restore took the database's place meanwhile: look at what is there now, and restore again if it isn't right"
            )
        await restore.remove_unfinished()
        try:
            yield restore
        finally:
            if not restore.is_in_place:
                await _clean_up(restore)


async def _clean_up(restore: Restore) -> None:
    try:
        await restore.remove_unfinished()
    except AWAY as error:  # whatever was told before came of this; the next restore removes what is left
        raise RestoreFailed(
            "the database's server ended meanwhile: its daemon was stopped or killed, or another restore took the place. "
            "When it is back, restore again"
        ) from error


async def _which(restore: Restore) -> Any:
    """Another than before when the name is another database's."""
    return await restore.admin.fetch_one(_WHICH, {"name": restore.name})


async def _lock(admin: TrioConnection) -> None:
    with trio.move_on_after(_LOCK_WAIT_S):
        while await admin.fetch_one("SELECT pg_try_advisory_lock(%(lock)s)", {"lock": _LOCK}) != (True,):  # noqa: ASYNC110 - nothing tells of another's end
            await trio.sleep(_LOCK_LOOK_S)
        return
    raise RestoreFailed("another restore is under way on this server")


@asynccontextmanager
async def _closed(conn: TrioConnection) -> AsyncIterator[TrioConnection]:
    try:
        yield conn
    finally:
        conn.drop()
