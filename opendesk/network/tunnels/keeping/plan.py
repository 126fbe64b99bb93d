"""What is to be done to the interface's peers so that they are as the registry has them."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property
from itertools import chain
from typing import Final

from attrs import field, frozen

from opendesk.network.tunnels.keeping.thefts import Owners
from opendesk.network.wireguard.changes import Change, Put, Remove
from opendesk.network.wireguard.dump import Peer

# Of the interface's peers, one in so many may go in one pass because nobody asked for it, and one at least: a registry that was read wrong,
# or is another's, is noticed before all are gone.
ONE_IN: Final = 10
# Peers that are wrong, or prefixes of unregistered ones, looked at in one step: some 7 ms.
PORTION: Final = 1_000


class Kind(Enum):
    """In what a peer isn't as it should be."""

    MISSING = "missing"
    ALLOWED_IPS = "allowed_ips"
    STOLEN = "stolen"  # an address of ours is at another peer
    KEEPALIVE = "keepalive"
    PRESHARED_KEY = "preshared_key"
    ENDPOINT = "endpoint"
    REMOVED = "removed"  # it was, and is still there
    UNKNOWN = "unknown"


@frozen
class Wanted:
    """A peer as it should be. Without a preshared key it has none; `endpoint` is where it is dialled first: it may roam."""

    public_key: str
    allowed_ips: tuple[str, ...]
    keepalive: int
    endpoint: str | None
    preshared_key: str | None = field(repr=False)
    device_id: str


@frozen
class Left:
    """A device's peer that can't be put."""

    public_key: str
    allowed_ips: tuple[str, ...]
    device_id: str


@frozen
class Desired:
    """What the registry says of keys. `bound` ones are known, and left as they are; `redial` are those whose endpoint was changed there.

    `left` are the bound ones of devices, by key: nobody else may have their prefixes.
    """

    peers: Mapping[str, Wanted]
    removed: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    redial: frozenset[str] = frozenset()
    left: Mapping[str, Left] = field(factory=dict)

    @cached_property
    def owners(self) -> Owners:
        """Made once, and only if there are peers that aren't registered."""
        holders: Iterator[Wanted | Left] = chain(self.peers.values(), self.left.values())
        return Owners.of((prefix, one.public_key) for one in holders for prefix in one.allowed_ips)

    def is_of(self, key: str, owner: str) -> bool:
        """Whether this key, which isn't to be put, is one of the owner's device, which is left as it is."""
        mine, whose = self.left.get(key), self.left.get(owner)
        return mine is not None and whose is not None and mine.device_id == whose.device_id


@frozen
class Drift:
    kind: Kind
    public_key: str
    device_id: str | None
    detail: str


@frozen
class Plan:
    """Puts come before removes: an allowed IP moves over before its old peer goes. `held_back` of the unknown stay for now."""

    changes: tuple[Change, ...]
    drift: tuple[Drift, ...]
    unknown: tuple[str, ...]
    held_back: int


def plan(desired: Desired, actual: Mapping[str, Peer], *, remove_unknown: bool, most: int | None = None) -> Plan:
    """`most` is an operator's word on how many of the unknown may go."""
    steps = planning(desired, actual, remove_unknown=remove_unknown, most=most)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Plan = end.value
            return found


def planning(
    desired: Desired, actual: Mapping[str, Peer], *, remove_unknown: bool, most: int | None = None
) -> Generator[None, None, Plan]:
    """The same in steps of some milliseconds each, for a loop that has others waiting: ten thousand wrong peers take a tenth of a second."""
    wrong = sorted(want.public_key for want in desired.peers.values() if not _is_right(want, actual, desired.redial))
    yield
    owners = _owners(actual) if wrong else {}
    changes: list[Change] = []
    drift: list[Drift] = []
    for keys in _portions(wrong):
        yield
        for key in keys:
            want, peer = desired.peers[key], actual.get(key)
            changes.append(_put(want, peer, redial=key in desired.redial))
            drift += [Drift(kind, key, want.device_id, detail) for kind, detail in _differences(want, peer, owners)]
    unregistered = actual.keys() - desired.peers.keys()
    gone = sorted(desired.removed & unregistered)
    unknown = tuple(sorted(unregistered - desired.removed - desired.bound))
    limit = max(1, len(actual) // ONE_IN) if most is None else most
    going = unknown[: limit if remove_unknown else 0]
    for key in sorted(unregistered - desired.removed - set(going)):
        if actual[key].allowed_ips:
            stolen = yield from _stolen(desired, actual[key])
            changes += stolen.changes
            drift += stolen.drift
    for kind, detail, others in (
        (Kind.REMOVED, "it is still there", gone),
        (Kind.UNKNOWN, "nobody asked for it", unknown),
    ):
        for keys in _portions(others):
            yield
            drift += [Drift(kind, key, None, detail) for key in keys]
    changes += [Remove(key) for key in (*gone, *going)]
    return Plan(tuple(changes), tuple(drift), unknown, len(unknown) - len(going))


def _stolen(desired: Desired, thief: Peer) -> Generator[None, None, Plan]:
    """What a peer that isn't registered has of ours goes from it, as the same prefix would.

    The same one needs nothing where its owner is put: that takes it.
    """
    kept: list[str] = []
    drift: list[Drift] = []
    for prefixes in _portions(thief.allowed_ips):
        yield
        for prefix in prefixes:
            owned = desired.owners.around(prefix)
            if owned is None or desired.is_of(thief.public_key, owned.public_key):
                kept.append(prefix)
            elif owned.prefix != prefix or owned.public_key in desired.left:
                part = "" if owned.prefix == prefix else f", a part of {owned.prefix},"
                detail = f"{prefix}{part} is at {thief.public_key}"
                whose = desired.peers.get(owned.public_key) or desired.left[owned.public_key]
                drift.append(Drift(Kind.STOLEN, owned.public_key, whose.device_id, detail))
    changes = (Put(thief.public_key, tuple(kept), thief.keepalive),) if drift else ()
    return Plan(changes, tuple(drift), (), 0)


def _portions(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + PORTION] for start in range(0, len(keys), PORTION))


def _is_right(want: Wanted, actual: Mapping[str, Peer], redial: frozenset[str]) -> bool:
    """Asked of every peer in every pass: what is mostly so is looked at first, as it is spelt."""
    peer = actual.get(want.public_key)
    return (
        peer is not None
        and (peer.allowed_ips == want.allowed_ips or set(peer.allowed_ips) == set(want.allowed_ips))
        and peer.keepalive == want.keepalive
        and peer.preshared_key == want.preshared_key
        and (want.endpoint is None or not _is_dialled(want, peer, redial=want.public_key in redial))
    )


def _is_dialled(want: Wanted, peer: Peer | None, *, redial: bool) -> bool:
    """Whether its endpoint is to be set: one that the peer roamed to is better than where it was dialled first."""
    if peer is None or peer.endpoint is None:
        return want.endpoint is not None
    return redial and want.endpoint not in {None, peer.endpoint}


def _put(want: Wanted, peer: Peer | None, *, redial: bool) -> Put:
    endpoint = want.endpoint if _is_dialled(want, peer, redial=redial) else None
    has_other_key = peer is not None and peer.preshared_key != want.preshared_key
    preshared_key = (want.preshared_key or "") if has_other_key else None
    if peer is None:
        preshared_key = want.preshared_key
    return Put(want.public_key, want.allowed_ips, want.keepalive, endpoint, preshared_key)


def _owners(actual: Mapping[str, Peer]) -> dict[str, str]:
    return {prefix: peer.public_key for peer in actual.values() for prefix in peer.allowed_ips}


def _differences(want: Wanted, peer: Peer | None, owners: Mapping[str, str]) -> Iterator[tuple[Kind, str]]:
    for prefix in want.allowed_ips:
        if owners.get(prefix, want.public_key) != want.public_key:
            yield Kind.STOLEN, f"{prefix} is at {owners[prefix]}"
    if peer is None:
        yield Kind.MISSING, "it isn't there"
        return
    yield from _differences_of(want, peer, owners)


def _differences_of(want: Wanted, peer: Peer, owners: Mapping[str, str]) -> Iterator[tuple[Kind, str]]:
    extra = set(peer.allowed_ips) - set(want.allowed_ips)
    lost = [prefix for prefix in want.allowed_ips if prefix not in owners]
    if extra or lost:
        yield Kind.ALLOWED_IPS, f"it has {len(extra)} that aren't its own, and lacks {len(lost)}"
    if peer.keepalive != want.keepalive:
        yield Kind.KEEPALIVE, f"it is {peer.keepalive}, not {want.keepalive}"
    if peer.preshared_key != want.preshared_key:
        yield (
            Kind.PRESHARED_KEY,
            "it is another" if want.preshared_key and peer.preshared_key else "one of two has none",
        )
    if want.endpoint is not None and peer.endpoint is None:
        yield Kind.ENDPOINT, "it has none"
