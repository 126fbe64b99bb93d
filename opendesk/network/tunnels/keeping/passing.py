"""One pass: what the interface holds against what the registry asks of it, until it is so."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Final, TypeVar

from attrs import define, evolve, field, frozen
import psycopg
import structlog
import trio

from opendesk.network.tunnels.keeping import rotation
from opendesk.network.tunnels.keeping.answering import answered
from opendesk.network.tunnels.keeping.applying import Applying
from opendesk.network.tunnels.keeping.drifts import Drifts
from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.plan import Desired, Plan, plan, planning
from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.tunnels.keeping.wanted import Registry
from opendesk.network.tunnels.registry import bindings, devices, removals
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.dump import Interface, Peer
from opendesk.network.wireguard.wg import SET_S
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool

log = structlog.get_logger()

T = TypeVar("T")

# What was put is read again and put again. Whatever isn't held after that is undone by somebody, and not by chance.
ROUNDS: Final = 3
# A `wg set` that somebody planned before a key was removed may put it back after it was seen gone, though whoever called it is gone as well.
# So tombstones stay for as long as it may take, and for a while in which it was planned.
BURIED_AFTER_S: Final = 2.0 * SET_S


@frozen
class How:
    """`most` is an operator's word on how many unknown peers may go; without it they go so seldom that somebody can notice.

    A full pass also makes the bindings that are missing, and buries tombstones, of which there may be ten thousand.
    """

    is_full: bool = True
    remove_unknown: bool = False
    most: int | None = None
    applies: bool = True


@frozen
class Report:
    """`found` is what was to do, `left` what is still to do; `done` was done in between, whatever came of it.

    With a `fault` the database couldn't be asked, and it was all by what was known of it. `is_too_soon`: unknown peers went a moment ago.
    """

    interface: Interface
    found: Plan
    done: tuple[Change, ...]
    left: Plan
    fault: str | None = None
    is_too_soon: bool = False


@frozen
class _Planned:
    """By what the registry said as of this version."""

    plan: Plan
    desired: Desired
    version: int


@define(eq=False)
class Passes:
    """Whoever asks for one sees to it that no other runs meanwhile."""

    _pool: Pool
    _registry: Registry
    _sight: Sight
    _drifts: Drifts
    _now: Callable[[], float]
    _removals_apart_s: float
    _strangers: frozenset[str] = field(default=frozenset(), init=False)  # the registry was asked for them
    _fault: str | None = field(default=None, init=False)  # of this pass
    _bindings_fault: str | None = field(default=None, init=False)  # that was told

    async def one(self, how: How) -> Report:
        """Raise WgError, or what the database does if nothing was read of it before: what is known is good enough to mend drift by."""
        self._fault = None
        await self._refresh(self._registry.refresh)
        tombstones, interface = frozenset(self._registry.tombstones), await self._sight.read()
        if how.applies:
            await self._tried(partial(self._turn_rotations, interface.peers))
        found = await self._found(interface, how)
        if not how.applies:
            return Report(interface, found.plan, (), found.plan, self._fault)
        may_remove = found.plan.held_back == len(found.plan.unknown) or await self._tried(partial(self._claim, how))
        if not may_remove:
            found = await self._plan(interface, evolve(how, remove_unknown=False))
        removes = how.remove_unknown and bool(may_remove)
        stirred = self._registry.take_stirred()
        self._drifts.found(found.desired, found.plan, stirred=stirred, removes_unknown=removes)
        report = await self._converged(interface, found)
        if how.is_full:
            await self._tried(partial(self._bury, tombstones, report.interface))
            await self._make_missing_bindings()
        return evolve(report, fault=self._fault, is_too_soon=may_remove is False)

    async def _refresh(self, read: Callable[[], Awaitable[None]]) -> None:
        """What was never read is waited for: there is nothing else to go by."""
        try:
            with answered() if self._registry.is_read else nullcontext():
                await read()
        except AWAY as error:
            if not self._registry.is_read:
                raise
            self._fault = repr(error)

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What a pass does without where the database is away; then None."""
        if self._fault is None:
            try:
                with answered():
                    return await work()
            except AWAY as error:
                self._fault = repr(error)
        return None

    async def _plan(self, interface: Interface, how: How) -> _Planned:
        """By one state of the registry, which may change meanwhile."""
        desired, version = self._registry.desired(), self._registry.version
        steps = planning(desired, interface.peers, remove_unknown=how.remove_unknown, most=how.most)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return _Planned(end.value, desired, version)
            await trio.lowlevel.checkpoint()

    async def _found(self, interface: Interface, how: How) -> _Planned:
        """Peers that look unknown may have been registered a moment ago, where nobody has told us yet: the registry is read once for them."""
        found = await self._plan(interface, how)
        unknown = found.plan.unknown
        if unknown and self._fault is None and (how.remove_unknown or not self._strangers.issuperset(unknown)):
            await self._refresh(self._registry.refresh_all)
            found = await self._plan(interface, how)
        self._strangers = frozenset(found.plan.unknown)
        return found

    async def _claim(self, how: How) -> bool:
        """Whether unknown peers may go now. That they do is written down before, also where an operator says so."""
        async with self._pool.connection() as conn:
            claimed = await removals.claim(conn, self._removals_apart_s if how.most is None else 0)
        return claimed or how.most is not None

    async def _converged(self, interface: Interface, found: _Planned) -> Report:
        """Unknown peers go in the first round only: of three tenths each there would be little left."""
        left, applying = found, Applying(self._sight)
        done: list[Change] = []
        for _ in range(ROUNDS):
            if not left.plan.changes:
                break
            await applying.all_of(left.plan.changes)
            done += left.plan.changes
            self._registry.dialled(left.desired.redial)
            if self._fault is None:  # somebody may have removed what was just put
                await self._refresh(self._registry.renew)
            interface = await self._sight.read()
            left = await self._plan(interface, How(remove_unknown=False))
        self._drifts.left(left.desired, left.plan)
        self._registry.settle(left.version)
        if not left.plan.changes:
            self._registry.dialled(left.desired.redial)
        return Report(interface, found.plan, tuple(done), left.plan)

    async def _make_missing_bindings(self) -> None:
        """Whatever keeps the database from it, the interface is right, and that is said once."""
        if self._fault is not None:
            return
        try:
            with answered():
                async with self._pool.connection() as conn:
                    made = await bindings.make_missing(conn, dry_run=False)
        except psycopg.Error as error:
            fault = str(error).partition("\n")[0]  # what follows names the row
            if fault != self._bindings_fault:
                self._bindings_fault = fault
                log.warning("tunnel.bindings_not_made", error=fault)
            return
        self._bindings_fault = None
        if made:
            log.info("tunnel.bindings_made", count=len(made))

    async def _bury(self, tombstones: frozenset[str], interface: Interface) -> None:
        """Those that were there before the interface was read without them, and are old enough."""
        gone = (tombstones & self._registry.tombstones.keys()) - interface.peers.keys()
        if gone and self._sight.was_quiet(interface):
            async with self._pool.connection() as conn:
                buried = await devices.bury(conn, gone, BURIED_AFTER_S, dry_run=False)
            if buried:
                self._registry.buried(buried)

    async def _turn_rotations(self, peers: Mapping[str, Peer]) -> None:
        """A new key that has proven itself takes over even when its time is up; one that hasn't by then goes."""
        proven, has_over = due(self._registry.rotating, peers, self._now())
        if not proven and not has_over:
            return
        changed = [one.id for one in proven]
        async with self._pool.connection() as conn:
            for one in proven:
                assert one.next_public_key is not None
                if await devices.complete_rotation(conn, one.id, one.next_public_key, dry_run=False):
                    log.info("tunnel.rotated", device=one.id, public_key=one.next_public_key)
            if has_over:
                expired = await devices.expire_rotations(conn, rotation.ROTATION_LASTS_S, dry_run=False)
                for device_id in expired:
                    log.warning("tunnel.rotation_expired", device=device_id)
                changed += expired
        self._registry.tell(changed)
        await self._registry.refresh()


def due(rotating: Collection[Known], peers: Mapping[str, Peer], now_unix: float) -> tuple[list[Known], bool]:
    """Rotations that are proven, and whether there are others whose time is up."""
    proven, has_over = [], False
    for one in rotating:
        assert one.next_public_key is not None
        assert one.next_since_unix is not None
        assert one.proves_since_unix is not None
        if rotation.proven(one.proves_since_unix, peers.get(one.next_public_key)):
            proven.append(one)
        else:
            has_over |= rotation.is_over(one.next_since_unix, now_unix)
    return proven, has_over


def touched_part(desired: Desired, actual: Mapping[str, Peer]) -> Plan:
    """What is to be done for some devices only, by what was last read; unknown peers aren't its business."""
    mine = desired.peers.keys() | desired.removed
    return plan(desired, {key: actual[key] for key in mine & actual.keys()}, remove_unknown=False)
