"""What is looked at, and by which ways: found once, before all looks."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from attrs import frozen
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import trio

from opendesk import database
from opendesk.postgres.embedded.datadir import DataDir, holder
from opendesk.postgres.embedded.lifetime import SERVING, running_server
from opendesk.postgres.errors import EmbeddedError
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings

# Of the looks that want the database, so many at a time: a sick one is short of connections.
_CONNECTIONS: Final = 3
# A database that is well answers in milliseconds; the pool's own patience is for a crowd.
_FIND_S: Final = 6.0
_NOT_SERVED: Final = "no daemon runs the embedded database"
# By which the database is found.
_WHERE: Final = frozenset({"DATABASE_URL", "RELAY_DATABASE_URL", "RELAY_DB_SSL", "OPENDESK_DATA_DIR"})


@frozen(kw_only=True)
class Patient:
    """`pool` is None where the database isn't to be had, and `no_pool` says why. What it lends can only read."""

    settings: Settings
    environ: Mapping[str, str]
    pool: Pool | None = None
    no_pool: str = _NOT_SERVED
    daemon_pid: int | None = None
    # Settings that can't be read, and have their defaults here.
    unknown: frozenset[str] = frozenset()

    @property
    def is_anywhere(self) -> bool:
        """Which database is meant isn't known."""
        return not _WHERE.isdisjoint(self.unknown)


@asynccontextmanager
async def admitted(
    settings: Settings, environ: Mapping[str, str], unknown: frozenset[str] = frozenset()
) -> AsyncIterator[Patient]:
    """Find the database without starting one: a doctor changes nothing."""
    if unclear := sorted(_WHERE & unknown):
        why = f"{' and '.join(unclear)} can't be read, so where it is isn't known"
        yield Patient(settings=settings, environ=environ, no_pool=why, unknown=unknown)
        return
    conninfo, why = None, _NOT_SERVED
    pid = None
    try:
        with trio.fail_after(_FIND_S):
            pid = _pid(settings)
            conninfo = database.external(settings) or await running_server(settings.opendesk_data_dir)
            if conninfo is not None:
                await _try(conninfo)
            elif pid is not None:
                why = f"the daemon's own PostgreSQL doesn't answer (process {pid} serves)"
    except (EmbeddedError, psycopg.Error, OSError) as error:
        conninfo, why = None, _line(error)
    except trio.TooSlowError:
        conninfo, why = None, f"it didn't answer within {_FIND_S:.0f} s"
    if conninfo is None:
        yield Patient(settings=settings, environ=environ, no_pool=why, daemon_pid=pid, unknown=unknown)
        return
    async with database.open_pool(_read_only(conninfo), settings, size=_CONNECTIONS) as pool:
        yield Patient(settings=settings, environ=environ, pool=pool, daemon_pid=pid, unknown=unknown)


async def _try(conninfo: str) -> None:
    """A pool asks again and again, for who comes in a moment in which its server is away; here one answer is news."""
    await (await database.connect(conninfo)).close()


def _pid(settings: Settings) -> int | None:
    """Who serves from the data folder."""
    try:
        held = holder(DataDir.at(settings.opendesk_data_dir))
    except OSError:
        return None
    return held[0] if held is not None and held[0] and held[1] == SERVING else None


def _read_only(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo).get("options") or ""
    return make_conninfo(conninfo, options=f"{given} -c default_transaction_read_only=on".strip())


def _line(error: BaseException) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or repr(error)
