"""The server's processes, one after the other: started, watched, started again when they die, stopped."""

from collections.abc import Mapping
from pathlib import Path
import signal
from typing import Final

from attrs import define, field
import psycopg
import structlog
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded import pidfile, postmaster
from opendesk.postgres.embedded.account import Account
from opendesk.postgres.embedded.binaries import Binaries
from opendesk.postgres.embedded.process import Process, start
from opendesk.postgres.embedded.sockets import PORT
from opendesk.postgres.errors import EmbeddedError, ServerDidNotStart

log = structlog.get_logger()

# What the life cycle rests on; everything else is in postgresql.conf.
_FIXED: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "",
    # An error is its client's business, and a lost race is no news; LOG, FATAL and PANIC are what is left.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
# Usually 0.1 s. After a crash the server first works off its log: 256 MB of it, on a slow disk.
START_TIMEOUT_S: Final = 120.0
_LOOK_FIRST_S: Final = 0.005
_LOOK_LAST_S: Final = 0.1
_CONNECT_TIMEOUT_S: Final = 10

# A server that dies is started again after these pauses, which begin anew once it has been up for long enough. After the last of
# them we end with it: something is wrong that only a person can mend.
_PAUSES_S: Final = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0)
_STABLE_S: Final = 60.0


def command_line(found: Binaries, pgdata: Path, socket_dir: Path, settings: Mapping[str, str]) -> tuple[str, ...]:
    # A list of folders in which commas part and double quotes hold together.
    quoted = '"' + str(socket_dir).replace('"', '""') + '"'
    everything = {**settings, **_FIXED, "unix_socket_directories": quoted}
    return (found.path("postgres"), "-D", str(pgdata), *(f"--{name}={value}" for name, value in everything.items()))


@define(eq=False)
class Server:
    _command: tuple[str, ...]
    _account: Account
    _pgdata: Path
    conninfo: str
    _nursery: trio.Nursery
    _process: Process | None = field(default=None, init=False)
    # What it says of its starting and stopping is of interest only when that fails, and then the error has it.
    _is_serving: bool = field(default=False, init=False)

    async def start(self) -> None:
        """Return when it answers. Raise ServerDidNotStart."""
        process = self._process = start(self._command, self._account, death_signal=signal.SIGINT)
        self._nursery.start_soon(process.read_output, self._say)
        with trio.move_on_after(START_TIMEOUT_S):
            await self._until_ready(process)
            log.info("postgres.ready", pid=process.pid)
            self._is_serving = True
            return
        await self.stop()
        raise ServerDidNotStart(f"PostgreSQL is not ready after {START_TIMEOUT_S:.0f} s: {process.last_words}")

    async def keep_running(self) -> None:
        """Start it again whenever it ends. Raise ServerDidNotStart when that doesn't help."""
        failures = 0
        while True:
            up_since_s = trio.current_time()
            process = self._process
            assert process is not None
            exit_code = await process.wait()
            self._is_serving = False
            await process.close()
            if trio.current_time() - up_since_s > _STABLE_S:
                failures = 0
            if failures == len(_PAUSES_S):
                raise ServerDidNotStart(
                    f"PostgreSQL died {failures} times in a row, the last words: {process.last_words}"
                )
            log.warning("postgres.died", exit_code=exit_code, pause_s=_PAUSES_S[failures], output=process.last_words)
            await trio.sleep(_PAUSES_S[failures])
            failures += 1
            await self._start_again()

    async def stop(self) -> None:
        self._is_serving = False
        if self._process is not None and not await self._process.end(*postmaster.STOPPING):
            log.error("postgres.does_not_stop", pid=self._process.pid)

    async def _start_again(self) -> None:
        try:
            await postmaster.end_left_behind(self._pgdata)
            await self.start()
        except EmbeddedError as exc:
            log.warning("postgres.start_failed", error=str(exc))

    def _say(self, line: str) -> None:
        if line.startswith("PANIC:"):
            log.error("postgres.said", line=line)
        elif self._is_serving:
            log.info("postgres.said", line=line)
        else:
            log.debug("postgres.said", line=line)

    async def _until_ready(self, process: Process) -> None:
        pause_s = _LOOK_FIRST_S
        while process.exit_code is None:
            # Its own word first: a connection before that would only fill the log with refusals.
            found = pidfile.read(self._pgdata)
            ready = found is not None and found.pid == process.pid and found.is_ready
            if ready and await answers(self.conninfo):
                return
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_LAST_S)
        await process.close()
        raise ServerDidNotStart(f"PostgreSQL ended with code {process.exit_code} at its start: {process.last_words}")


async def answers(conninfo: str) -> bool:
    try:
        conn = await TrioConnection.connect(conninfo, connect_timeout=_CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as exc:
        log.debug("postgres.does_not_answer", error=str(exc))
        return False
    await conn.close()
    return True
