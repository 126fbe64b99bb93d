"""The last hour of a few figures, kept whether or not anybody watches: a plot is wanted when something has happened already."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field
import structlog
import trio

from opendesk.console.shapes import Plot
from opendesk.network.glance import WAITING, WAITING_AT_MOST
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import every

log = structlog.get_logger()

PERIOD_S: Final = 10.0
POINTS: Final = 360
# Of three counts by indexes. A database that takes longer is told of elsewhere; here it is a gap.
_LOOK_S: Final = 3.0

# The key, title and unit of each.
PLOTS: Final[Mapping[str, tuple[str, str]]] = {
    "sessions": ("Live or waiting", ""),
    "rate": ("From hosts", "B/s"),
    "open": ("Circuits open", ""),
    "due": ("Jobs due or running", ""),
    "waiting": ("Events not decided", ""),
    "lag": ("Loop late by", "ms"),
    "memory": ("Memory", "MB"),
}

_COUNTS: Final = f"""
    SELECT (SELECT count(*) FROM (SELECT FROM sessions WHERE status IN ('PENDING', 'ACTIVE') LIMIT %(most)s) AS s),
           (SELECT count(*) FROM (SELECT FROM jobs WHERE {WAITING} LIMIT %(most)s) AS j),
           (SELECT count(*) FROM (SELECT FROM events WHERE ok IS NULL LIMIT %(most)s) AS e)
"""

Counts = Mapping[str, float | None]


def _empty() -> deque[float | None]:
    return deque([None] * POINTS, maxlen=POINTS)


@define(eq=False)
class History:
    """`run` is a service of the daemon. `look` tells what is known without the database."""

    _pool: Pool
    _look: Callable[[], Counts]
    _rings: dict[str, deque[float | None]] = field(init=False)
    _plots: dict[str, Plot] = field(factory=dict, init=False)
    _is_logged: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._rings = {key: _empty() for key in PLOTS}

    async def run(self) -> None:
        await every(PERIOD_S, self._tick)

    async def _tick(self) -> None:
        self.add({**self._look(), **(await self._counted() or {})})

    def add(self, counts: Counts) -> None:
        for key, ring in self._rings.items():
            ring.append(counts.get(key))
        self._plots.clear()

    def plot(self, key: str) -> Plot:
        """The very same until there is another point."""
        if key not in self._plots:
            title, unit = PLOTS[key]
            self._plots[key] = Plot(key, title, unit, tuple(self._rings[key]))
        return self._plots[key]

    async def _counted(self) -> Counts | None:
        try:
            with trio.fail_after(_LOOK_S):
                async with self._pool.connection() as conn:
                    counts = await _counts(conn)
                    self._is_logged = False
                    return counts
        except (*AWAY, trio.TooSlowError) as error:
            log.debug("console.not_counted", error=repr(error))
        except Exception:  # a gap in a plot is no reason to end anything
            if not self._is_logged:
                log.exception("console.counts_failed")
            self._is_logged = True
        return None


async def _counts(conn: TrioConnection) -> Counts:
    found = await conn.fetch_one(_COUNTS, {"most": WAITING_AT_MOST})
    assert found is not None
    return dict(zip(("sessions", "due", "waiting"), found, strict=True))
