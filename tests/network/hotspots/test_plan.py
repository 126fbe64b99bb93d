"""Whatever a router holds, what the plan makes of it is what was granted; and what isn't ours stays as it is."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from opendesk.network.hotspots.found import Actual, queries, understood, widened
from opendesk.network.hotspots.place import Grant, Place, longest
from opendesk.network.hotspots.plan import conflicts, plan
from opendesk.network.routeros.session import Command, Result, Row
from tests.network.hotspots.model import ACTIVE, BINDINGS, HOSTS, LISTS, PROGRAM, SCHEDULERS, Router

IPS = ("10.5.50.1", "10.5.50.2")
MACS = ("AA:BB:CC:DD:EE:01", "AA:BB:CC:DD:EE:02")
PAIRS = tuple((ip, mac) for ip in IPS for mac in MACS)
ORDERS = ("1", 'a "b"=c\né', "3")
NOW = 1_790_000_000
NOTHING = Actual()
ALL = frozenset({LISTS, BINDINGS, SCHEDULERS, HOSTS, ACTIVE})
# More than there are stages: a plan that goes on is one that never ends.
STAGES = 6

comments = st.sampled_from([*(f"pedido:{order}" for order in ORDERS), "pedido:unknown", "the boss", ""])
flags = st.sampled_from(["true", "false", "false"])


@st.composite
def grants(draw: st.DrawFn) -> list[Grant]:
    found = {}
    for ip, mac in draw(st.lists(st.sampled_from(PAIRS), max_size=3)):
        order, left = draw(st.sampled_from(ORDERS)), draw(st.sampled_from([None, 60, 600]))
        found[order, ip, mac] = Grant(order, ip, mac, left, None if left is None else NOW + left, draw(st.booleans()))
    return list(found.values())


@st.composite
def places(draw: st.DrawFn) -> list[Place]:
    whole = [Place(ip, mac) for ip, mac in PAIRS]
    partial = [*(Place(ip, None) for ip in IPS), *(Place(None, mac) for mac in MACS)]
    return draw(st.lists(st.sampled_from([*whole, *partial]), min_size=1, max_size=3, unique=True))


@st.composite
def routers(draw: st.DrawFn) -> Router:
    router = Router(server=draw(st.sampled_from(["hs0", "hs0", "hs1"])), prints_any=draw(st.booleans()))
    for ip in IPS:
        if draw(st.booleans()):
            row = {"address": ip, "list": draw(st.sampled_from(["paid_clients", "paid_clients", "other"]))}
            timeout = draw(st.sampled_from([None, "60s", "300s", "600s"]))
            row |= {"comment": draw(comments), "disabled": draw(flags), "dynamic": draw(flags)}
            router.put(LISTS, row | ({} if timeout is None else {"timeout": timeout}))
    for row in draw(st.lists(bindings(), max_size=5, unique_by=_key)):
        row_id = router.put(BINDINGS, row)
        for left in draw(st.lists(st.sampled_from([60, 600]), max_size=2, unique=True)):
            _schedule(router, draw, row_id, row, left)
    for left in draw(st.lists(st.sampled_from([61, 601]), max_size=1)):  # of bindings that are gone
        _schedule(router, draw, "*FF", {"address": IPS[0], "mac-address": MACS[0]}, left)
    router.phones = set(draw(st.lists(st.sampled_from(PAIRS), max_size=2)))
    for ip, mac in sorted(router.phones):
        if draw(st.booleans()):
            row = {"address": ip, "mac-address": mac, "bypassed": draw(flags)}
            router.put(HOSTS, row | draw(st.sampled_from([{}, {"server": router.server}])))
    return router


@st.composite
def bindings(draw: st.DrawFn) -> Row:
    row = {"type": draw(st.sampled_from(["bypassed", "bypassed", "bypassed", "blocked", "regular"]))}
    row |= {"comment": draw(comments), "disabled": draw(flags)}
    if ip := draw(st.sampled_from([*IPS, *IPS, None, "10.5.50.0/24", "10.5.50.1-10.5.50.9"])):
        row["address"] = ip
    if mac := draw(st.sampled_from([*MACS, *MACS, None])):
        row["mac-address"] = mac
    if draw(st.integers(0, 9)) == 0:
        row["server"] = "hs1"
    return row


def _key(row: Row) -> tuple[str | None, ...]:
    return (row.get("address"), row.get("mac-address"), row.get("server"))


def _schedule(router: Router, draw: st.DrawFn, binding: str, row: Row, left: int) -> None:
    name = f"opendesk-{binding[1:]}{draw(st.sampled_from([f'-{left}', f'-{left}', '', '-7']))}-{NOW + left}"
    program = f':do {{/ip hotspot ip-binding remove {binding}}} on-error={{}}; /system scheduler remove "{name}"'
    if draw(st.integers(0, 3)) == 0:
        program = draw(st.sampled_from(["", "/system identity print", program.replace(binding, "*EE")]))
    comment = f"opendesk {row.get('address')} {row.get('mac-address')}"
    if draw(st.integers(0, 3)) == 0:
        name, comment = f"{name}0", "somebody's"
    common = {"name": name, "comment": comment, "disabled": draw(flags)}
    interval = draw(st.sampled_from([left, left, left + 9]))
    policy = draw(st.sampled_from([{}, {"policy": "read,test,write"}, {"policy": "read"}]))
    router.put(SCHEDULERS, common | policy | {"interval": f"{interval}s", "on-event": program})


def look(router: Router, asked: Sequence[Place], menus: frozenset[str] = ALL, before: Actual = NOTHING) -> Actual:
    tables: dict[str, Sequence[Row]] = {}
    for menu, command in queries(asked).items():
        if menu in menus:
            answer = router.run(command)
            assert isinstance(answer, Result)
            tables[menu] = answer.rows
    return understood(tables, before.later(0))


def theirs(live: Sequence[Grant], asked: Sequence[Place]) -> list[Grant]:
    ips, macs = {place.ip for place in asked}, {place.mac for place in asked}
    return [grant for grant in live if grant.ip in ips or grant.mac in macs]


def all_places(router: Router, live: Sequence[Grant], asked: Sequence[Place]) -> tuple[Place, ...]:
    granted = [grant.place for grant in live if any(place.covers(grant.ip, grant.mac) for place in asked)]
    whole = tuple(dict.fromkeys([*asked, *granted]))
    return widened(whole, look(router, whole))


def is_foreign(menu: str, row: Row, *, has_timeout: bool) -> bool:
    own = row.get("comment", "").startswith("pedido:")
    if menu == LISTS:
        return not (own and row["list"] == "paid_clients" and (has_timeout or row.get("dynamic") != "true"))
    if menu == BINDINGS:
        return not (own and row["type"] == "bypassed")
    return not row["comment"].startswith("opendesk ")


def foreign(router: Router) -> Mapping[tuple[str, str], Row]:
    return {
        (menu, row_id): dict(row)
        for menu in (LISTS, BINDINGS, SCHEDULERS)
        for row_id, row in router.tables[menu].items()
        if is_foreign(menu, row, has_timeout=(menu, row_id) in router.ends)
    }


def elsewhere(router: Router, asked: Sequence[Place]) -> Mapping[str, Row]:
    """Bindings that no place has to do with."""
    return {
        row_id: dict(row)
        for row_id, row in router.tables[BINDINGS].items()
        if not any(place.covers(row.get("address"), row.get("mac-address")) for place in asked)
    }


@given(routers(), grants(), places(), st.data())
def test_what_a_plan_makes_is_what_was_granted(
    router: Router, live: list[Grant], asked: list[Place], data: st.DataObject
) -> None:
    """In any state, some plans done in part only, and a phone that comes back at any moment. After one that was done in whole only what its
    steps touched is looked at again.
    """
    live = theirs(live, asked)
    asked = list(all_places(router, live, asked))
    live = theirs(live, asked)
    timed = {grant.comment for grant in live if grant.until_unix is not None}
    timed -= {grant.comment for grant in live if grant.until_unix is None}
    before, kept = foreign(router), elsewhere(router, asked)
    was_open = router.open_without_end(timed)

    def audit(_: Command) -> None:
        assert router.open_without_end(timed) <= was_open
        if data.draw(st.booleans()):
            router.packets()

    router.after_command, actual, menus = audit, Actual(), ALL
    cuts = data.draw(st.lists(st.integers(0, 4), max_size=3))
    for stage in range(STAGES + len(cuts)):
        actual = look(router, asked, menus, actual)
        steps = plan(live, asked, actual)
        if not steps:
            event(f"{stage} stages")
            break
        done = steps[: cuts[stage]] if stage < len(cuts) else steps
        answers = [router.run(step.command) for step in done]
        is_whole = len(done) == len(steps) and all(isinstance(answer, Result) for answer in answers)
        menus = frozenset[str]().union(*(step.touched for step in steps)) if is_whole else ALL
    else:
        raise AssertionError(steps)
    assert foreign(router) == before
    assert elsewhere(router, asked) == kept
    found = conflicts(live, asked, actual)
    event("in the way" if found else "free")
    check(router, live, asked, is_free=not found)
    router.packets()
    assert plan(live, asked, look(router, asked, before=actual)) == ()


def check(router: Router, live: Sequence[Grant], asked: Sequence[Place], *, is_free: bool) -> None:
    for ip, mac in PAIRS:
        if any(place.covers(ip, mac) for place in asked):
            wanted = longest(grant for grant in live if (grant.ip, grant.mac) == (ip, mac))
            check_device(router, wanted, ip, mac, is_free=is_free, is_whole=Place(ip, mac) in asked)


def check_device(router: Router, wanted: Grant | None, ip: str, mac: str, *, is_free: bool, is_whole: bool) -> None:
    exact = {i: r for i, r in router.tables[BINDINGS].items() if (r.get("address"), r.get("mac-address")) == (ip, mac)}
    own = {i: r for i, r in exact.items() if not is_foreign(BINDINGS, r, has_timeout=False)}
    ends = [r for r in router.tables[SCHEDULERS].values() if r["comment"] == f"opendesk {ip} {mac}"]
    if wanted is None:
        assert own == {}
        assert ends == [] or not is_whole  # of a binding that somebody removed, nothing tells whose it was
        return
    assert len(own) <= 1
    for row_id, row in own.items():
        assert (row["comment"], row["disabled"]) == (wanted.comment, "false")
        untils = [] if wanted.until_unix is None else [str(wanted.until_unix)]
        assert [end["name"].rpartition("-")[2] for end in ends] == untils
        assert [tells(end) for end in ends] == [(row_id, end["name"]) for end in ends]
    if not own:
        assert ends == []
    if is_free:
        here = [r for r in exact.values() if r.get("server", router.server) == router.server]
        is_bypassed = any(r["type"] == "bypassed" and r["disabled"] == "false" for r in here)
        # As long as a device wasn't seen, nobody knows that a row for its server alone is about it.
        others = [r for i, r in router.tables[BINDINGS].items() if i not in exact]
        assert is_bypassed or router.lets_through(ip, mac) or any(r.get("server") == router.server for r in others)
        listed = [r for r in router.tables[LISTS].values() if (r["address"], r["list"]) == (ip, "paid_clients")]
        assert [row["disabled"] for row in listed] == ["false"]
        for host in [h for h in router.tables[HOSTS].values() if (h["address"], h["mac-address"]) == (ip, mac)]:
            assert (host["bypassed"] == "true") == router.lets_through(ip, mac)


def tells(end: Row) -> tuple[str, str] | None:
    """Which binding and which entry it removes, if it will."""
    program = PROGRAM.fullmatch(end["on-event"])
    runs = end["disabled"] == "false" and end["interval"] == f"{end['name'].split('-')[2]}s"
    may = end.get("policy") != "read"
    return (program[1], program[2]) if program is not None and runs and may else None


@given(routers(), grants(), places())
def test_a_plan_can_be_sent_whole(router: Router, live: list[Grant], asked: list[Place]) -> None:
    """Rows that are added are not in each other's way, and none is told twice what to be."""
    live = theirs(live, asked)
    asked = list(all_places(router, live, asked))
    steps = plan(theirs(live, asked), asked, look(router, asked))
    answers: list[Any] = [deepcopy(router).run(step.command) for step in steps if step.verb != "add"]
    answers += [router.run(step.command) for step in steps]
    assert all(isinstance(answer, Result) for answer in answers)
    assert len({(step.menu, step.row) for step in steps if step.row}) == sum(step.row is not None for step in steps)
