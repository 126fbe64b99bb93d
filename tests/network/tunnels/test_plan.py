"""Whatever the interface holds, what the plan makes of it is what the registry asks for; and what is right isn't touched."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from attrs import evolve
from hypothesis import event, given
from hypothesis import strategies as st
import pytest

from opendesk.network.tunnels.keeping.plan import Desired, Kind, Plan, Wanted, plan
from opendesk.network.tunnels.keeping.thefts import Owners
from opendesk.network.wireguard.changes import Change, Put, Remove
from opendesk.network.wireguard.dump import Peer

KEYS = tuple(f"key {number}" for number in range(8))
IPS = tuple(f"10.200.0.{number}/32" for number in range(6))
# Around some of those, inside none, and beside them all.
NETWORKS = ("10.200.0.0/31", "10.200.0.0/30", "10.200.0.4/30", "10.0.0.0/8", "10.201.0.0/16")
PSKS = (None, "psk 1", "psk 2")
ENDPOINTS = (None, "192.0.2.1:1", "192.0.2.2:2")


def peer_of(key: str, *ips: str, keepalive: int = 25, psk: str | None = None, endpoint: str | None = None) -> Peer:
    return Peer(key, psk, endpoint, ips, 0, 0, 0, keepalive)


def wanted_of(key: str, *ips: str, keepalive: int = 25, psk: str | None = None, endpoint: str | None = None) -> Wanted:
    return Wanted(key, ips, keepalive, endpoint, psk, f"device of {key}")


def by_key(*wanted: Wanted) -> Mapping[str, Wanted]:
    return {one.public_key: one for one in wanted}


def applied(peers: Mapping[str, Peer], changes: Sequence[Change]) -> dict[str, Peer]:
    """As `wg set` does: an allowed IP is one peer's, and moves to who is given it."""
    held = dict(peers)
    for change in changes:
        if isinstance(change, Remove):
            held.pop(change.public_key, None)
            continue
        old = held.get(change.public_key, peer_of(change.public_key))
        held = {
            key: evolve(one, allowed_ips=tuple(ip for ip in one.allowed_ips if ip not in change.allowed_ips))
            for key, one in held.items()
        }
        psk = old.preshared_key if change.preshared_key is None else change.preshared_key or None
        held[change.public_key] = evolve(
            old, allowed_ips=change.allowed_ips, keepalive=change.keepalive, preshared_key=psk,
            endpoint=change.endpoint or old.endpoint,
        )  # fmt: skip
    return held


@st.composite
def shared_out(draw: st.DrawFn, keys: Sequence[str], prefixes: Sequence[str] = IPS) -> dict[str, tuple[str, ...]]:
    """Each address at one of the keys, or at none."""
    owners = {ip: draw(st.sampled_from([None, *keys])) for ip in draw(st.permutations(prefixes))} if keys else {}
    return {key: tuple(ip for ip, owner in owners.items() if owner == key) for key in keys}


some_keys = st.lists(st.sampled_from(KEYS), unique=True)


@st.composite
def interfaces(draw: st.DrawFn) -> dict[str, Peer]:
    ips = draw(shared_out(draw(some_keys), (*IPS, *NETWORKS)))
    rest = st.tuples(st.sampled_from([0, 25]), st.sampled_from(PSKS), st.sampled_from(ENDPOINTS))
    told = {key: draw(rest) for key in ips}
    return {key: peer_of(key, *ips[key], keepalive=k, psk=p, endpoint=e) for key, (k, p, e) in told.items()}


@st.composite
def registries(draw: st.DrawFn) -> Desired:
    keys = draw(some_keys)
    ips = draw(shared_out(keys, draw(st.sampled_from([IPS, (*IPS[4:], NETWORKS[1], NETWORKS[4])]))))
    rest = st.tuples(st.sampled_from([0, 25]), st.sampled_from(PSKS), st.sampled_from(ENDPOINTS))
    told = {key: draw(rest) for key in ips}
    peers = by_key(*(wanted_of(key, *ips[key], keepalive=k, psk=p, endpoint=e) for key, (k, p, e) in told.items()))
    others = draw(st.permutations([key for key in KEYS if key not in peers]))
    cut, end = sorted((draw(st.integers(0, len(others))), draw(st.integers(0, len(others)))))
    redial = frozenset(key for key in keys if draw(st.booleans()))
    return Desired(peers, frozenset(others[:cut]), frozenset(others[cut:end]), redial)


@given(desired=registries(), actual=interfaces(), remove_unknown=st.booleans())
def test_a_plan_that_was_applied_leaves_nothing_to_do(
    *, desired: Desired, actual: dict[str, Peer], remove_unknown: bool
) -> None:
    found = plan(desired, actual, remove_unknown=remove_unknown, most=len(KEYS))
    after = applied(actual, found.changes)
    assert plan(desired, after, remove_unknown=remove_unknown, most=len(KEYS)).changes == ()
    assert plan(desired, after, remove_unknown=remove_unknown).drift == tuple(
        one for one in found.drift if one.kind is Kind.UNKNOWN and not remove_unknown
    )
    event(f"{min(len(found.changes), 3)} changes or more")
    for key, want in desired.peers.items():
        held = after[key]
        assert (set(held.allowed_ips), held.keepalive, held.preshared_key) == (
            set(want.allowed_ips), want.keepalive, want.preshared_key,
        )  # fmt: skip
        assert want.endpoint is None or held.endpoint is not None
    assert not desired.removed & after.keys()
    for key in after.keys() - desired.peers.keys():
        ours = [ip_network(prefix) for want in desired.peers.values() for prefix in want.allowed_ips]
        assert not any(is_within(prefix, one) for prefix in after[key].allowed_ips for one in ours)
        if key in actual:
            kept = {ip for ip in actual[key].allowed_ips if not any(is_within(ip, one) for one in ours)}
            assert set(after[key].allowed_ips) == kept
    assert {key for key in actual if key in desired.bound} <= after.keys()


def is_within(prefix: str, ours: IPv4Network | IPv6Network) -> bool:
    one = ip_network(prefix)
    return (
        one.version == ours.version
        and int(ours.network_address) <= int(one.network_address)
        and (int(one.broadcast_address) <= int(ours.broadcast_address))
    )


@given(registries(), interfaces())
def test_peers_that_are_right_are_not_touched(desired: Desired, actual: dict[str, Peer]) -> None:
    held = applied(actual, plan(desired, actual, remove_unknown=False).changes)
    found = plan(desired, held | {"other": peer_of("other", "10.9.9.9/32")}, remove_unknown=True)
    assert found.changes == (Remove(min(found.unknown)),)


@given(registries(), interfaces())
def test_each_change_is_needed(desired: Desired, actual: dict[str, Peer]) -> None:
    found = plan(desired, actual, remove_unknown=False)
    for left_out in found.changes:
        others = [change for change in found.changes if change is not left_out]
        after = applied(actual, others)
        is_needed = bool(plan(desired, after, remove_unknown=False).changes)
        # Another's put may have taken from it what wasn't its own: that is known only in hindsight.
        had = set(actual[left_out.public_key].allowed_ips) if left_out.public_key in actual else set()
        assert is_needed or (isinstance(left_out, Put) and had - set(left_out.allowed_ips))


@given(desired=registries(), actual=interfaces(), data=st.data(), remove_unknown=st.booleans())
def test_the_order_in_which_all_is_told_does_not_matter(
    *, desired: Desired, actual: dict[str, Peer], data: st.DataObject, remove_unknown: bool
) -> None:
    peers = dict(data.draw(st.permutations(list(desired.peers.items()))))
    held = dict(data.draw(st.permutations(list(actual.items()))))
    shuffled = plan(evolve(desired, peers=peers), held, remove_unknown=remove_unknown)
    assert shuffled == plan(desired, actual, remove_unknown=remove_unknown)


@given(registries(), interfaces())
def test_puts_come_before_removes(desired: Desired, actual: dict[str, Peer]) -> None:
    kinds = [isinstance(change, Remove) for change in plan(desired, actual, remove_unknown=True).changes]
    assert kinds == sorted(kinds)


# ---- one by one


def drift_of(want: Wanted, *actual: Peer) -> list[tuple[Kind, str]]:
    found = plan(Desired(by_key(want)), {peer.public_key: peer for peer in actual}, remove_unknown=False)
    return [(one.kind, one.detail) for one in found.drift if one.public_key == want.public_key]


@pytest.mark.parametrize(
    ("peer", "kinds"),
    [
        (peer_of("a", IPS[0], psk="p", endpoint="192.0.2.9:9"), []),
        (peer_of("a", psk="p", endpoint="192.0.2.9:9"), [Kind.ALLOWED_IPS]),
        (peer_of("a", IPS[0], IPS[1], psk="p", endpoint="192.0.2.9:9"), [Kind.ALLOWED_IPS]),
        (peer_of("a", IPS[0], psk="p", endpoint="192.0.2.9:9", keepalive=0), [Kind.KEEPALIVE]),
        (peer_of("a", IPS[0], endpoint="192.0.2.9:9"), [Kind.PRESHARED_KEY]),
        (peer_of("a", IPS[0], psk="p"), [Kind.ENDPOINT]),
        (peer_of("a", keepalive=0), [Kind.ALLOWED_IPS, Kind.KEEPALIVE, Kind.PRESHARED_KEY, Kind.ENDPOINT]),
    ],
)
def test_each_kind_of_drift_is_told(peer: Peer, kinds: list[Kind]) -> None:
    want = wanted_of("a", IPS[0], psk="p", endpoint="192.0.2.1:1")
    assert [kind for kind, _ in drift_of(want, peer)] == kinds


def test_a_stolen_address_is_told_with_who_has_it() -> None:
    told = drift_of(wanted_of("a", IPS[0]), peer_of("a"), peer_of("thief", IPS[0]))
    assert told == [(Kind.STOLEN, f"{IPS[0]} is at thief")]


@pytest.mark.parametrize("theirs", ["10.200.0.0/25", "10.200.0.128/25", "10.200.0.7/32"])
def test_a_part_of_an_address_is_stolen_too(theirs: str) -> None:
    want = wanted_of("a", "10.200.0.0/24")
    actual = {
        "a": peer_of("a", "10.200.0.0/24"),
        "thief": peer_of("thief", "10.9.0.0/24", theirs, keepalive=7, psk="p"),
    }
    for desired in (Desired(by_key(want)), Desired(by_key(want), bound=frozenset(["thief"]))):
        found = plan(desired, actual, remove_unknown=False)
        assert found.changes == (Put("thief", ("10.9.0.0/24",), 7, None, None),)
        [told] = [one for one in found.drift if one.kind is Kind.STOLEN]
        assert (told.public_key, told.device_id) == ("a", "device of a")
        assert told.detail == f"{theirs}, a part of 10.200.0.0/24, is at thief"
    for desired in (Desired(by_key(want), removed=frozenset(["thief"])), Desired(by_key(want))):
        assert plan(desired, actual, remove_unknown=True).changes == (Remove("thief"),)


def test_networks_beside_ours_around_them_and_of_the_other_family_are_left_alone() -> None:
    want = wanted_of("a", "10.200.1.0/24", "fd00:1::/64")
    theirs = ("10.200.0.0/24", "10.200.2.0/24", "fd00:2::/64", "10.9.0.1/32", "0.0.0.0/0", "10.200.0.0/16", "::/0")
    actual = {"a": peer_of("a", "10.200.1.0/24", "fd00:1::/64"), "other": peer_of("other", *theirs)}
    assert plan(Desired(by_key(want)), actual, remove_unknown=False).changes == ()
    actual["other"] = peer_of("other", *theirs, "fd00:1::1/128")
    [change] = plan(Desired(by_key(want)), actual, remove_unknown=False).changes
    assert change == Put("other", theirs, 25)


def test_where_all_peers_are_registered_nobody_looks_for_thieves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes as long as all else of a pass that has nothing to do."""
    monkeypatch.setattr(Owners, "of", None)
    desired = Desired(by_key(*(wanted_of(key, ip) for key, ip in zip(KEYS, IPS, strict=False))))
    held = {key: peer_of(key, ip) for key, ip in zip(KEYS, IPS, strict=False)} | {"other": peer_of("other")}
    assert plan(desired, held, remove_unknown=False).changes == ()


def test_a_missing_peer_is_told() -> None:
    assert drift_of(wanted_of("a", IPS[0])) == [(Kind.MISSING, "it isn't there")]


def test_allowed_ips_in_another_order_are_the_same() -> None:
    assert drift_of(wanted_of("a", IPS[0], IPS[1]), peer_of("a", IPS[1], IPS[0])) == []


def test_nothing_secret_is_shown() -> None:
    want = wanted_of("a", IPS[0], psk="geheim")
    found = plan(Desired(by_key(want)), {"a": peer_of("a", psk="heimlich")}, remove_unknown=False)
    assert "heim" not in f"{want}{found}"


def test_an_endpoint_is_set_once_and_may_roam() -> None:
    want = wanted_of("a", endpoint="192.0.2.1:1")
    roamed = {"a": peer_of("a", endpoint="198.51.100.1:9")}
    assert plan(Desired(by_key(want)), roamed, remove_unknown=False).changes == ()
    [change] = plan(Desired(by_key(want), redial=frozenset("a")), roamed, remove_unknown=False).changes
    assert change == Put("a", (), 25, "192.0.2.1:1", None)


def test_a_change_leaves_an_endpoint_where_it_roamed_to() -> None:
    want = wanted_of("a", IPS[0], endpoint="192.0.2.1:1")
    roamed = {"a": peer_of("a", endpoint="198.51.100.1:9")}
    assert plan(Desired(by_key(want)), roamed, remove_unknown=False).changes == (Put("a", (IPS[0],), 25, None, None),)


def test_a_preshared_key_nobody_asked_for_is_taken_off() -> None:
    found = plan(Desired(by_key(wanted_of("a"))), {"a": peer_of("a", psk="p")}, remove_unknown=False)
    assert found.changes == (Put("a", (), 25, None, ""),)


# ---- the guard


def strangers(count: int) -> dict[str, Peer]:
    return {f"{number:04}": peer_of(f"{number:04}") for number in range(count)}


def removed(found: Plan) -> list[str]:
    return [change.public_key for change in found.changes if isinstance(change, Remove)]


@pytest.mark.parametrize(("peers", "gone"), [(1, 1), (9, 1), (19, 1), (20, 2), (1000, 100)])
def test_one_in_ten_unknown_peers_goes_at_a_time_and_one_at_least(peers: int, gone: int) -> None:
    found = plan(Desired({}), strangers(peers), remove_unknown=True)
    assert removed(found) == sorted(strangers(peers))[:gone]
    assert (len(found.unknown), found.held_back) == (peers, peers - gone)


def test_an_operators_word_is_another_number() -> None:
    assert len(removed(plan(Desired({}), strangers(30), remove_unknown=True, most=30))) == 30
    assert removed(plan(Desired({}), strangers(30), remove_unknown=True, most=0)) == []


def test_unknown_peers_stay_where_they_are_only_to_be_reported() -> None:
    found = plan(Desired({}), strangers(30), remove_unknown=False)
    assert (found.changes, len(found.unknown), found.held_back) == ((), 30, 30)


def test_what_was_removed_always_goes() -> None:
    gone = frozenset(strangers(30))
    assert removed(plan(Desired({}, removed=gone), strangers(30), remove_unknown=False)) == sorted(gone)


def test_a_peer_that_somebody_bound_is_known_and_stays() -> None:
    found = plan(Desired({}, bound=frozenset(strangers(30))), strangers(30), remove_unknown=True)
    assert (found.changes, found.unknown, found.drift) == ((), (), ())
