"""What a daemon that has just become ready has imported: each module costs every start its milliseconds."""

import sys
from typing import Final

import trio

from tests.system.daemon import PATIENCE_S, environment, url_of

# Ends itself as SIGTERM would, in the moment when it has told that it is ready.
_TELLS: Final = """
import os, signal, sys
from opendesk import cli, daemon
told = daemon._tell_ready
def tell_ready(*arguments):
    told(*arguments)
    os.write(1, " ".join(sys.modules).encode())
    os.kill(os.getpid(), signal.SIGTERM)
daemon._tell_ready = tell_ready
sys.argv = ["opendesk", "serve", "--json"]
cli.main()
"""
# What only other commands, tests or a setting want.
NEEDLESS: Final = (
    "httpcore",
    "httpx",
    "opendesk.cli.demo",
    "opendesk.doctor",
    "opendesk.network.events.backend",
    "opendesk.postgres.backups",
    "opendesk.simulators",
    "psutil",
    "pytest",
    "sqlite3",
    "trio_websocket",
    "unittest",
)


async def imported(conninfo: str, **settings: str) -> set[str]:
    environ = environment({"DATABASE_URL": url_of(conninfo), **settings})
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process([sys.executable, "-W", "error", "-c", _TELLS], env=environ, capture_stdout=True)
    return set(done.stdout.decode().partition("{")[0].split())


async def test_a_daemon_imports_nothing_that_it_does_not_use(conninfo: str) -> None:
    modules = await imported(conninfo)
    assert "opendesk.wiring" in modules
    assert {
        name for name in modules if name.startswith(tuple(f"{each}." for each in NEEDLESS)) or name in NEEDLESS
    } == set()


async def test_a_client_of_the_backend_is_there_where_there_is_a_backend(conninfo: str) -> None:
    modules = await imported(conninfo, BACKEND_EVENTS_URL="http://127.0.0.1:1/events")
    assert {"httpx", "opendesk.network.events.backend"} <= modules


async def test_the_database_starts_while_what_answers_is_imported() -> None:
    asked = "import sys, opendesk.cli.serve; print(*sys.modules)"
    done = await trio.run_process([sys.executable, "-c", asked], capture_stdout=True)
    modules = set(done.stdout.decode().split())
    assert {"opendesk.daemon", "psycopg"} <= modules
    assert modules & {"opendesk.wiring", "opendesk.web.app", "opendesk.console.parts", "quart", "jinja2"} == set()
