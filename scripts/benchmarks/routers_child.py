"""A helper process: told one thing a line, in JSON, and heard as often."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
import json
import subprocess
import sys
from typing import Any, Final

from attrs import define
import psutil
import trio

# For an answer, beyond what the work itself takes.
PATIENCE_S: Final = 120.0


@define(eq=False)
class Child:
    """One question at a time."""

    process: trio.Process
    _rest: bytes = b""

    @property
    def usage(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    async def ask(self, told: object, *, within_s: float = 0.0) -> Any:
        """Raise RuntimeError if it ends instead."""
        assert self.process.stdin is not None
        with trio.fail_after(within_s + PATIENCE_S):
            await self.process.stdin.send_all(json.dumps(told).encode() + b"\n")
            return json.loads(await self._line())

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            piece = await self.process.stdout.receive_some()
            if not piece:
                raise RuntimeError(f"{self.process.args!r} ended early")
            pieces.append(bytes(piece))
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line


@asynccontextmanager
async def child(module: str) -> AsyncIterator[Child]:
    """A Python of this environment that runs a module of this package, gone when the block is left."""
    command = [sys.executable, "-m", f"scripts.benchmarks.{module}"]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Child(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()


def answer(do: Callable[[Any], Any]) -> None:
    """The other end: each line of standard input, until there is none."""
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), flush=True)
