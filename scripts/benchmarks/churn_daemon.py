"""`opendesk serve` for `churn`: `wg` is pretended, and SIGUSR1 has it tell what it holds: `python -m scripts.benchmarks.churn_daemon`.

The interface is in the daemon's own memory then; no more than the peers of one hour are ever on it.
"""

from collections import Counter
import gc
import json
import os
from pathlib import Path
import signal
import sys
from typing import Any, Final

import trio

from opendesk.simulators.wireguard import SimulatedWireguard

# Where it tells, and of how many types, the most frequent ones.
TOLD: Final = "CHURN_TOLD"
_MOST_TYPES: Final = 200

_run_process = trio.run_process


def pretend(wg: SimulatedWireguard) -> None:
    """Before anybody takes `trio.run_process` for its default."""

    async def run(command: Any, **rest: Any) -> Any:
        if "wg" not in command:
            return await _run_process(command, **rest)
        wg.calls.clear()
        return await wg.run(command, **rest)

    trio.run_process = run


def tell(*_: object) -> None:
    """Written aside and renamed, so that whoever waits for it reads a whole one."""
    gc.collect()
    types = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    tasks = trio.lowlevel.current_statistics().tasks_living
    path = Path(os.environ[TOLD])
    aside = path.with_suffix(".new")
    aside.write_text(
        json.dumps({"tasks": tasks, "objects": types.total(), "types": dict(types.most_common(_MOST_TYPES))})
    )
    aside.rename(path)


def main() -> None:
    pretend(SimulatedWireguard())
    signal.signal(signal.SIGUSR1, tell)
    from opendesk.cli import main as opendesk  # noqa: PLC0415  # after `pretend`

    sys.argv[1:] = ["serve"]
    opendesk()


if __name__ == "__main__":
    main()
