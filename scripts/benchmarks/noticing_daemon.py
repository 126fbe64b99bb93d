"""`opendesk serve` for `noticing`: SIGUSR1 has its loop stand still: `python -m scripts.benchmarks.noticing_daemon`."""

import signal
import sys
import time
from typing import Final

from opendesk.cli import main as opendesk

# More than the bar for its being noticed; it goes on by itself after that.
STALL_S: Final = 22.0


def stall(*_: object) -> None:
    """A handler runs in the loop's own thread, between two steps of it."""
    time.sleep(STALL_S)


def main() -> None:
    signal.signal(signal.SIGUSR1, stall)
    sys.argv[1:] = ["serve"]
    opendesk()


if __name__ == "__main__":
    main()
