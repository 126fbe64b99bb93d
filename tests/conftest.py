"""A PostgreSQL for the tests: one server a run (and a worker of pytest-xdist), one migrated template, a clone a test."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.migrate import migrate
from opendesk.postgres.pool import Pool

SERVE = Path(__file__).parent / "postgres" / "serve.py"

# Tests keep nothing, so nothing need reach the disk; races want more connections than a small server has.
SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


# In memory a database is made in 0.6 s and copied in 0.1 s, on a disk in up to 6 s; where there is plenty.
MEMORY = Path("/dev/shm")
MEMORY_ENOUGH_BYTES = 2**31


# A long loop is bounded too, in case that it hangs.
LONG_TEST_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.timeout(LONG_TEST_S))


def make_open_folder() -> Path:
    """Make a folder that every user can enter: pytest's own is closed to the user that PostgreSQL runs as when we are root."""
    fast = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_ENOUGH_BYTES
    folder = Path(tempfile.mkdtemp(prefix="opendesk-test-", dir=MEMORY if fast else None)).resolve()
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def open_folders() -> Callable[[], Path]:
    """How a test gets a folder that every user can enter. Whoever calls it removes the folder."""
    return make_open_folder


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The conninfo of the maintenance database of a server that lives as long as the run."""
    command = [sys.executable, str(SERVE), "--remove", str(make_open_folder()), *SETTINGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        # Closed on leaving, which ends it; as does our own end, whichever way it comes.
        assert process.stdin is not None
        assert process.stdout is not None
        conninfo = process.stdout.readline().strip()
        assert conninfo, "the embedded server did not start: see above"
        maintenance_conninfo = make_conninfo(conninfo, dbname="postgres")
        yield maintenance_conninfo
        _BESIDE.shutdown()
        maintenance(maintenance_conninfo).close()


@cache
def maintenance(server: str) -> psycopg.Connection:
    """One for all tests: a connection takes a third of the time that a database takes."""
    return psycopg.connect(server, autocommit=True)


# Databases are made and dropped beside the tests: the next test's while one runs, and the last one's while the next runs.
_BESIDE = ThreadPoolExecutor(1)
_spares: dict[str, Future[str]] = {}
_drops: list[Future[None]] = []


def _make(server: str, template: str) -> str:
    name = f"test_{uuid4().hex}"
    # 11 ms; wal_log takes 15.
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    maintenance(server).execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    return name


def _drop(server: str, name: str) -> None:
    maintenance(server).execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def database(server: str, template: str) -> Iterator[str]:
    """A copy of the template, for as long as this lasts."""
    spare = _spares.pop(template, None) or _BESIDE.submit(_make, server, template)
    name = spare.result()
    if template != "template0":
        _spares[template] = _BESIDE.submit(_make, server, template)
    yield name
    while _drops:
        _drops.pop().result()
    _drops.append(_BESIDE.submit(_drop, server, name))


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated database."""

    async def run_migrations() -> None:
        async with await TrioConnection.connect(make_conninfo(server, dbname=name), autocommit=True) as conn:
            await migrate(conn)

    with database(server, "template0") as name:
        trio.run(run_migrations)
        yield name


@pytest.fixture
def empty_conninfo(server: str) -> Iterator[str]:
    """A database with nothing in it."""
    with database(server, "template0") as name:
        yield make_conninfo(server, dbname=name)


@pytest.fixture
def conninfo(server: str, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with database(server, template) as name:
        yield make_conninfo(server, dbname=name, options="-c search_path=opendesk")


@pytest.fixture
async def pool(conninfo: str) -> AsyncIterator[Pool]:
    made = Pool(conninfo)
    yield made
    await made.aclose()


@pytest.fixture
async def conn(conninfo: str) -> AsyncIterator[TrioConnection]:
    """A connection on its own, in autocommit as the pool's are."""
    made = await TrioConnection.connect(conninfo, autocommit=True)
    yield made
    await made.close()
