"""Keeps one interface as the registry has it: at once after a change, and every so often, since others may change it too."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
import math
from typing import Final

from attrs import define, field
from psycopg import Notify
import structlog
import trio

from opendesk.network.tunnels.errors import DeviceNotFound, WireguardUnavailable
from opendesk.network.tunnels.figures import CHANGED, DATABASE_AWAY, NOT_HELD, RIGHT, UNREADABLE, TunnelFigures
from opendesk.network.tunnels.keeping.answering import answered
from opendesk.network.tunnels.keeping.passing import BURIED_AFTER_S, How, Passes, Report, due, touched_part
from opendesk.network.tunnels.keeping.rounds import Rounds
from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.tunnels.keeping.terms import Terms
from opendesk.network.tunnels.keeping.wanted import Registry
from opendesk.network.tunnels.keeping.watching import Watch
from opendesk.network.tunnels.registry import devices
from opendesk.network.wireguard.changes import Change, Put, Remove
from opendesk.network.wireguard.endpoints import Names
from opendesk.network.wireguard.wg import WgError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.listening import listen
from opendesk.supervise import alive

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
# Full passes are at least so far apart where they come only after changes.
FULL_APART_S: Final = 60.0


@define(eq=False)
class Keeper:
    """`run` is the service; what others ask of it works without it, too."""

    _terms: Terms
    registry: Registry
    sight: Sight
    _passes: Passes
    _watch: Watch
    _figures: TunnelFigures
    _names: Names
    _now: Callable[[], float]
    _passing: trio.Lock = field(init=False, factory=trio.Lock)
    _rounds: Rounds[Report] = field(init=False)
    _hurries: Rounds[None] = field(init=False)
    _hurried: set[str] = field(init=False, factory=set)
    _hurried_keys: set[str] = field(init=False, factory=set)
    _news: trio.Event = field(init=False, factory=trio.Event)
    _rotation: trio.Event = field(init=False, factory=trio.Event)
    _full_at_s: float = field(init=False, default=-math.inf)
    _said: str | None = field(init=False, default=None)
    _settling: int = field(init=False, default=0)  # calls that have a pass made, for whatever the registry asks by then

    def __attrs_post_init__(self) -> None:
        self._rounds, self._hurries = Rounds(self._round), Rounds(self._hurry)
        self._names.found = self._found_names

    # ---- asked for

    async def settle(self, ids: Collection[str], keys: Collection[str] = ()) -> None:
        """Until a pass that began after this was called has seen these devices' peers as they should be, and these keys gone if they are to go.
        Raise WireguardUnavailable.
        """
        self.registry.tell(ids, keys)
        self._hurried.update(ids)
        self._hurried_keys.update(keys)
        members = {"deviceId": next(iter(ids))} if len(ids) == 1 else None
        try:
            report = await self._settled()
        except trio.TooSlowError:
            raise WireguardUnavailable(f"no answer within {SETTLE_S:.0f} s", members=members) from None
        except WgError as error:
            raise WireguardUnavailable(str(error), members=members) from error
        mine = self.registry.desired_of(ids, keys)
        if lost := {one.public_key for one in report.left.changes} & (mine.peers.keys() | mine.removed):
            raise WireguardUnavailable(f"the interface doesn't keep {', '.join(sorted(lost))}", members=members)
        for device_id in ids:
            if (known := self.registry.known.get(device_id)) is not None and known.fault is not None:
                raise WireguardUnavailable(f"device {device_id} is left as it is: {known.fault}", members=members)

    async def _settled(self) -> Report:
        self._settling += 1
        try:
            with trio.fail_after(SETTLE_S):
                await self._hurries.ask()
                return await self._rounds.ask()
        finally:
            self._settling -= 1
            if self.registry.is_dirty:
                self._news.set()

    async def _hurry(self) -> None:
        """With ten thousand peers reading takes longer than all else: these are put by what was read last, and a pass reads after that."""
        ids, self._hurried = self._hurried, set()
        keys, self._hurried_keys = self._hurried_keys, set()
        await self.registry.refresh()
        async with self.sight.turn:
            if self.sight.interface is None:
                return
            part = touched_part(self.registry.desired_of(ids, keys), self.sight.interface.peers)
            try:
                if part.changes:
                    await self.sight.set(part.changes)
                    self.registry.dialled(change.public_key for change in part.changes)
            except WgError as error:
                log.info("tunnel.left_to_the_pass", changes=len(part.changes), error=str(error))

    async def forget_endpoint(self, device_id: str) -> None:
        """Make the device's peer anew, without where it was heard from: what reaches it from now on came after its router has dialled.

        Raise DeviceNotFound, WireguardUnavailable.
        """
        self.registry.tell([device_id])
        members = {"deviceId": device_id}
        try:
            with trio.fail_after(SETTLE_S):
                async with self._passing, self.sight.turn:  # what was planned before may dial it
                    await self.registry.refresh()
                    changes = self._made_anew(device_id)
                    self.registry.touch()  # a pass sees to it that the peer is there again, also if this is cut off
                    self._news.set()
                    await self.sight.set(changes)
        except trio.TooSlowError:
            raise WireguardUnavailable(f"no answer within {SETTLE_S:.0f} s", members=members) from None
        except WgError as error:
            raise WireguardUnavailable(str(error), members=members) from error

    def _made_anew(self, device_id: str) -> tuple[Change, ...]:
        known = self.registry.known.get(device_id)
        if known is None:
            raise DeviceNotFound(f"there is no device {device_id}")
        if known.fault is not None:
            raise WireguardUnavailable(known.fault, members={"deviceId": device_id})
        self.registry.forget_endpoint(known.public_key)
        want = self.registry.desired_of([device_id]).peers[known.public_key]
        again = Put(want.public_key, want.allowed_ips, want.keepalive, preshared_key=want.preshared_key)
        return Remove(want.public_key), again

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
        self.registry.redial_lately()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, connect)
                nursery.start_soon(self._keep_looking)
                nursery.start_soon(self._names.run)
                await self._keep_passing()
        finally:
            self.registry.is_told = False

    async def _hear(self, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
        def begun() -> None:
            self.registry.is_told = True
            self.registry.tell_all()
            self._news.set()

        def heard(notification: Notify) -> None:
            self.registry.tell([notification.payload])
            self._news.set()

        await listen(connect, [devices.CHANNEL], who="tunnels", begun=begun, heard=heard)

    async def _keep_passing(self) -> None:
        while True:
            alive("passing")
            self._news = trio.Event()
            is_well = await self._passed()
            wait_s = self._until_due() if is_well else RETRY_S
            alive("passing", wait_s=max(0.0, wait_s))
            with trio.move_on_after(max(0.0, wait_s)):
                await self._news.wait()
                await trio.sleep(TOGETHER_S)

    def _until_due(self) -> float:
        """The next pass that nothing has to happen for. Without an interval there is one where keys that were removed may have come back."""
        if not self._terms.interval_s and not self.registry.tombstones:
            return math.inf
        return self._full_at_s + (0 if self._terms.interval_s else BURIED_AFTER_S) - trio.current_time()

    async def _passed(self) -> bool:
        """Whether all was well, with or without a pass: where a call has waited for one, what the database tells of is no news."""
        try:
            fault = await self._refreshed()
            is_left_to_us = self.registry.is_dirty and not self._settling
            if self._until_due() <= 0 or (is_left_to_us and fault is None):
                report = await self._rounds.ask()
                self._tell_left(report)
                fault = fault or report.fault
            if fault is None:
                self._said = None
                return True
            self._say("tunnel.database_away", fault)
        except AWAY as error:
            self._say("tunnel.database_away", repr(error))
        except WgError as error:
            self._say("tunnel.pass_failed", str(error))
        self.registry.touch()
        return False

    async def _refreshed(self) -> str | None:
        """Why not; the interface is kept by what was read before."""
        try:
            with answered() if self.registry.is_read else nullcontext():
                await self.registry.refresh()
        except AWAY as error:
            if not self.registry.is_read:
                raise
            return repr(error)
        return None

    def _found_names(self) -> None:
        self.registry.found_names()
        self._news.set()

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
            alive("looking", wait_s=LOOK_S)
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
    if report.fault is not None:
        return DATABASE_AWAY
    if report.left.changes:
        return NOT_HELD
    return CHANGED if report.done else RIGHT
