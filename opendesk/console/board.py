"""The one board that all pages show: made once a second while at least one is watched, compared with the last, and sent to all alike."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from attrs import define, field
import msgspec
import structlog
import trio

from opendesk.console.asking import PATIENCE_S
from opendesk.console.gathering import Gatherer
from opendesk.console.outage import Outage
from opendesk.console.patches import patch, whole
from opendesk.console.proving import Proving
from opendesk.console.shapes import Snapshot
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import every

log = structlog.get_logger()

PERIOD_S: Final = 1.0
# For a page that is asked for: what a stream was just told is new enough.
FRESH_S: Final = 1.5
# Streams at once. Each is a connection for hours, and a patch a second.
WATCHERS_MOST: Final = 32
# At a stop: who doesn't read isn't waited for.
BYE_S: Final = 1.0
# For whether those who watch still may.
_ADMITTED_S: Final = 2.0

_ADMITTED: Final = """
    SELECT id, token_version FROM users WHERE id = ANY (%(ids)s) AND role = 'ADMIN' AND banned_at IS NULL
"""

STOPPING: Final = "stopping"
LOGGED_OUT: Final = "logged_out"
# Nobody could be asked for too long whether this one still may: the page comes back, and is let in when the database says so.
UNPROVEN: Final = "unproven"

# A user, and the version of their tokens.
_Who = tuple[UUID, int]


@define(eq=False)
class Watcher:
    """A stream: who watches, what it saw last, and why it is to end, if it is."""

    user_id: UUID
    token_version: int
    seen: int = 0
    over: str | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)


@define(eq=False)
class Board:
    """`run` is a service of the daemon. `version` counts snapshots: who missed one is given everything again, so nothing is queued for anybody."""

    _gatherer: Gatherer
    _proving: Proving
    _pool: Pool
    _outage: Outage
    watchers: set[Watcher] = field(factory=set, init=False)
    version: int = field(default=0, init=False)
    is_stopping: bool = field(default=False, init=False)
    _shown: Snapshot | None = field(default=None, init=False)
    _made_s: float = field(default=float("-inf"), init=False)
    _patch: bytes = field(default=b"", init=False)
    _whole: bytes | None = field(default=None, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _checked: trio.Event | None = field(default=None, init=False)  # while it is being looked who may watch

    _is_logged: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Nothing in here waits long for the database: a page that stands still tells the less the more there is to tell."""
        async with trio.open_nursery() as nursery:

            async def tick() -> None:
                if not self.watchers or self.is_stopping:
                    return
                if self._proving.is_due and not self._outage.is_away:
                    nursery.start_soon(self._proving.prove)
                await self._look()
                await self._look_who_may(nursery)
                self._tell()

            self._checked = None
            await every(PERIOD_S, tick)

    async def current(self) -> Snapshot:
        """New enough for a page."""
        if self._shown is None or trio.current_time() - self._made_s > FRESH_S:
            await self._look()
        assert self._shown is not None
        return self._shown

    def ask_again(self) -> None:
        """Somebody changed something, and wants to see it on the next page."""
        self._gatherer.ask_again()
        self._made_s = float("-inf")

    async def _look(self) -> None:
        asked_s = trio.current_time()
        async with self._turn:
            if self._made_s > asked_s:  # another did while this waited
                return
            made = await self._gatherer.snapshot()
            before, self._shown, self._made_s = self._shown, made, trio.current_time()
            self._patch = _event("patch", whole(made) if before is None else patch(before, made))
            self._whole = None
            self.version += 1

    # ---- for streams

    def told(self, watcher: Watcher) -> bytes:
        """What this one is to be sent now: nothing, the last patch, or all there is."""
        if watcher.seen == self.version or self._shown is None:
            return b""
        is_next = watcher.seen == self.version - 1 and watcher.seen > 0
        watcher.seen = self.version
        return self._patch if is_next else self._everything(self._shown)

    def _everything(self, shown: Snapshot) -> bytes:
        if self._whole is None:
            self._whole = _event("patch", whole(shown))
        return self._whole

    @property
    def news(self) -> trio.Event:
        """To be taken before `told`, and waited for after it."""
        return self._news

    def stop(self) -> None:
        """The daemon is about to: all are told, and end."""
        self.is_stopping = True
        for watcher in self.watchers:
            watcher.over = watcher.over or STOPPING
            watcher.scope.deadline = min(watcher.scope.deadline, trio.current_time() + BYE_S)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # ---- who may watch

    async def _look_who_may(self, nursery: trio.Nursery) -> None:
        """Before more is told; a database that doesn't say so now says it later, within ADMITTED_S."""
        if self._checked is None and not self._outage.is_away:
            self._checked = checked = trio.Event()
            asked = {(watcher.user_id, watcher.token_version) for watcher in self.watchers}
            nursery.start_soon(self._check_admitted, asked, checked)
            with trio.move_on_after(PATIENCE_S):
                await checked.wait()
        for watcher in self.watchers:
            if self._outage.email_of(watcher.user_id, watcher.token_version) is None:
                watcher.over = watcher.over or UNPROVEN

    async def _check_admitted(self, asked: Collection[_Who], checked: trio.Event) -> None:
        """Who was banned, has another password or logged out, here or at another daemon."""
        ids = list({user_id for user_id, _ in asked})
        try:
            with trio.fail_after(_ADMITTED_S):
                async with self._pool.connection() as conn:
                    found: set[_Who] = set(await conn.fetch(_ADMITTED, {"ids": ids}))
        except (*AWAY, trio.TooSlowError) as error:
            log.debug("console.database_away", error=repr(error))
        except Exception:  # whoever watches may until it is known otherwise, for ADMITTED_S at most
            if not self._is_logged:
                self._is_logged = True
                log.exception("console.not_checked")
        else:
            self._is_logged = False
            self._outage.still_in(found)
            self._end(set(asked) - found)
        finally:
            self._checked = None
            checked.set()

    def _end(self, out: Collection[_Who]) -> None:
        """Not those who have logged in again since it was asked."""
        for user_id, version in out:
            self._outage.forget(user_id, version)
        for watcher in self.watchers:
            if (watcher.user_id, watcher.token_version) in out:
                watcher.over = watcher.over or LOGGED_OUT


def bye(reason: str) -> bytes:
    return _event("bye", {"reason": reason})


def _event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
