"""The load generator, as the benchmarks use it: told what to do, held until it is time, heard at the end."""

from collections.abc import Sequence
import json
import subprocess
import sys
from typing import Any, Final

from attrs import frozen
import trio

from scripts.benchmarks.load import DRAIN_S
from scripts.benchmarks.measure import Cpu, percentile
from scripts.benchmarks.people import Host, Renter, for_load
from scripts.benchmarks.servers import Served

# No run of the load has as many.
NO_LIMIT: Final = 10_000_000
# To open its connections, and to tell what came of it.
_PATIENCE_S: Final = 60.0


@frozen
class Work:
    """A job of `jobs.py` for so many seconds or `most` jobs, as fast as it goes or `rate` a second."""

    job: str
    people: Sequence[Host | Renter]
    connections: int
    seconds: float
    rate: float | None = None
    most: int = NO_LIMIT


@frozen
class Done:
    """What came of it. `samples` are (when it was due, seconds until the answer was there)."""

    begun_s: float
    seconds: float
    jobs: int
    requests: int
    failed: int
    first_failure: str | None
    samples: list[tuple[float, float]]
    cpu: Cpu

    @property
    def jobs_a_second(self) -> float:
        return self.jobs / self.seconds

    @property
    def p99_ms(self) -> float:
        return percentile([took_s for _, took_s in self.samples]) * 1000

    def cpu_us(self, seconds: float) -> float:
        """Of the CPU seconds, microseconds a job."""
        return seconds / max(self.jobs, 1) * 1e6


async def drive(served: Served, work: Work) -> Done:
    """Raise RuntimeError if anything was refused: a benchmark of errors would look fast."""
    told = {
        "port": served.port,
        "connections": work.connections,
        "job": work.job,
        "people": [for_load(person) for person in work.people],
        "seconds": work.seconds,
        "rate": work.rate,
        "most": work.most,
    }
    with trio.fail_after(work.seconds + DRAIN_S + _PATIENCE_S):
        async with _generator() as process:
            assert process.stdin is not None
            await process.stdin.send_all(json.dumps(told).encode() + b"\n")
            lines = _Lines(process)
            await lines.next()
            before = served.cpu()
            await process.stdin.send_all(b"go\n")
            heard: dict[str, Any] = json.loads(await lines.next())
            used = served.cpu() - before
    done = Done(**heard, cpu=used)
    if done.failed:
        raise RuntimeError(f"{done.failed} of {done.requests} requests failed, the first: {done.first_failure}")
    return done


class _generator:  # noqa: N801  # used as a statement
    """Its process, gone when the block is left."""

    async def __aenter__(self) -> trio.Process:
        command = [sys.executable, "-m", "scripts.benchmarks.load"]
        self._process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                await pipe.aclose()


class _Lines:
    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self._stream: trio.abc.ReceiveStream = process.stdout
        self._rest = b""

    async def next(self) -> bytes:
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            piece = await self._stream.receive_some()
            if not piece:
                raise RuntimeError("the load generator ended early")
            pieces.append(bytes(piece))
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line
