"""A real daemon of one's own, in a process and a folder of its own: started, found, stopped, and nothing left of it."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from typing import Final

from attrs import define, field
import trio

from opendesk.postgres.embedded import account as accounts
from opendesk.postgres.embedded import child, postmaster
from opendesk.postgres.embedded.lifetime import running_server
from opendesk.postgres.embedded.process import Process
from opendesk.postgres.errors import EmbeddedError
from opendesk.settings.table import DECLARED

# A first start makes a database: seconds, on a slow disk some more, and a copy of PostgreSQL's programs where they are out of reach.
READY_WITHIN_S: Final = 90.0

# It drains for SHUTDOWN_GRACE_MS and gives its database 20 s; then there is no more to wait for.
STOPPING: Final = ((signal.SIGTERM, 40.0), (signal.SIGKILL, 5.0))

# A command of `opendesk` takes a second.
COMMAND_WITHIN_S: Final = 60.0

# What would make a daemon listen, log or store elsewhere than it is told here.
_FOREIGN: Final = ("CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "WATCHDOG_PID")  # fmt: skip


class DaemonFailed(Exception):
    """The daemon did not start, or did not stop; the message has its last log lines."""


@define(eq=False)
class RunningDaemon:
    """A daemon that serves. `stop` ends it; leaving `running_daemon` does so too."""

    url: str
    data_dir: Path
    environ: Mapping[str, str] = field(repr=False)
    levels: Counter[str]  # of its log lines so far
    _process: Process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> Sequence[str]:
        return tuple(self._process.last_lines)

    async def conninfo(self) -> str:
        """Of its embedded database. Raise DaemonFailed if that doesn't answer."""
        found = await running_server(self.data_dir)
        if found is None:
            raise DaemonFailed("the daemon's database does not answer")
        return found

    async def command(self, *arguments: str, stdin: bytes = b"") -> str:
        """What `opendesk ARGUMENT …` prints, run beside this daemon. Raise DaemonFailed with its complaint."""
        with trio.move_on_after(COMMAND_WITHIN_S):
            done = await trio.run_process(
                _opendesk(*arguments),
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=self.environ,
            )
            if done.returncode != 0:
                raise DaemonFailed(f"opendesk {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
            return done.stdout.decode(errors="replace")
        raise DaemonFailed(f"opendesk {' '.join(arguments)} took more than {COMMAND_WITHIN_S:g} s")

    async def stop(self) -> int:
        """Ask it to finish and wait for it; its exit code. Raise DaemonFailed if it had to be killed."""
        await self._process.end(*STOPPING)
        code = self._process.exit_code
        if code is None or code == -signal.SIGKILL:
            raise DaemonFailed(f"the daemon did not stop by itself: {self._process.last_words}")
        return code


@asynccontextmanager
async def running_daemon(environ: Mapping[str, str], settings: Mapping[str, str]) -> AsyncIterator[RunningDaemon]:
    """Serve with these settings and no others, on an embedded database in a new folder that is removed at the end.

    Raise DaemonFailed if it doesn't get ready; as what the block raises, in an ExceptionGroup.
    """
    with throw_away_folder() as data_dir:
        env = daemon_environ(environ, {**settings, "OPENDESK_DATA_DIR": str(data_dir)})
        levels, urls = Counter[str](), _Said()
        async with trio.open_nursery() as nursery:
            process = _start(env)
            try:
                nursery.start_soon(process.read_output, lambda line: _heed(line, levels, urls))
                url = await _ready(process, urls)
                yield RunningDaemon(url, data_dir, env, levels, process)
            finally:
                with trio.CancelScope(shield=True):
                    await process.end(*STOPPING)
                    await _end_database(data_dir)


def daemon_environ(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting of OpenDesk's, such as the database that really counts, and with these."""
    ours = {declared.name for declared in DECLARED} | set(_FOREIGN)
    kept = {name: value for name, value in environ.items() if name not in ours and not name.startswith("OPENDESK_")}
    return {**kept, "BIND": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **settings}


@contextmanager
def throw_away_folder() -> Iterator[Path]:
    """A folder that the user whom the database runs as can reach, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="opendesk-demo-", dir=_reachable_parent()) as folder:
        yield Path(folder).resolve()


def _reachable_parent() -> Path | None:
    """None: the usual one, and a complaint if that won't do."""
    with suppress(EmbeddedError):
        account = accounts.choose()
        for folder in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108 - the folder in it is made safely
            if folder.is_dir() and account.can_enter(folder):
                return folder
    return None


@define(eq=False)
class _Said:
    """What the daemon was waited for to say."""

    urls: list[str] = field(factory=list)
    heard: trio.Event = field(factory=trio.Event)


def _heed(line: str, levels: Counter[str], urls: _Said) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return
    if not isinstance(event, dict):
        return
    levels[str(event.get("level"))] += 1
    if event.get("event") == "daemon.ready":
        urls.urls = event["urls"]
        urls.heard.set()


async def _ready(process: Process, said: _Said) -> str:
    async def until_ended(scope: trio.CancelScope) -> None:
        await process.wait()
        scope.cancel()

    with trio.move_on_after(READY_WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_ended, nursery.cancel_scope)
            await said.heard.wait()
            nursery.cancel_scope.cancel()
    if said.urls:
        return said.urls[0]
    await process.end(*STOPPING)
    raise DaemonFailed(f"the daemon did not start (exit code {process.exit_code}):\n{process.last_words}")


async def _end_database(data_dir: Path) -> None:
    """Only a daemon that was killed leaves its database running, for an instant, in the folder that is to be removed."""
    await postmaster.end_left_behind(data_dir / "postgres")


def _opendesk(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "opendesk", *arguments]


def _start(env: Mapping[str, str]) -> Process:
    """On Linux it hears SIGTERM when we die. Called on Trio's thread: the kernel means the thread that made it."""
    output, child_output = os.pipe()
    try:
        popen = subprocess.Popen(  # noqa: S603 - ourselves
            _tied_to_us(_opendesk("serve")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=child_output,
            env=dict(env),
            # Ctrl-C at the terminal is for us; the daemon hears from us when it is time.
            start_new_session=True,
        )
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(child_output)
    return Process(popen, trio.lowlevel.FdStream(output))


def _tied_to_us(command: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return list(command)
    numbers = [os.getpid(), int(signal.SIGTERM), os.geteuid(), os.getegid()]
    return [sys.executable, "-I", "-S", str(child.__file__), *map(str, numbers), *command]
