"""Keeps one interface as the registry has it: at once after a change, and every so often, since others may change it too."""

from collections.abc import Awaitable, Callable, Collection
import math
from typing import Final

from attrs import define, field, frozen
from psycopg import Notify
import structlog
import trio

from opendesk.network.tunnels.errors import WireguardUnavailable
from opendesk.network.tunnels.figures import CHANGED, DATABASE_AWAY, NOT_HELD, RIGHT, UNREADABLE, TunnelFigures
from opendesk.network.tunnels.keeping.passing import How, Passes, Report, due, touched_part
from opendesk.network.tunnels.keeping.rounds import Rounds
from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.tunnels.keeping.wanted import Registry
from opendesk.network.tunnels.keeping.watching import Watch
from opendesk.network.tunnels.registry import devices
from opendesk.network.wireguard.wg import WgError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.listening import listen
from opendesk.settings import Settings

log = structlog.get_logger()

# A caller waits for so long to see on the interface what it asked for. It stays asked for after that.
SETTLE_S: Final = 5.0
# At handshakes. With a keepalive they are up to two minutes old, and a minute more is still online.
LOOK_S: Final = 10.0
# The same while a router that has just got a new key is about to use it: until it is seen, nothing comes back to it.
ROTATION_LOOK_S: Final = 1.0
# Whoever hasn't used it by then may come any hour.
ROTATION_HURRY_S: Final = 600.0
# Between what the database tells and the pass for it. A call sees to its own by then, and whoever registers a thousand devices one by one
# has five passes made in a second, not one after the other.
TOGETHER_S: Final = 0.2
# After a pass that failed: `wg` or the database is away.
RETRY_S: Final = 5.0
# Full passes are at least so far apart where they come only after changes: each may remove a tenth of the unknown peers.
FULL_APART_S: Final = 60.0


@frozen(kw_only=True)
class Terms:
    """`interval_s` 0: only after changes; `offline_max_age_s` 0: nobody is silent for too long."""

    remove_unknown: bool = False
    interval_s: float = 60.0
    online_s: float = 180.0
    offline_max_age_s: float = 300.0
    dry_run: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Terms":
        return cls(
            remove_unknown=settings.relay_reconcile_remove,
            interval_s=settings.relay_reconcile_interval_ms / 1000,
            online_s=settings.relay_handshake_online_seconds,
            offline_max_age_s=settings.relay_offline_max_age_sec,
            dry_run=settings.relay_dry_run,
        )


@define(eq=False)
class Keeper:
    """`run` is the service; what others ask of it works without it, too."""

    _terms: Terms
    registry: Registry
    sight: Sight
    _passes: Passes
    _watch: Watch
    _figures: TunnelFigures
    _now: Callable[[], float]
    is_listening: bool = field(init=False, default=False)
    _passing: trio.Lock = field(init=False, factory=trio.Lock)
    _rounds: Rounds[Report] = field(init=False)
    _hurries: Rounds[None] = field(init=False)
    _hurried: set[str] = field(init=False, factory=set)
    _news: trio.Event = field(init=False, factory=trio.Event)
    _rotation: trio.Event = field(init=False, factory=trio.Event)
    _full_at_s: float = field(init=False, default=-math.inf)
    _said: str | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._rounds, self._hurries = Rounds(self._round), Rounds(self._hurry)

    # ---- asked for

    async def settle(self, ids: Collection[str]) -> None:
        """Until a pass that began after this was called has seen these devices' peers as they should be. Raise WireguardUnavailable."""
        self.registry.tell(ids)
        self._hurried.update(ids)
        members = {"deviceId": next(iter(ids))} if len(ids) == 1 else None
        try:
            with trio.fail_after(SETTLE_S):
                await self._hurries.ask()
                report = await self._rounds.ask()
        except trio.TooSlowError:
            raise WireguardUnavailable(f"no answer within {SETTLE_S:.0f} s", members=members) from None
        except WgError as error:
            raise WireguardUnavailable(str(error), members=members) from error
        mine = self.registry.desired_of(ids)
        if lost := {one.public_key for one in report.left.changes} & (mine.peers.keys() | mine.removed):
            raise WireguardUnavailable(f"the interface doesn't keep {', '.join(sorted(lost))}", members=members)

    async def _hurry(self) -> None:
        """With ten thousand peers reading takes longer than all else: these are put by what was read last, and a pass reads after that."""
        ids, self._hurried = self._hurried, set()
        await self.registry.refresh()
        if self.sight.interface is None:
            return
        part = touched_part(self.registry.desired_of(ids), self.sight.interface.peers)
        try:
            if part.changes:
                await self.sight.apply(part.changes)
                self.registry.dialled(change.public_key for change in part.changes)
        except WgError as error:
            log.info("tunnel.left_to_the_pass", changes=len(part.changes), error=str(error))

    async def one(self, how: How) -> Report:
        """A pass of its own. Raise WgError, or what the database does."""
        async with self._passing:
            began_s, outcome = trio.current_time(), UNREADABLE
            try:
                report = await self._passes.one(how)
                outcome = _outcome(report)
            except AWAY:
                outcome = DATABASE_AWAY
                raise
            finally:
                self._figures.passed(outcome, trio.current_time() - began_s)
        if self._is_turning:
            self._rotation.set()
        return report

    async def _round(self) -> Report:
        is_full = trio.current_time() >= self._full_at_s
        report = await self.one(How(is_full=is_full, remove_unknown=is_full and self._terms.remove_unknown))
        if is_full:
            self._full_at_s = trio.current_time() + (self._terms.interval_s or FULL_APART_S)
        return report

    # ---- running

    async def run(self, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, connect)
                nursery.start_soon(self._keep_looking)
                await self._keep_passing()
        finally:
            self.is_listening = False

    async def _hear(self, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
        def begun() -> None:
            self.is_listening = True
            self.registry.tell_all()
            self._news.set()

        def heard(notification: Notify) -> None:
            self.registry.tell([notification.payload])
            self._news.set()

        await listen(connect, [devices.CHANNEL], who="tunnels", begun=begun, heard=heard)

    async def _keep_passing(self) -> None:
        while True:
            self._news = trio.Event()
            is_well = await self._passed()
            wait_s = RETRY_S
            if is_well:
                wait_s = self._full_at_s - trio.current_time() if self._terms.interval_s else math.inf
            with trio.move_on_after(max(0.0, wait_s)):
                await self._news.wait()
                await trio.sleep(TOGETHER_S)

    async def _passed(self) -> bool:
        """Whether all was well, with or without a pass: where a call has waited for one, what the database tells of is no news."""
        try:
            await self.registry.refresh()
            is_due = self._terms.interval_s and trio.current_time() >= self._full_at_s
            if self.registry.is_dirty or is_due:
                self._tell_left(await self._rounds.ask())
        except AWAY as error:
            self._say("tunnel.database_away", repr(error))
        except WgError as error:
            self._say("tunnel.pass_failed", str(error))
        else:
            self._said = None
            return True
        self.registry.touch()
        return False

    def _tell_left(self, report: Report) -> None:
        if report.left.changes:
            log.warning(
                "tunnel.not_held", count=len(report.left.changes), some=[one.detail for one in report.left.drift[:5]]
            )

    def _say(self, event: str, error: str) -> None:
        """Once, until all is well or something else isn't."""
        if event != self._said:
            self._said = event
            log.warning(event, error=error)

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            self._rotation = trio.Event()
            with trio.move_on_after(ROTATION_LOOK_S if self._is_turning else LOOK_S):
                await self._rotation.wait()

    @property
    def _is_turning(self) -> bool:
        """Whether a rotation has just begun."""
        since = self._now() - ROTATION_HURRY_S
        return any((one.next_since_unix or 0.0) > since for one in self.registry.rotating)

    async def _look(self) -> None:
        try:
            interface = await self.sight.look(ROTATION_LOOK_S / 2)
        except WgError:  # said by whoever read
            self._watch.nothing_seen()
            is_due = True
        else:
            await self._watch.look(interface, self.registry.known, self.sight.read_unix)
            is_due = any(due(self.registry.rotating, interface.peers, self._now()))
        if is_due:
            self.registry.touch()
            self._news.set()


def _outcome(report: Report) -> str:
    if report.left.changes:
        return NOT_HELD
    return CHANGED if report.done else RIGHT
