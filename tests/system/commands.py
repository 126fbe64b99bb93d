"""`opendesk COMMAND …` as somebody at a terminal runs it."""

from pathlib import Path
from typing import Any

from attrs import frozen
import trio

from tests.system.daemon import COMMAND, PATIENCE_S, environment


@frozen
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line that it failed with."""
        assert self.code != 0, self
        assert self.err.endswith("\n"), self
        (line,) = self.err.splitlines()
        return line


async def opendesk(*arguments: str, data_dir: Path | None = None, stdin: bytes = b"", **settings: Any) -> Done:
    """Settings are given by their names."""
    where = {} if data_dir is None else {"OPENDESK_DATA_DIR": str(data_dir)}
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            [*COMMAND, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment({**where, **settings}),
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
