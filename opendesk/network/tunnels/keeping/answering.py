"""The database, while it holds its connections open and says nothing: that is as good as away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import trio

# Ten times what the longest step takes, reading twenty thousand devices. No pass begins meanwhile, and what others change on the
# interface isn't mended.
ANSWER_S: Final = 5.0


class Unanswered(psycopg.OperationalError):
    """The database didn't answer in time."""


@contextmanager
def answered() -> Iterator[None]:
    """One step of a pass. Raise Unanswered, which is one of AWAY."""
    try:
        with trio.fail_after(ANSWER_S):
            yield
    except trio.TooSlowError:
        raise Unanswered(f"the database doesn't answer within {ANSWER_S:g} s") from None
