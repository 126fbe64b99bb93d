"""The page's blocks, run one after another in one shell, so that what one sets the next has; each compared as it ends."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
import os
from pathlib import Path
import signal
import subprocess
from typing import Final

from attrs import frozen
import trio

from scripts.validation.matching import complaints
from scripts.validation.page import Step

ROOT: Final = Path(__file__).parents[2]

# Of one step: the longest waits for ACKs, and `curl` gives up after 30 s. More than this hangs.
STEP_WITHIN_S: Final = 90.0
# What a step may print: the largest answer, /openapi.json, has a third of it.
MOST_BYTES: Final = 1 << 20
# What no answer has in it: it tells where one step ends, with its exit code behind.
_END_OF_STEP: Final = "\036"


@frozen
class Walked:
    """How a step went: nothing to complain of is good."""

    step: Step
    complaints: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.complaints


async def walk(
    steps: Sequence[Step], environ: Mapping[str, str], script: Path, tell: Callable[[Walked], None]
) -> list[Walked]:
    """What they are run from is written to `script`. After a step that the shell doesn't survive, none is run."""
    await trio.Path(script).write_text("".join(map(_with_its_end, steps)))
    walked = list[Walked]()
    async with _shell(script, environ) as output:
        printed = b""
        for step in steps:
            told: tuple[int | None, str] = (None, f"nothing more within {STEP_WITHIN_S:g} s")
            with trio.move_on_after(STEP_WITHIN_S):
                told, printed = await _until_its_end(output, printed)
            walked.append(Walked(step, tuple(_judged(step, *told))))
            tell(walked[-1])
            if told[0] is None:
                break
    return walked


def _with_its_end(step: Step) -> str:
    return f"{step.block}\nprintf '\\n\\036%s\\n' $?\n"


def _judged(step: Step, code: int | None, printed: str) -> list[str]:
    if code is None:
        return [f"the shell ended, and the walk with it: {printed.strip()[-2000:]}"]
    found = complaints(step.expected, printed)
    return [*found, f"it ended with exit code {code}"] if found and code else found


async def _until_its_end(output: trio.abc.ReceiveStream, printed: bytes) -> tuple[tuple[int | None, str], bytes]:
    """A step's exit code and what it printed, and what came behind it."""
    end = b"\n" + _END_OF_STEP.encode()
    while True:
        told, mark, rest = printed.partition(end)
        if mark and b"\n" in rest:
            code, _, behind = rest.partition(b"\n")
            return (int(code), told.decode(errors="replace")), behind
        if len(printed) > MOST_BYTES:
            return (None, f"more than {MOST_BYTES} bytes"), b""
        chunk = await output.receive_some()
        if not chunk:
            return (None, printed.decode(errors="replace")), b""
        printed += chunk


@asynccontextmanager
async def _shell(script: Path, environ: Mapping[str, str]) -> AsyncIterator[trio.abc.ReceiveStream]:
    """It and all that it started are ended on leaving."""
    process = await trio.lowlevel.open_process(
        ["sh", "-u", str(script)],
        cwd=ROOT,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with process.stdout:
            yield process.stdout
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
