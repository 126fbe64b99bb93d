"""What the registry asks of the interface, kept in memory: read whole now and then, and by device when the database tells of one."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
import time
from typing import Final

from attrs import define, evolve, field
import structlog
import trio

from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.keeping.dialling import Dialling
from opendesk.network.tunnels.keeping.known import Known, known_of, left_of, redialled
from opendesk.network.tunnels.keeping.plan import Desired, Wanted
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import Device
from opendesk.network.wireguard.endpoints import Names
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

log = structlog.get_logger()

# Read in one statement: some 10 ms.
PORTION: Final = 1_000
# Devices opened between two turns of the others: a preshared key takes some 20 µs.
OPENED_AT_ONCE: Final = 200
# Devices told of between two reads; with more of them reading all costs less.
TOLD_MAX: Final = 1_000
# The database tells of changes; this is for what got lost.
READ_ALL_S: Final = 600.0
# An endpoint that was changed so short a time before a daemon begins, one that died may not have set any more.
REDIALLED_S: Final = 600.0
# How long a router has to dial by itself: as long as one that was changed takes until it undoes that.
FORGOTTEN_S: Final = 300.0


@define(eq=False)
class Registry:
    """`known` by id, `tombstones` with whose they were; what it knows is a version newer with each change.

    `is_told` of changes is whoever listens to the database. Without `names`, as in a dry run, endpoints stay as they were asked for.
    """

    _pool: Pool
    _sealer: Sealer
    _dry_run: bool = False
    _now: Callable[[], float] = time.time
    _names: Names | None = None
    known: dict[str, Known] = field(factory=dict)
    tombstones: Mapping[str, str | None] = field(factory=dict)  # replaced, never changed
    version: int = 0
    is_read: bool = False  # once at least
    is_told: bool = False
    _settled: int = 0
    _bound: frozenset[str] = frozenset()
    _told: set[str] = field(factory=set)
    _told_keys: set[str] = field(factory=set)
    _redials_lately: bool = False
    _read_all: bool = True
    _read_all_at_s: float = 0.0
    _redial: frozenset[str] = frozenset()
    _forgotten_s: dict[str, float] = field(factory=dict)  # keys, and until when
    _stirred: set[str] = field(factory=set)  # keys that changed, which are bounded as devices are
    _desired: Desired | None = None
    _dialling: Dialling = field(init=False)
    _reading: trio.Lock = field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self._dialling = Dialling(self._names)

    # ---- told

    def tell(self, ids: Iterable[str], keys: Iterable[str] = ()) -> None:
        """These may have changed, or be tombstones. An empty id is what no device has: a binding, the tombstone of a key that was nobody's."""
        self._told.update(ids)
        self._told_keys.update(keys)
        if len(self._told) + len(self._told_keys) > TOLD_MAX:
            self.tell_all()

    def tell_all(self) -> None:
        self._told.clear()
        self._told_keys.clear()
        self._read_all = True

    def redial_lately(self) -> None:
        """For the daemon that keeps the interface from now on: who was to be dialled elsewhere a moment ago may not have been."""
        self._redials_lately = True
        self.tell_all()

    # ---- read

    async def refresh(self) -> None:
        """Read what was told of, or all where that is due. Raise what the database does: then nothing that was told is forgotten."""
        async with self._reading:
            self._remember()
            if self._read_all or trio.current_time() >= self._read_all_at_s:
                await self._refresh_all()
            elif self._told or self._told_keys:
                await self._refresh_told()

    async def refresh_all(self) -> None:
        self.tell_all()
        await self.refresh()

    async def renew(self) -> None:
        """What others have done meanwhile: all of it is read where nobody tells."""
        if not self.is_told:
            self.tell_all()
        await self.refresh()

    async def _refresh_all(self) -> None:
        self._read_all = False
        self._told.clear()
        self._told_keys.clear()
        try:
            known: dict[str, Known] = {}
            async with self._pool.connection() as conn:
                after = 0
                while rows := await devices.portion(conn, after, PORTION, dry_run=self._dry_run):
                    after = rows[-1].seq
                    known |= await self._understood(rows)
                await self._read_keys(conn)
                lately = await self._changed_lately(conn)
        except BaseException:  # cancelled, too
            self._read_all = True
            raise
        self._take(known, self.known.keys() - known.keys(), lately=lately or frozenset())
        self.is_read = True
        self._redials_lately &= lately is None
        self._read_all_at_s = trio.current_time() + READ_ALL_S

    async def _refresh_told(self) -> None:
        told, self._told = self._told, set()
        keys, self._told_keys = self._told_keys, set()
        ids = sorted(told - {""})
        try:
            async with self._pool.connection() as conn:
                rows = await devices.some(conn, ids, dry_run=self._dry_run) if ids else ()
                known = await self._understood(rows)
                if "" in told:
                    await self._read_keys(conn)
                else:
                    await self._read_tombstones_of(
                        conn, told, keys | {key for one in known.values() for key in one.keys}
                    )
        except BaseException:
            self._told |= told
            self._told_keys |= keys
            raise
        self._take(known, told & (self.known.keys() - known.keys()))

    async def _changed_lately(self, conn: TrioConnection) -> AbstractSet[str] | None:
        if not self._redials_lately:
            return None
        return await devices.changed_lately(conn, REDIALLED_S, dry_run=self._dry_run)

    async def _read_keys(self, conn: TrioConnection) -> None:
        """After the devices: one that was removed meanwhile must not be taken for one that nobody asked for."""
        tombstones = await devices.tombstones(conn, dry_run=self._dry_run)
        self._take_keys(tombstones, await bindings.keys(conn, dry_run=self._dry_run))

    async def _read_tombstones_of(self, conn: TrioConnection, ids: AbstractSet[str], keys: AbstractSet[str]) -> None:
        """The same, where there may be ten thousand others. A key that a device of these took over is no tombstone any more."""
        found = await devices.tombstones_of(conn, ids, keys, dry_run=self._dry_run)
        before = {key: whose for key, whose in self.tombstones.items() if whose in ids or key in keys}
        if found != before:
            others = {key: whose for key, whose in self.tombstones.items() if key not in before}
            self._take_keys(others | dict(found), self._bound)

    def _take_keys(self, tombstones: Mapping[str, str | None], bound: frozenset[str]) -> None:
        if (tombstones, bound) != (self.tombstones, self._bound):
            self.version += bool(tombstones.keys() - self.tombstones.keys())
            self._stirred |= tombstones.keys() ^ self.tombstones.keys()
            self.tombstones, self._bound, self._desired = tombstones, bound, None

    async def _understood(self, rows: Sequence[Device]) -> dict[str, Known]:
        found = {}
        for count, row in enumerate(rows):
            found[row.id] = known_of(row, self._sealer, self.known.get(row.id), self._now())
            if count % OPENED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    def _take(self, known: Mapping[str, Known], gone: Iterable[str], *, lately: AbstractSet[str] = frozenset()) -> None:
        """At once: nobody sees half of it."""
        changed = [one for device_id, one in known.items() if one is not self.known.get(device_id)]
        self._redial |= {key for one in changed for key in redialled(one, self.known.get(one.id))}
        self._redial |= {one.public_key for one in known.values() if one.id in lately}
        for one in changed:
            if one.fault is not None and (self.known.get(one.id) is None or self.known[one.id].fault != one.fault):
                log.error("tunnel.device_left_as_it_is", device=one.id, error=one.fault)
        before = [found for one in changed if (found := self.known.get(one.id)) is not None]
        self.known |= {one.id: one for one in changed}
        lost = [found for device_id in list(gone) if (found := self.known.pop(device_id, None)) is not None]
        if stirred := [*before, *changed, *lost]:
            self._stirred.update(key for one in stirred for key in one.keys)
            self._dialling.are(self.known.values(), stirred)
            self._desired = None
            self.touch()

    # ---- told on

    @property
    def is_dirty(self) -> bool:
        """Whether something was read that no pass has put on the interface yet."""
        return self._settled != self.version

    def touch(self) -> None:
        """Some pass is to come, as if something had changed."""
        self.version += 1

    def settle(self, version: int) -> None:
        """What was known then is on the interface, or was tried."""
        self._settled = version

    def desired(self) -> Desired:
        """What the interface is to hold."""
        if self._desired is None:
            peers = self._peers(self.known.values())
            left = {
                one.public_key: one
                for known in self.known.values()
                if known.fault is not None
                for one in left_of(known)
            }
            self._redial &= peers.keys()
            removed, bound = frozenset(self.tombstones), self._bound | left.keys()
            self._desired = Desired(peers, removed, bound, self._redial_of(peers), left)
        return self._desired

    def desired_of(self, ids: Collection[str], keys: Collection[str] = ()) -> Desired:
        """The part of it that these devices have, and the tombstones that are theirs or of these keys."""
        peers = self._peers([self.known[device_id] for device_id in ids if device_id in self.known])
        removed = frozenset(key for key, device_id in self.tombstones.items() if device_id in ids or key in keys)
        return Desired(peers, removed, redial=self._redial_of(peers))

    def _peers(self, known: Collection[Known]) -> Mapping[str, Wanted]:
        peers = self._dialling.peers(known)
        for key in self._forgotten_s.keys() & peers.keys():
            peers[key] = evolve(peers[key], endpoint=None)
        return peers

    def _redial_of(self, peers: Mapping[str, Wanted]) -> frozenset[str]:
        """Those that are to be dialled somewhere: others wait until that is known."""
        return frozenset(key for key in self._redial & peers.keys() if peers[key].endpoint is not None)

    def found_names(self) -> None:
        """Some are known now, or are somewhere else."""
        self._desired = None
        self.touch()

    def forget_endpoint(self, key: str) -> None:
        """For a while it is the router that dials."""
        self._forgotten_s[key] = trio.current_time() + FORGOTTEN_S
        self._desired = None

    def _remember(self) -> None:
        over = [key for key, until_s in self._forgotten_s.items() if until_s <= trio.current_time()]
        for key in over:
            del self._forgotten_s[key]
        if over:
            self._desired = None
            self.touch()

    def take_stirred(self) -> AbstractSet[str]:
        """Keys of which something has changed in the registry since this was last asked."""
        stirred, self._stirred = self._stirred, set()
        return stirred

    @property
    def rotating(self) -> Sequence[Known]:
        return [one for one in self.known.values() if one.next_since_unix is not None]

    @property
    def faults(self) -> Mapping[str, str]:
        """Of devices that can't be put on the interface, why."""
        return {one.id: one.fault for one in self.known.values() if one.fault is not None}

    def dialled(self, keys: Iterable[str]) -> None:
        """Their changed endpoints are on the interface, and may roam."""
        if self._redial:
            self._redial -= set(keys)
            self._desired = None

    def buried(self, keys: AbstractSet[str]) -> None:
        self.tombstones = {key: device_id for key, device_id in self.tombstones.items() if key not in keys}
        self._desired = None
