"""A child process on Trio: as another user if need be, dying with us, its output read to the end and its last lines kept."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Final

from attrs import define, field
import trio

from opendesk.postgres.embedded.account import Account
from opendesk.postgres.errors import ServerDidNotStart

# Where the kernel can tell a child that its parent died.
_TIES: Final = sys.platform == "linux"
_CHILD: Final = Path(__file__).with_name("child.py")

# What an error shows of a server's output.
KEPT_LINES: Final = 20

# A longer line is cut into pieces, so that one without an end does not fill the memory.
MAX_LINE_BYTES: Final = 8192

# Normally the end of the output says that the process has ended. It doesn't if a child of its lives on: then we look this often.
_LOOK_S: Final = 1.0
# From the end of the output to the end of the process it takes microseconds.
_REAP_S: Final = 0.002

# PostgreSQL's children end within milliseconds of their parent.
_LAST_LINES_S: Final = 2.0

# A pipe takes this much without a reader on every system; what we write to a child's input is less.
_MAX_INPUT_BYTES: Final = 4096


@define(eq=False)
class Process:
    _popen: subprocess.Popen[bytes]
    _output: trio.lowlevel.FdStream
    last_lines: deque[str] = field(factory=lambda: deque(maxlen=KEPT_LINES))
    _end_of_output: trio.Event = field(factory=trio.Event)
    # Shielded: whoever stops the process still wants to know what it says meanwhile.
    _reading: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True))

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` gives it: negative for a signal. None while the process runs."""
        return self._popen.poll()

    @property
    def last_words(self) -> str:
        return "\n".join(self.last_lines) or "it said nothing"

    async def read_output(self, say: Callable[[str], object]) -> None:
        """Read until nobody is left who could write. It must run all the time: a full pipe stops the process."""
        with self._reading:
            await self._read_lines(say)
        self._output.close()
        self._end_of_output.set()

    async def _read_lines(self, say: Callable[[str], object]) -> None:
        rest = b""
        while chunk := await self._output.receive_some(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            self._keep(lines, say)
        self._keep([rest] if rest else [], say)

    def _keep(self, lines: list[bytes], say: Callable[[str], object]) -> None:
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            self.last_lines.append(text)
            say(text)

    async def wait(self) -> int:
        """Return the exit code when the process has ended."""
        while (code := self._popen.poll()) is None:
            if self._end_of_output.is_set():
                await trio.sleep(_REAP_S)
            else:
                with trio.move_on_after(_LOOK_S):
                    await self._end_of_output.wait()
        return code

    async def end(self, *steps: tuple[signal.Signals, float]) -> bool:
        """Send each signal in turn until the process has ended within so many seconds. Not to be cancelled, but bounded."""
        with trio.CancelScope(shield=True):
            for number, patience_s in steps:
                self._popen.send_signal(number)
                with trio.move_on_after(patience_s):
                    await self.wait()
                    break
            await self.close()
        return self._popen.poll() is not None

    async def close(self) -> None:
        """Read the last lines of a process that has ended, but don't wait long for children that it left behind."""
        try:
            with trio.move_on_after(_LAST_LINES_S):
                await self._end_of_output.wait()
        finally:
            self._reading.cancel()


def start(
    command: Sequence[str],
    account: Account,
    *,
    death_signal: signal.Signals,
    stdin: bytes | int = b"",
    stdout: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Process:
    """Start a program as that user. On Linux it gets `death_signal` when we die.

    `stdin` is what it reads, or a descriptor to read from; with a descriptor for `stdout` only its errors are heard here. The caller's
    descriptors stay the caller's. `environ` is added to the little that it gets of ours.

    It must be called on the thread that Trio runs on, and not through `trio.to_thread`: the kernel sends the signal when the
    *thread* that made the child ends. (So `trio.lowlevel.open_process`, which makes it in a worker thread, won't do.)
    It blocks for the millisecond or two that it takes to make a process.
    """
    output, child_output = os.pipe()
    child_input = os.dup(stdin) if isinstance(stdin, int) else _filled_pipe(stdin)
    try:
        popen = subprocess.Popen(  # noqa: S603 - the command is ours
            _tied_to_us(command, account, death_signal) if _TIES else list(command),
            **({} if _TIES else account.drop),
            stdin=child_input,
            stdout=child_output if stdout is None else stdout,
            stderr=child_output,
            cwd="/",
            env={**_environment(), **(environ or {})},
            # Ctrl-C at the terminal is for us; the server hears from us when it is time.
            start_new_session=True,
        )
    except OSError as exc:
        os.close(output)
        raise ServerDidNotStart(f"{command[0]} can't be run as {account}: {exc}") from exc
    finally:
        os.close(child_input)
        os.close(child_output)
    return Process(popen, trio.lowlevel.FdStream(output))


async def run(command: Sequence[str], account: Account, *, timeout_s: float, stdin: bytes = b"") -> None:
    """Run a program to its end. Raise ServerDidNotStart with its last words if it fails or takes too long."""
    process = start(command, account, death_signal=signal.SIGKILL, stdin=stdin)
    name = Path(command[0]).name
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.read_output, str)
        with trio.move_on_after(timeout_s):
            try:
                await process.wait()
            finally:
                # Does nothing to one that has ended.
                await process.end((signal.SIGKILL, 5))
    if process.exit_code != 0:
        raise ServerDidNotStart(f"{name} failed with exit code {process.exit_code}: {process.last_words}")


def _tied_to_us(command: Sequence[str], account: Account, death_signal: signal.Signals) -> list[str]:
    numbers = [os.getpid(), int(death_signal), account.uid, account.gid]
    return [sys.executable, "-I", "-S", str(_CHILD), *map(str, numbers), *command]


def _environment() -> dict[str, str]:
    """Return little: ours holds secrets, and PG… variables that would change what the server does."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **kept}


def _filled_pipe(content: bytes) -> int:
    assert len(content) <= _MAX_INPUT_BYTES
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader
