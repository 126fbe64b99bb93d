"""A router is looked at, told, and looked at again: how often, and what becomes of it if it lies, refuses, or holds others' rows."""

from collections.abc import Callable, Sequence

from attrs import evolve
import pytest
import trio
import trio.testing

from opendesk.network.hotspots.errors import InTheWay, NotHeld
from opendesk.network.hotspots.found import Actual, seconds
from opendesk.network.hotspots.place import Grant, Place, aged
from opendesk.network.hotspots.plan import is_held, plan
from opendesk.network.hotspots.rows import Outcome, converge
from opendesk.network.routeros.errors import Trap
from opendesk.network.routeros.session import Command, Result
from tests.network.hotspots.model import ACTIVE, BINDINGS, HOSTS, LISTS, SCHEDULERS, Router, spelled

IP, MAC = "10.5.50.12", "AA:BB:CC:DD:EE:0A"
PHONE = Place(IP, MAC)
UNTIL = 1_790_000_300
FOR_EVER = Grant("1", IP, MAC)
TIMED = Grant("1", IP, MAC, 300, UNTIL)
OURS = {"address": IP, "mac-address": MAC, "type": "bypassed", "disabled": "false", "comment": "pedido:1"}


@pytest.fixture
def router() -> Router:
    made = Router(phones={(IP, MAC)})
    made.packets()
    return made


def rows(router: Router, menu: str) -> list[dict[str, str]]:
    return list(router.tables[menu].values())


async def follow(router: Router, *grants: Grant, places: Sequence[Place] = (PHONE,)) -> Outcome:
    return await converge(router.run_all, grants, places)


async def test_a_permanent_grant_takes_a_look_and_one_send(router: Router) -> None:
    assert (await follow(router, FOR_EVER)).changed
    assert router.sends == 2
    router.packets()
    assert router.is_online(IP, MAC)


async def test_a_grant_with_an_end_takes_a_look_and_three_sends(router: Router) -> None:
    await follow(router, TIMED)
    assert router.sends == 4
    router.packets()
    assert router.is_online(IP, MAC)
    (end,) = rows(router, SCHEDULERS)
    (row_id,) = router.tables[BINDINGS]
    assert end["name"] == f"opendesk-{row_id[1:]}-{end['interval'].removesuffix('s')}-{UNTIL}"
    assert end["on-event"] == (
        f':do {{/ip hotspot ip-binding remove {row_id}}} on-error={{}}; /system scheduler remove "{end["name"]}"'
    )


async def test_done_twice_the_second_changes_nothing(router: Router) -> None:
    for grant in (FOR_EVER, TIMED):
        await follow(router, grant)
        router.packets()
        router.sends = 0
        assert await follow(router, grant) == Outcome()
        assert router.sends == 1


async def test_the_router_itself_ends_what_has_an_end(router: Router) -> None:
    await follow(router, TIMED)
    router.advance(290)
    assert (len(rows(router, BINDINGS)), len(rows(router, LISTS))) == (1, 1)
    router.advance(11)
    assert [rows(router, menu) for menu in (BINDINGS, LISTS, SCHEDULERS)] == [[], [], []]


async def test_revoking_takes_away_what_was_made_and_sends_the_phone_back(router: Router) -> None:
    for grant in (FOR_EVER, TIMED):
        await follow(router, grant)
        router.packets()
        assert (await follow(router)).changed
        assert [rows(router, menu) for menu in (BINDINGS, LISTS, SCHEDULERS)] == [[], [], []]
        router.packets()
        assert [row["bypassed"] for row in rows(router, HOSTS)] == ["false"]
        assert not (await follow(router)).changed


@pytest.mark.parametrize("asked", [Place(IP, None), Place(None, MAC)])
async def test_one_address_is_enough_to_find_rows_that_nobody_remembers(router: Router, asked: Place) -> None:
    await follow(router, TIMED)
    router.packets()
    await follow(router, places=[asked])
    assert [rows(router, menu) for menu in (BINDINGS, LISTS, SCHEDULERS)] == [[], [], []]


async def test_rows_of_another_device_with_that_ip_stay(router: Router) -> None:
    await follow(router, FOR_EVER)
    router.packets()
    assert await follow(router, places=[Place(IP, "AA:BB:CC:DD:EE:99")]) == Outcome()


async def test_who_is_logged_in_is_sent_away_to_come_back_past_the_login_page(router: Router) -> None:
    router.put(ACTIVE, {"address": IP, "mac-address": MAC, "user": "x"})
    await follow(router, FOR_EVER)
    assert rows(router, ACTIVE) == []


async def test_of_two_orders_the_rows_carry_the_one_that_ends_last(router: Router) -> None:
    longer = Grant("2", IP, MAC, 600, UNTIL + 300)
    await follow(router, TIMED)
    await follow(router, TIMED, longer)
    assert {row["comment"] for menu in (BINDINGS, LISTS) for row in rows(router, menu)} == {"pedido:2"}
    assert [row["name"].rpartition("-")[2] for row in rows(router, SCHEDULERS)] == [str(UNTIL + 300)]
    router.packets()
    assert await follow(router, longer) == Outcome()
    await follow(router, longer, Grant("3", IP, MAC))
    assert rows(router, SCHEDULERS) == []
    await follow(router, longer)
    assert len(rows(router, SCHEDULERS)) == 1


async def test_what_somebody_else_made_is_enough_and_stays(router: Router) -> None:
    router.put(BINDINGS, OURS | {"comment": "the boss"})
    router.put(LISTS, {"address": IP, "list": "paid_clients", "disabled": "false"})
    assert [step.menu for step in (await follow(router, FOR_EVER)).steps] == [HOSTS]
    assert (await follow(router)).steps == ()
    assert (len(rows(router, BINDINGS)), len(rows(router, LISTS))) == (1, 1)


ELSEWHERE = OURS | {"comment": "the boss", "server": "hs1"}


async def test_what_lets_the_device_through_elsewhere_only_is_not_enough(router: Router) -> None:
    for grant in (FOR_EVER, TIMED):
        row_id = router.put(BINDINGS, ELSEWHERE)
        await follow(router, grant)
        assert len(rows(router, BINDINGS)) == 2
        router.packets()
        assert router.is_online(IP, MAC)
        await follow(router)
        assert router.tables[BINDINGS].pop(row_id) == ELSEWHERE
        assert (rows(router, BINDINGS), rows(router, LISTS)) == ([], [])
        router.packets()


async def test_what_lets_the_device_through_where_it_is_is_enough(router: Router) -> None:
    """Also while it isn't there, having been sent away to come back."""
    row_id = router.put(BINDINGS, ELSEWHERE | {"server": router.server})
    await follow(router, TIMED)
    assert list(router.tables[BINDINGS]) == [row_id]
    router.packets()
    assert router.is_online(IP, MAC)


@pytest.mark.parametrize("grant", [FOR_EVER, TIMED])
@pytest.mark.parametrize("row", [ELSEWHERE, ELSEWHERE | {"disabled": "true"}])
async def test_a_row_for_another_server_that_none_may_stand_beside_is_in_the_way(
    router: Router, grant: Grant, row: dict[str, str]
) -> None:
    router.is_strict = True
    row_id = router.put(BINDINGS, row)
    with pytest.raises(InTheWay, match=rf"{BINDINGS} \{row_id}: .* one server|disabled"):
        await follow(router, grant)
    assert router.tables[BINDINGS] == {row_id: row}
    assert rows(router, LISTS) == []


async def test_a_row_that_blocks_on_the_devices_own_server_is_in_the_way(router: Router) -> None:
    blocking = {"address": "10.5.50.0/24", "type": "blocked", "disabled": "false"}
    router.put(BINDINGS, blocking | {"server": "hs1"})
    await follow(router, FOR_EVER)
    router.tables[BINDINGS].clear()
    router.put(BINDINGS, blocking | {"server": router.server})
    router.packets()
    with pytest.raises(InTheWay):
        await follow(router, FOR_EVER)


async def test_a_row_of_ours_for_another_server_gives_way_to_one_for_any(router: Router) -> None:
    for is_strict in (False, True):
        router.is_strict = is_strict
        router.put(BINDINGS, OURS | {"server": "hs1"})
        await follow(router, TIMED)
        (row,) = rows(router, BINDINGS)
        assert "server" not in row
        router.packets()
        assert router.is_online(IP, MAC)
        await follow(router)
        router.packets()


@pytest.mark.parametrize("address", ["10.5.50.0/24", "10.5.50.1-10.5.50.20", None])
async def test_a_row_for_any_mac_is_found_however_a_version_says_that(router: Router, address: str | None) -> None:
    router.prints_any = True
    place = {} if address is None else {"address": address}
    row_id = router.put(BINDINGS, {**place, "type": "blocked", "disabled": "false"})
    with pytest.raises(InTheWay, match=rf"{BINDINGS} \{row_id}"):
        await follow(router, FOR_EVER)


PROGRAM_OF_ANOTHER = ':do {/ip hotspot ip-binding remove *77} on-error={}; /system scheduler remove "x"'


@pytest.mark.parametrize(
    "change",
    [
        {"on-event": "/system identity print"},
        {"on-event": PROGRAM_OF_ANOTHER},
        {"on-event": ""},
        {"interval": "31449600s"},
        {"interval": "30s"},
        {"interval": "0s"},
        {"disabled": "true"},
        {"policy": "read"},
    ],
)
async def test_an_end_that_somebody_changed_is_none_and_is_replaced(router: Router, change: dict[str, str]) -> None:
    await follow(router, TIMED)
    ((row_id, made),) = router.tables[SCHEDULERS].items()
    router.tables[SCHEDULERS][row_id] = made | change
    had_some: list[bool] = []
    router.after_command = lambda _: had_some.append(
        any(row["disabled"] == "false" for row in rows(router, SCHEDULERS))
    )
    assert (await follow(router, TIMED)).changed
    assert all(had_some)
    ((new_id, new),) = router.tables[SCHEDULERS].items()
    assert new_id != row_id
    assert {**new, "name": "", "interval": "", "on-event": ""} == {**made, "name": "", "interval": "", "on-event": ""}
    assert router.open_without_end({"pedido:1"}) == set()
    assert await follow(router, TIMED) == Outcome()
    router.advance(301)
    assert [rows(router, menu) for menu in (BINDINGS, LISTS, SCHEDULERS)] == [[], [], []]


async def test_an_end_is_known_however_a_version_prints_it(router: Router) -> None:
    await follow(router, TIMED)
    ((row_id, made),) = router.tables[SCHEDULERS].items()
    told = made | {"interval": spelled(int(made["interval"].removesuffix("s"))), "policy": "write,read,test"}
    router.tables[SCHEDULERS][row_id] = told
    router.packets()
    assert await follow(router, TIMED) == Outcome()


async def test_an_end_as_it_was_named_before_gives_way_to_one_that_can_be_judged(router: Router) -> None:
    await follow(router, TIMED)
    ((row_id, made),) = router.tables[SCHEDULERS].items()
    name = "opendesk-{1}-{3}".format(*made["name"].split("-"))
    old = made | {"name": name, "on-event": made["on-event"].replace(made["name"], name)}
    router.tables[SCHEDULERS][row_id] = old
    await follow(router, TIMED)
    (new,) = rows(router, SCHEDULERS)
    assert new["name"] != name
    assert new["name"].endswith(f"-{UNTIL}")


@pytest.mark.parametrize(
    "row",
    [
        {"mac-address": MAC, "type": "blocked", "disabled": "false"},
        {"address": "10.5.50.0/24", "type": "blocked", "disabled": "false"},
        {"address": "10.5.50.1-10.5.50.20", "type": "regular", "disabled": "false"},
        OURS | {"comment": "", "disabled": "true"},
        OURS | {"type": "blocked"},
    ],
)
async def test_a_row_in_the_way_is_named_and_left_there(router: Router, row: dict[str, str]) -> None:
    row_id = router.put(BINDINGS, row)
    with pytest.raises(InTheWay, match=rf"{BINDINGS} \{row_id}"):
        await follow(router, FOR_EVER)
    assert router.tables[BINDINGS] == {row_id: row}
    assert rows(router, LISTS) == []


async def test_a_listed_address_that_is_disabled_and_not_ours_is_in_the_way(router: Router) -> None:
    router.put(LISTS, {"address": IP, "list": "paid_clients", "disabled": "true"})
    with pytest.raises(InTheWay, match=LISTS):
        await follow(router, FOR_EVER)


async def test_the_comment_of_hostile_text_goes_through_unharmed(router: Router) -> None:
    for text in ["a b \"c\" 'd'", "=x=y=", "two\nlines\r\n", "é ✓ 日本", "[:put 1]; $x \\", "?type=blocked", ".id=*1"]:
        await follow(router, Grant(text, IP, MAC, 300, UNTIL))
        (binding,), (listed,), (end,) = (rows(router, menu) for menu in (BINDINGS, LISTS, SCHEDULERS))
        assert (binding["comment"], listed["comment"]) == (f"pedido:{text}", f"pedido:{text}")
        assert text not in end["on-event"]
        await follow(router)


@pytest.mark.parametrize("menu", [BINDINGS, LISTS, SCHEDULERS])
@pytest.mark.parametrize("answer", [Result(ret="*77"), Trap(None, "not enough permissions (9)")])
async def test_what_the_router_does_not_hold_is_never_taken_for_held(
    router: Router, menu: str, answer: Result | Trap
) -> None:
    """Whether it says that it was done or not; and what has an end is not open meanwhile."""

    async def lying(commands: Sequence[Command]) -> list[Result | Trap]:
        return [answer if command.path == f"{menu}/add" else router.run(command) for command in commands]

    with pytest.raises(NotHeld, match=f"{menu}/add"):
        await converge(lying, [TIMED], [PHONE])
    assert router.open_without_end({"pedido:1"}) == set()


async def test_a_look_that_is_refused_says_why(router: Router) -> None:
    async def refusing(commands: Sequence[Command]) -> list[Result | Trap]:
        return [Trap(0, "no such command prefix") for _ in commands]

    with pytest.raises(Trap, match="no such command prefix"):
        await converge(refusing, [FOR_EVER], [PHONE])


async def test_a_row_that_somebody_else_makes_meanwhile_is_read_not_fought(router: Router) -> None:
    async def overtaken(commands: Sequence[Command]) -> list[Result | Trap]:
        if any(command.path == f"{BINDINGS}/add" for command in commands):
            router.put(BINDINGS, OURS | {"comment": "the boss"})
        return await router.run_all(commands)

    await converge(overtaken, [FOR_EVER], [PHONE])
    assert [row["comment"] for row in rows(router, BINDINGS)] == ["the boss"]


async def test_begin_is_shown_what_is_there_before_anything_is_done(router: Router) -> None:
    seen: list[tuple[Actual, Sequence[Grant]]] = []

    async def begin(actual: Actual, theirs: Sequence[Grant]) -> Sequence[Grant]:
        seen.append((actual, theirs))
        assert rows(router, BINDINGS) == []
        return [TIMED]

    other = Grant("9", IP, "AA:BB:CC:DD:EE:99")
    await converge(router.run_all, [FOR_EVER, other], [PHONE], begin=begin)
    assert [theirs for _, theirs in seen] == [[FOR_EVER]]
    assert len(rows(router, SCHEDULERS)) == 1


async def test_a_grant_is_held_by_rows_that_open_its_way_only(router: Router) -> None:
    held: list[bool] = []

    async def begin(actual: Actual, theirs: Sequence[Grant]) -> Sequence[Grant]:
        held.append(is_held(TIMED, actual))
        return theirs

    row_id = router.put(BINDINGS, OURS | {"disabled": "true"})
    await converge(router.run_all, [TIMED], [PHONE], begin=begin)
    await converge(router.run_all, [TIMED], [PHONE], begin=begin)
    assert held == [False, True]
    assert row_id in router.tables[BINDINGS]


def test_what_is_over_meanwhile_is_not_opened_any_more() -> None:
    assert aged([TIMED, FOR_EVER], 300) == [FOR_EVER]
    assert aged([TIMED], 299.5)[0].whole_seconds == 1


def test_a_plan_can_be_shown() -> None:
    steps = plan([FOR_EVER], [PHONE], Actual())
    assert [(step.menu, step.verb, step.why) for step in steps] == [(BINDINGS, "add", "open"), (LISTS, "add", "open")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5m", 300),
        ("1w2d3h4m5s", 788_645),
        ("1d00:05:00", 86_700),
        ("00:05:00", 300),
        ("59s500ms", 59.5),
        ("0s", 0),
        ("", None),
        ("never", None),
        ("-5s", None),
        ("5", None),
    ],
)
def test_durations_are_read_as_routers_print_them(text: str, wanted: float | None) -> None:
    assert seconds(text) == wanted


async def test_who_is_let_through_by_somebody_elses_row_is_not_sent_away(router: Router) -> None:
    """Also when only the IP is told, by which that row can't be found."""
    router.put(BINDINGS, {"mac-address": MAC, "type": "bypassed", "disabled": "false", "comment": "the boss"})
    router.tables[HOSTS].clear()
    router.packets()
    for asked in (Place(IP, None), Place(None, MAC), PHONE):
        assert await follow(router, places=[asked]) == Outcome()


async def test_the_row_of_an_ip_is_kept_for_another_device_that_was_let_in_before(router: Router) -> None:
    """And not made for one whose own turn is still to come."""
    other = Grant("2", IP, "AA:BB:CC:DD:EE:99", 300, UNTIL)
    await follow(router, other)
    assert rows(router, LISTS) == []
    await follow(router, evolve(other, is_observed=True), places=[other.place])
    await follow(router, evolve(other, is_observed=True))
    assert [row["comment"] for row in rows(router, LISTS)] == ["pedido:2"]


ALL_MENUS = {LISTS, BINDINGS, SCHEDULERS, HOSTS, ACTIVE}


class Watched:
    """What each send looked at; and what somebody else does right before one."""

    def __init__(self, router: Router, meanwhile: dict[int, Callable[[], object]] | None = None) -> None:
        self.router, self.meanwhile = router, meanwhile or {}
        self.looks: list[set[str]] = []

    async def run_all(self, commands: Sequence[Command]) -> list[Result | Trap]:
        self.meanwhile.get(len(self.looks), lambda: None)()
        self.looks.append(
            {menu for command in commands for menu, _, verb in [command.path.rpartition("/")] if verb == "print"}
        )
        return await self.router.run_all(commands)


async def test_only_what_steps_touched_is_looked_at_again(router: Router) -> None:
    watched = Watched(router)
    await converge(watched.run_all, [TIMED], [PHONE])
    assert watched.looks == [ALL_MENUS, {BINDINGS}, {SCHEDULERS, BINDINGS}, ALL_MENUS]
    router.packets()
    watched.looks.clear()
    await converge(watched.run_all, [], [PHONE])
    around = {BINDINGS, HOSTS, ACTIVE}
    assert watched.looks == [ALL_MENUS, {LISTS} | around, {SCHEDULERS, BINDINGS}, around]


async def test_of_a_device_that_is_only_sent_away_is_looked_whether_it_went(router: Router) -> None:
    await follow(router, FOR_EVER)
    router.tables[HOSTS].clear()
    router.put(HOSTS, {"address": IP, "mac-address": MAC, "bypassed": "false", "server": router.server})
    watched = Watched(router)
    await converge(watched.run_all, [FOR_EVER], [PHONE])
    assert watched.looks == [ALL_MENUS, {HOSTS, ACTIVE}]


@pytest.mark.parametrize("send", range(1, 5))
@pytest.mark.parametrize("command", range(8))
@pytest.mark.parametrize("until", [UNTIL + 1500, None], ids=["longer", "for ever"])
async def test_who_is_given_more_just_as_the_old_end_has_its_turn_is_online(
    router: Router, until: int | None, command: int, send: int
) -> None:
    """The old end comes between any two commands of any send."""
    await converge(router.run_all, [Grant("1", IP, MAC, 300, UNTIL)], [PHONE])
    router.packets()
    router.advance(298)
    sends = 0

    async def run_all(commands: Sequence[Command]) -> list[Result | Trap]:
        nonlocal sends
        sends += 1
        if sends != send:
            return list(await router.run_all(commands))
        first = await router.run_all(commands[:command]) if commands[:command] else []
        router.advance(5)
        return [*first, *(await router.run_all(commands[command:]) if commands[command:] else [])]

    await converge(run_all, [Grant("1", IP, MAC, None if until is None else 1800, until)], [PHONE])
    router.packets()
    assert router.is_online(IP, MAC)
    assert len(router.tables[BINDINGS]) == 1


async def test_after_a_trap_all_is_looked_at_again(router: Router) -> None:
    """What was in the way may be where nothing was changed."""
    watched = Watched(router, {1: lambda: router.put(BINDINGS, OURS | {"disabled": "true"})})
    await converge(watched.run_all, [TIMED], [PHONE])
    assert watched.looks == [ALL_MENUS, {BINDINGS}, ALL_MENUS, ALL_MENUS]


async def test_an_end_that_somebody_takes_off_while_the_way_is_opened_is_missed_at_once(router: Router) -> None:
    watched = Watched(router, {3: router.tables[SCHEDULERS].clear})
    assert (await converge(watched.run_all, [TIMED], [PHONE])).changed
    assert router.open_without_end({"pedido:1"}) == set()


async def test_what_somebody_changes_where_nothing_is_done_is_found_by_the_next_attempt(router: Router) -> None:
    row_id = router.put(LISTS, {"address": IP, "list": "paid_clients", "disabled": "false"})
    watched = Watched(router, {3: lambda: router.tables[LISTS].pop(row_id)})
    await converge(watched.run_all, [TIMED], [PHONE])
    assert rows(router, LISTS) == []
    assert (await follow(router, TIMED)).changed
    assert len(rows(router, LISTS)) == 1


async def test_the_time_left_of_a_row_that_is_not_looked_at_again_runs_on(
    router: Router, autojump_clock: trio.testing.MockClock
) -> None:
    """However slow the router: a row that is right isn't made anew."""
    await follow(router, TIMED)
    router.packets()
    ((row_id, _),) = router.tables[LISTS].items()
    router.tables[SCHEDULERS].clear()

    async def slow(commands: Sequence[Command]) -> list[Result | Trap]:
        await trio.sleep(15)
        router.advance(15)
        return await router.run_all(commands)

    await converge(slow, [TIMED], [PHONE])
    assert list(router.tables[LISTS]) == [row_id]
