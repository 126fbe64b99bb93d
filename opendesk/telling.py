"""What the service manager is told: that the daemon has begun, that it turns, and how it stands."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
import math
import os
from typing import Final

from attrs import define, evolve, field, frozen
import structlog
import trio

from opendesk.ops import standing, systemd
from opendesk.ops.standing import Counted
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import LifeSigns, alive, every

log = structlog.get_logger()

# Signs of life are looked for this often where nobody wants to be fed; oftener where the watchdog's time is shorter.
LOOK_S: Final = 5.0
# Of the watchdog's time: one feeding that comes late, or is dropped by a full queue, costs nothing.
FEEDINGS: Final = 3
# For people, who read it now and then.
STATUS_S: Final = 5.0
COUNT_LIMIT_S: Final = 2.0
# A start that takes long is one that makes a database, recovers one after a crash, or migrates a large one. As long as the loop turns
# it is given more time, up to an hour: what takes longer than that, somebody should look at.
EXTEND_BY_S: Final = 60.0
EXTEND_EVERY_S: Final = 20.0
LONGEST_START_S: Final = 3600.0
# What a stop may take above SHUTDOWN_GRACE_MS: PostgreSQL's last checkpoint.
STOP_AFTER_GRACE_S: Final = 20.0

# As exact as anybody wants to know it.
_COUNT_AT_MOST: Final = 10_000
# Jobs as the console counts them (`network.glance.WAITING`), which isn't imported before the daemon has started.
_COUNTS: Final = """
    SELECT (SELECT count(*) FROM sessions WHERE status IN ('PENDING', 'ACTIVE')) AS sessions,
           (SELECT count(*) FROM (SELECT FROM jobs WHERE state IN ('due', 'running') AND (state = 'running' OR run_at <= now()) LIMIT %(most)s) AS found)
               AS jobs
"""


@frozen
class _Counts:
    sessions: int
    jobs: int


@define(eq=False)
class Telling:
    """`watch` and `keep_status` are services of the daemon. Without a service manager it only looks after the signs of life."""

    _environ: Mapping[str, str]
    _grace_s: float
    signs: LifeSigns = field(factory=LifeSigns)
    _urls: Sequence[str] = field(init=False, default=())
    _said: str = field(init=False, default="")
    _silent: tuple[str, ...] = field(init=False, default=())
    _away_since: datetime | None = field(init=False, default=None)
    _last: Counted | None = field(init=False, default=None)
    _news: trio.Event = field(init=False, factory=trio.Event)
    _is_ready: trio.Event = field(init=False, factory=trio.Event)
    _is_stopping: bool = field(init=False, default=False)

    # ---- at the beginning and the end

    def starts(self, what: str) -> None:
        self._status(standing.starting(what))

    async def ask_for_time(self) -> None:
        """While it starts."""
        self.starts("the database")
        with trio.move_on_after(LONGEST_START_S):
            while not self._urls and not self._is_stopping:
                self._tell(systemd.extend(EXTEND_BY_S))
                await trio.sleep(EXTEND_EVERY_S)

    def ready(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._is_ready.set()
        self._said = f"ready at {' '.join(urls)}"
        self._tell(systemd.READY, systemd.status(self._said))

    def stopping(self) -> None:
        """From then on nobody has to be fed, and the time is the stop's."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._tell(systemd.STOPPING, systemd.status("stopping"), systemd.extend(self._grace_s + STOP_AFTER_GRACE_S))

    # ---- that it turns

    async def watch(self) -> None:
        """Feed the watchdog while every service gives its signs of life. That this is done is the loop's own."""
        allowed_s = systemd.watchdog_s(self._environ, os.getpid())
        try:
            await every(LOOK_S if allowed_s is None else min(LOOK_S, allowed_s / FEEDINGS), self._look)
        except trio.Cancelled:
            self.stopping()  # jobs and the database's last checkpoint are still to come, unfed
            raise

    async def _look(self) -> None:
        silent = tuple(self.signs.silent(trio.current_time()))
        if silent != self._silent:
            self._silent = silent
            self._news.set()
            if silent:
                log.critical("service.silent", services=silent)
            else:
                log.warning("service.silent_no_more")
        if not silent:
            self._tell(systemd.WATCHDOG)

    # ---- how it stands

    def database_is(self, *, up: bool) -> None:
        """At once: somebody may be looking for what is wrong."""
        if up != (self._away_since is None):
            self._away_since = None if up else datetime.now(UTC)
            self._news.set()
            if self._last is not None:  # whoever counts may be waiting for a mute database
                self._status_of(self._last)

    async def keep_status(self, pool: Pool, count: Callable[[], Counted]) -> None:
        alive(wait_s=math.inf)
        if not self._environ.get("NOTIFY_SOCKET"):
            await trio.sleep_forever()
        await self._is_ready.wait()
        while True:
            alive(wait_s=STATUS_S)
            self._news = trio.Event()
            counted = count() if self._away_since is not None else await _counted(pool, count())
            self._last = counted
            self._status_of(counted)
            with trio.move_on_after(STATUS_S):
                await self._news.wait()

    def _status_of(self, counted: Counted) -> None:
        self._status(standing.ready(self._urls, counted, away_since=self._away_since, silent=self._silent))

    def _status(self, text: str) -> None:
        if text != self._said and not self._is_stopping:
            self._said = text
            self._tell(systemd.status(text))

    def _tell(self, *states: str) -> None:
        systemd.sd_notify(self._environ, *states)


async def _counted(pool: Pool, counted: Counted) -> Counted:
    try:
        with trio.fail_after(COUNT_LIMIT_S):
            async with pool.connection() as conn:
                found = await conn.fetch_one(_COUNTS, {"most": _COUNT_AT_MOST}, row=_Counts)
    except (*AWAY, trio.TooSlowError) as error:
        log.debug("status.not_counted", error=repr(error))
        return counted
    assert found is not None
    return evolve(counted, sessions=found.sessions, jobs=found.jobs)
