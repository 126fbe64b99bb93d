"""One pass: what the interface holds against what the registry asks of it, until it is so."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from attrs import define, field, frozen
import structlog
import trio

from opendesk.network.tunnels.keeping import rotation
from opendesk.network.tunnels.keeping.applying import Applying
from opendesk.network.tunnels.keeping.drifts import Drifts
from opendesk.network.tunnels.keeping.plan import Desired, Plan, plan, planning
from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.tunnels.keeping.wanted import Known, Registry
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.dump import Interface, Peer
from opendesk.postgres.pool import Pool

log = structlog.get_logger()

# What was put is read again and put again. Whatever isn't held after that is undone by somebody, and not by chance.
ROUNDS: Final = 3


@frozen
class How:
    """`most` is an operator's word on how many unknown peers may go. A full pass also makes the bindings that are missing."""

    is_full: bool = True
    remove_unknown: bool = False
    most: int | None = None
    applies: bool = True


@frozen
class Report:
    """`found` is what was to do, `left` what is still to do; `done` was done in between, whatever came of it."""

    interface: Interface
    found: Plan
    done: tuple[Change, ...]
    left: Plan


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
    _strangers: frozenset[str] = field(default=frozenset(), init=False)  # the registry was asked for them

    async def one(self, how: How) -> Report:
        """Raise WgError, or what the database does."""
        await self._registry.refresh()
        if how.is_full and how.applies:
            await self._make_missing_bindings()
        tombstones, interface = self._registry.tombstones, await self._sight.read()
        if how.applies:
            await self._turn_rotations(interface.peers)
        found = await self._found(interface, how)
        if not how.applies:
            return Report(interface, found.plan, (), found.plan)
        self._drifts.found(found.desired, found.plan, removes_unknown=how.remove_unknown)
        report = await self._converged(interface, found)
        await self._bury(tombstones, report.interface)
        return report

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
        if unknown and (how.remove_unknown or not self._strangers.issuperset(unknown)):
            await self._registry.refresh_all()
            found = await self._plan(interface, how)
        self._strangers = frozenset(found.plan.unknown)
        return found

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
            interface = await self._sight.read()
            left = await self._plan(interface, How(remove_unknown=False))
        self._drifts.left(left.desired, left.plan)
        self._registry.settle(left.version)
        if not left.plan.changes:
            self._registry.dialled(left.desired.redial)
        return Report(interface, found.plan, tuple(done), left.plan)

    async def _make_missing_bindings(self) -> None:
        async with self._pool.connection() as conn:
            made = await bindings.make_missing(conn, dry_run=False)
        if made:
            log.info("tunnel.bindings_made", count=len(made))

    async def _bury(self, tombstones: frozenset[str], interface: Interface) -> None:
        """Those that were there before the interface was read without them. One that a call put meanwhile, and took away, may still be on it."""
        gone = (tombstones & self._registry.tombstones) - interface.peers.keys()
        if gone and self._sight.was_quiet(interface):
            async with self._pool.connection() as conn:
                await devices.bury(conn, gone, dry_run=False)
            self._registry.buried(gone)

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
        if rotation.proven(one.next_since_unix, peers.get(one.next_public_key)):
            proven.append(one)
        else:
            has_over |= rotation.is_over(one.next_since_unix, now_unix)
    return proven, has_over


def touched_part(desired: Desired, actual: Mapping[str, Peer]) -> Plan:
    """What is to be done for some devices only, by what was last read; unknown peers aren't its business."""
    mine = desired.peers.keys() | desired.removed
    return plan(desired, {key: actual[key] for key in mine & actual.keys()}, remove_unknown=False)
