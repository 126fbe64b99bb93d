"""Python's collector of cyclic garbage, set for a daemon that has thousands of requests under way.

By default it looks at 700 new objects at a time, and often at all there are: with 500 heartbeats waiting for their batch it took a
quarter of the daemon's CPU, and found nothing.
"""

import gc
from typing import Final

# New objects between two looks: some 1 MB, looked through in some 1 ms. With five times as many, what waits to be looked at is seen in
# resident memory (`scripts/bench churn`: 2.7 % of it where this has 1.0 %), and calls cost the same.
YOUNG: Final = 10_000
# So many looks at the new ones for one at the middle-aged, and again for one at all: Python's own.
OLDER: Final = 10


def look_seldom() -> None:
    gc.set_threshold(YOUNG, OLDER, OLDER)


def spare_what_stays() -> None:
    """What is there when a daemon is ready stays until it ends: modules, classes, routes. It is never looked at again."""
    gc.collect()
    gc.freeze()
