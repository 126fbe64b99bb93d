"""What the registry asks of the interface, kept in memory: read whole now and then, and by device when the database tells of one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen
import structlog
import trio

from opendesk.network.routers.errors import CannotOpen, SealingUnavailable
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.keeping.plan import Desired, Wanted
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import Device, preshared_key_of
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


@frozen
class Known:
    """A device, as far as the interface is concerned. With a `fault` its peers are left as they are."""

    id: str
    public_key: str
    next_public_key: str | None
    next_since_unix: float | None
    tunnel_ip: str | None
    peers: tuple[Wanted, ...]  # by the present key, and the next one
    fault: str | None
    sealed: tuple[bytes | None, bytes | None] = field(repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.public_key,) if self.next_public_key is None else (self.public_key, self.next_public_key)


@define(eq=False)
class Registry:
    """`known` by id; what it knows is a version newer with each change."""

    _pool: Pool
    _sealer: Sealer
    _dry_run: bool = False
    known: dict[str, Known] = field(factory=dict)
    tombstones: frozenset[str] = frozenset()
    version: int = 0
    _settled: int = 0
    _bound: frozenset[str] = frozenset()
    _told: set[str] = field(factory=set)
    _read_all: bool = True
    _reread_keys: bool = True
    _read_all_at_s: float = 0.0
    _redial: frozenset[str] = frozenset()
    _desired: Desired | None = None
    _reading: trio.Lock = field(factory=trio.Lock)

    # ---- told

    def tell(self, ids: Iterable[str]) -> None:
        """These may have changed. An empty one is what no device has: a binding, the tombstone of a key that was nobody's."""
        self._told.update(ids)
        self._reread_keys = True
        if len(self._told) > TOLD_MAX:
            self.tell_all()

    def tell_all(self) -> None:
        self._told.clear()
        self._read_all = True

    # ---- read

    async def refresh(self) -> None:
        """Read what was told of, or all where that is due. Raise what the database does: then nothing that was told is forgotten."""
        async with self._reading:
            if self._read_all or trio.current_time() >= self._read_all_at_s:
                await self._refresh_all()
            elif self._told or self._reread_keys:
                await self._refresh_told()

    async def refresh_all(self) -> None:
        self.tell_all()
        await self.refresh()

    async def _refresh_all(self) -> None:
        self._read_all = self._reread_keys = False
        self._told.clear()
        try:
            known: dict[str, Known] = {}
            async with self._pool.connection() as conn:
                after = 0
                while rows := await devices.portion(conn, after, PORTION, dry_run=self._dry_run):
                    after = rows[-1].seq
                    known |= await self._understood(rows)
                await self._read_keys(conn)
        except BaseException:  # cancelled, too
            self._read_all = True
            raise
        self._take(known, self.known.keys() - known.keys())
        self._read_all_at_s = trio.current_time() + READ_ALL_S

    async def _refresh_told(self) -> None:
        told, self._told, self._reread_keys = self._told, set(), False
        ids = sorted(told - {""})
        try:
            async with self._pool.connection() as conn:
                rows = await devices.some(conn, ids, dry_run=self._dry_run) if ids else ()
                known = await self._understood(rows)
                await self._read_keys(conn, with_bound="" in told)
        except BaseException:
            self._told |= told
            self._reread_keys = True
            raise
        self._take(known, told & (self.known.keys() - known.keys()))

    async def _read_keys(self, conn: TrioConnection, *, with_bound: bool = True) -> None:
        """After the devices: one that was removed meanwhile must not be taken for one that nobody asked for."""
        tombstones, bound = await devices.tombstones(conn, dry_run=self._dry_run), self._bound
        if with_bound:
            bound = await bindings.keys(conn, dry_run=self._dry_run)
        if (tombstones, bound) != (self.tombstones, self._bound):
            self.version += bool(tombstones - self.tombstones)
            self.tombstones, self._bound, self._desired = tombstones, bound, None

    async def _understood(self, rows: Sequence[Device]) -> dict[str, Known]:
        found = {}
        for count, row in enumerate(rows):
            found[row.id] = known_of(row, self._sealer, self.known.get(row.id))
            if count % OPENED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    def _take(self, known: Mapping[str, Known], gone: Iterable[str]) -> None:
        """At once: nobody sees half of it."""
        changed = [one for device_id, one in known.items() if one is not self.known.get(device_id)]
        self._redial |= {key for one in changed for key in _redialled(one, self.known.get(one.id))}
        for one in changed:
            if one.fault is not None and (self.known.get(one.id) is None or self.known[one.id].fault != one.fault):
                log.error("tunnel.device_left_as_it_is", device=one.id, error=one.fault)
        self.known |= {one.id: one for one in changed}
        lost = [self.known.pop(device_id, None) for device_id in list(gone)]
        if changed or any(lost):
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
            peers = {peer.public_key: peer for one in self.known.values() for peer in one.peers}
            left = {key for one in self.known.values() if one.fault is not None for key in one.keys}
            self._desired = Desired(peers, self.tombstones, self._bound | left, self._redial & peers.keys())
        return self._desired

    def desired_of(self, ids: Iterable[str]) -> Desired:
        """The part of it that these devices, and tombstones, have."""
        known = [self.known[device_id] for device_id in ids if device_id in self.known]
        peers = {peer.public_key: peer for one in known for peer in one.peers}
        return Desired(peers, self.tombstones, redial=self._redial & peers.keys())

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

    def buried(self, keys: frozenset[str]) -> None:
        self.tombstones -= keys
        self._desired = None


def known_of(row: Device, sealer: Sealer, before: Known | None) -> Known:
    """`before` itself where nothing has changed. What was opened before isn't opened again."""
    sealed = (row.preshared_key_sealed, row.next_preshared_key_sealed)
    fault: str | None = None
    peers: tuple[Wanted, ...] = ()
    try:
        peers = _peers(row, _opened(row, sealed, sealer, before))
    except (CannotOpen, SealingUnavailable) as error:
        fault = f"its preshared key can't be opened: {error.detail}"
    since = None if row.next_since is None else row.next_since.timestamp()
    made = Known(row.id, row.public_key, row.next_public_key, since, row.tunnel_ip, peers, fault, sealed)
    return before if before is not None and made == before else made


def _opened(
    row: Device, sealed: tuple[bytes | None, bytes | None], sealer: Sealer, before: Known | None
) -> tuple[str | None, str | None]:
    """Of the present key and of the next, which takes over the present one's if it has none of its own."""
    opened: dict[bytes | None, str | None] = {None: None}
    if before is not None:
        opened |= dict(zip(before.sealed, (peer.preshared_key for peer in before.peers), strict=False))
        opened[None] = None
    for one in sealed:
        if one is not None and one not in opened:
            opened[one] = sealer.open(one, about=preshared_key_of(row.id)).reveal()
    present, following = sealed
    return opened[present], opened[present if following is None else following]


def _peers(row: Device, preshared_keys: tuple[str | None, str | None]) -> tuple[Wanted, ...]:
    present = Wanted(row.public_key, row.allowed_ips, row.keepalive, row.endpoint, preshared_keys[0], row.id)
    if row.next_public_key is None:
        return (present,)
    # Its allowed IPs come when it has proven itself.
    return present, Wanted(row.next_public_key, (), row.keepalive, row.endpoint, preshared_keys[1], row.id)


def _redialled(one: Known, before: Known | None) -> set[str]:
    """Its keys if it is to be dialled elsewhere than before."""
    if before is None or not one.peers or not before.peers or before.peers[0].endpoint == one.peers[0].endpoint:
        return set()
    return {one.public_key}
