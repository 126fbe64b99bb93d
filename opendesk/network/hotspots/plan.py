"""What to do so that a router holds what was granted, and no more of ours than that.

A plan is what may be sent together now: done in whole or in part, it never leaves open without its end what has one. What builds on it is
in the plan that is made of the next look. So it goes by what the router was seen to hold and never by what it said, and whoever comes after
a crash goes on where it ended. A grant that has an end takes three:

    binding, disabled → entry of the scheduler → binding enabled, address listed, device sent away to come back

A plan is empty when all is as it should be, or when a row of somebody else is in the way (`conflicts` tells). Whether a row of ours may
stand beside another's of the same device only the router knows: that is tried, and in the way is what it is refused for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from opendesk.network.hotspots.bindings import NEW, Bound, bind, decider
from opendesk.network.hotspots.found import ACTIVE, BINDINGS, HOSTS, LISTS, PAID, Actual, Binding, Host, ListRow
from opendesk.network.hotspots.place import Grant, Place, longest
from opendesk.network.hotspots.steps import Step, add, change, remove

# How far a timeout may be from what it should be: the router counts in whole seconds, and its answer may have been on its way for
# as long as a call may take. Who is off by more is set right.
TOLERANCE_S: Final = 10.0

Pair = tuple[str | None, str | None]


@frozen
class Conflict:
    """A row that isn't ours keeps a device out, and it isn't ours to change."""

    menu: str
    row: str
    why: str

    def __str__(self) -> str:
        return f"{self.menu} {self.row}: {self.why}"


def plan(grants: Sequence[Grant], places: Sequence[Place], actual: Actual) -> tuple[Step, ...]:
    """`grants` are all that are live with an IP or MAC of the places, `actual` is what `queries(places)` found."""
    bound = {
        pair: bind(wanted, *pair, _own_of(pair, actual), actual)
        for pair, wanted in _pairs(grants, places, actual).items()
    }
    steps = [step for device in bound.values() for step in device.steps]
    for ip in dict.fromkeys(place.ip for place in places if place.ip is not None):
        steps += _list_steps(ip, grants, places, actual, bound)
    return (*steps, *_send_away(grants, places, actual, _foreseen(actual, bound)))


def conflicts(grants: Sequence[Grant], places: Sequence[Place], actual: Actual) -> tuple[Conflict, ...]:
    """What keeps out those to whom access was granted, once the plan is empty, or the router refuses what is left of it."""
    return tuple(
        dict.fromkeys(found for grant in _wanted(grants, places).values() for found in _in_the_way(grant, actual))
    )


def is_held(grant: Grant, actual: Actual) -> bool:
    """Whether a row that opens the way was made for this very grant."""
    binding = any(
        row.is_own and not row.is_disabled and (row.ip, row.mac, row.comment) == (grant.ip, grant.mac, grant.comment)
        for row in actual.bindings
    )
    return binding or any(
        row.is_own and not row.is_disabled and (row.ip, row.comment) == (grant.ip, grant.comment)
        for row in actual.lists
    )


# ---- devices


def _wanted(grants: Sequence[Grant], places: Sequence[Place]) -> dict[Pair, Grant]:
    """For each device of the places the grant that its rows carry."""
    by_pair: dict[Pair, list[Grant]] = {}
    for grant in grants:
        if any(place.covers(grant.ip, grant.mac) for place in places):
            by_pair.setdefault((grant.ip, grant.mac), []).append(grant)
    return {pair: best for pair, of_pair in by_pair.items() if (best := longest(of_pair)) is not None}


def _pairs(grants: Sequence[Grant], places: Sequence[Place], actual: Actual) -> Mapping[Pair, Grant | None]:
    """All devices that something was granted to, or that rows of ours are of, or may be left of."""
    rows = [row for row in actual.bindings if row.is_own and any(place.covers(row.ip, row.mac) for place in places)]
    seen = [*((place.ip, place.mac) for place in places), *((row.ip, row.mac) for row in rows)]
    return {**dict.fromkeys(seen), **_wanted(grants, places)}


def _own_of(pair: Pair, actual: Actual) -> list[Binding]:
    return [row for row in actual.bindings if row.is_own and (row.ip, row.mac) == pair]


def _foreseen(actual: Actual, bound: Mapping[Pair, Bound]) -> list[Binding]:
    """The table of bindings once the steps are done; what is new comes last."""
    gone = frozenset[str]().union(*(device.gone for device in bound.values()))
    foreseen = [row for device in bound.values() for row in device.foreseen]
    kept = {row.id: row for row in foreseen if row.id != NEW}
    rows = [kept.get(row.id, row) for row in actual.bindings if row.id in kept or row.id not in gone]
    return [*rows, *(row for row in foreseen if row.id == NEW)]


# ---- addresses


def _list_steps(
    ip: str, grants: Sequence[Grant], places: Sequence[Place], actual: Actual, bound: Mapping[Pair, Bound]
) -> Iterator[Step]:
    rows = [row for row in actual.lists if row.ip == ip]
    own = [row for row in rows if row.is_own]
    wanted = longest(grant for grant in grants if grant.ip == ip and _counts(grant, places))
    if wanted is None:
        kept_by = {
            row.comment for row in actual.bindings if row.is_own and row.ip == ip and not _is_covered(row, places)
        }
        yield from (remove(LISTS, row.id, "nothing is granted here") for row in own if row.comment not in kept_by)
        return
    device = bound.get((wanted.ip, wanted.mac))
    if len(own) < len(rows) or (device is not None and not device.is_open):
        return  # somebody else's row decides; or it opens with the binding
    first = next((row for row in own if _is_right(row, wanted)), None) or next(iter(own), None)
    yield from (remove(LISTS, row.id, "one is enough") for row in own if row is not first)
    yield from _listed(first, wanted)


def _counts(grant: Grant, places: Sequence[Place]) -> bool:
    """Of another device with this IP only what was open before: the rest is for its own turn, in which its time begins."""
    return grant.is_observed or any(place.covers(grant.ip, grant.mac) for place in places)


def _listed(row: ListRow | None, wanted: Grant) -> Iterator[Step]:
    if row is not None and _is_right(row, wanted):
        return
    if row is not None and row.timeout_s is None and wanted.whole_seconds is None:
        carried = {"comment": wanted.comment, "disabled": "no"}
        yield change(LISTS, row.id, "carry the order that ends last", carried, opens=wanted)
        return
    if row is not None:  # a timeout can't be put on a row that was made without one, nor taken off
        yield remove(LISTS, row.id, "its end is another")
    timeout = {} if wanted.whole_seconds is None else {"timeout": f"{wanted.whole_seconds}s"}
    listed = {"list": PAID, "address": wanted.ip, "comment": wanted.comment, **timeout}
    yield add(LISTS, "open", listed, opens=wanted)


def _is_right(row: ListRow, wanted: Grant) -> bool:
    return row.comment == wanted.comment and not row.is_disabled and _ends_right(row, wanted)


def _ends_right(row: ListRow, wanted: Grant) -> bool:
    if row.timeout_s is None or wanted.remaining_s is None:
        return row.timeout_s is wanted.remaining_s is None
    return abs(row.timeout_s - wanted.remaining_s) <= TOLERANCE_S


def _is_covered(row: Binding, places: Sequence[Place]) -> bool:
    return any(place.covers(row.ip, row.mac) for place in places)


# ---- devices that the router sees


def _send_away(
    grants: Sequence[Grant], places: Sequence[Place], actual: Actual, bindings: Sequence[Binding]
) -> Iterator[Step]:
    """Whoever goes in another way than they should now comes back with the next packet, and is looked at anew."""
    wanted = _wanted(grants, places)
    for host in actual.hosts:
        # Of a place with an IP alone not all that lets others through there was asked for.
        if not any(place.mac is not None and place.covers(host.ip, host.mac) for place in places):
            continue
        if _is_let_through(host, bindings):
            if not host.is_bypassed and (host.ip, host.mac) in wanted:
                yield remove(HOSTS, host.id, "comes back past the login page")
        elif host.is_bypassed:
            yield remove(HOSTS, host.id, "comes back to the login page")
    for host in actual.active:
        if (host.ip, host.mac) in wanted and _is_let_through(host, bindings):
            yield remove(ACTIVE, host.id, "comes back past the login page")


def _is_let_through(host: Host, bindings: Sequence[Binding]) -> bool:
    first = next((row for row in bindings if row.matches(host.ip, host.mac, host.server)), None)
    return first is not None and first.is_bypassing


# ---- what is in the way


def _in_the_way(grant: Grant, actual: Actual) -> Iterator[Conflict]:
    # Not rows of ours for any IP or any MAC, as others before us made: nobody keeps those.
    rows = [row for row in actual.bindings if not row.is_own or (row.ip, row.mac) == (grant.ip, grant.mac)]
    binding = decider(rows, grant.ip, grant.mac, actual.server_of(grant.ip, grant.mac))
    if binding is not None and not binding.is_bypassing:
        yield Conflict(BINDINGS, binding.id, "it doesn't let the device through, and isn't ours")
    if binding is None and not any(row.is_own for row in rows):
        for row in rows:
            if (row.ip, row.mac) == (grant.ip, grant.mac):
                how = "disabled" if row.is_disabled else "for one server, with none of ours beside it"
                yield Conflict(BINDINGS, row.id, f"it is of this device, {how}, and isn't ours")
    for listed in actual.lists:
        if listed.ip == grant.ip and not listed.is_own and not _does(listed, grant):
            yield Conflict(LISTS, listed.id, "it is of this address, disabled or too short, and isn't ours")


def _does(row: ListRow, grant: Grant) -> bool:
    if row.is_disabled or row.timeout_s is None:
        return not row.is_disabled
    return grant.remaining_s is not None and row.timeout_s >= grant.remaining_s - TOLERANCE_S
