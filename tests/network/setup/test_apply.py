"""A router that is set up is never locked out: it holds what it held, or all of the new."""

from contextlib import suppress

import pytest
import trio

from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.setup.apply import apply, pretended
from opendesk.network.setup.errors import NotHeld, RouterRefused, RowInTheWay, TunnelLost, UndoPending
from opendesk.network.setup.redialling import SCHEDULERS
from opendesk.network.setup.script import ADDRESSES, PEERS, ROUTES, WIREGUARD, Tunnel, commands
from opendesk.network.setup.undo import UNDO_S
from opendesk.simulators.routeros import Act, Router, Trapped
from tests.network.setup.wires import OTHER_KEY, Dead, Wire, held, router, set_up, through_the_tunnel, tunnel_of, undos

MOVED = tunnel_of(vps_host="new.test", allowed_ips=("10.200.0.0/16", "10.9.0.0/24"))
# More commands than anything here takes.
MOST_COMMANDS = 60


async def set_up_router() -> Router:
    made = router()
    await set_up(Wire(made))
    return made


async def after(config: Tunnel) -> dict[str, list[dict[str, str]]]:
    made = await set_up_router()
    await set_up(Wire(made), config)
    return without_keys(made)


def without_keys(it: Router) -> dict[str, list[dict[str, str]]]:
    """The key that a router makes is another each time."""
    return {
        menu: [{name: text for name, text in row.items() if name not in {"private-key", "public-key"}} for row in rows]
        for menu, rows in held(it).items()
    }


async def test_a_router_that_holds_nothing_gets_all_of_it(autojump_clock: object) -> None:
    made = router()
    applied = await set_up(Wire(made))
    assert applied.changed
    assert [(step.menu, step.verb, step.is_risky) for step in applied.plan] == [
        (WIREGUARD, "add", False), (PEERS, "add", False), (ADDRESSES, "add", True), (ROUTES, "add", True),
    ]  # fmt: skip
    assert [len(made.rows(menu)) for menu in (WIREGUARD, PEERS, ADDRESSES, ROUTES)] == [1, 1, 1, 1]
    assert undos(made) == []


async def test_the_second_time_changes_nothing(autojump_clock: object) -> None:
    made = await set_up_router()
    wire, before = Wire(made), held(made)
    applied = await set_up(wire)
    assert (applied.plan, applied.changed) == ((), False)
    assert (wire.changes(), held(made), wire.dialled) == ([], before, 1)


async def test_a_script_that_was_pasted_is_all_there_is_to_do(autojump_clock: object) -> None:
    made = router()
    made.paste(commands(tunnel_of()))
    assert not (await set_up(Wire(made))).changed


async def test_a_dry_run_shows_what_it_would_do_and_sends_none_of_it(autojump_clock: object) -> None:
    made = router()
    wire, before = Wire(made), held(made)
    applied = await apply(wire.dial, config=tunnel_of(), user=None, dry_run=True)
    assert (applied.changed, applied.dry_run, wire.changes(), held(made)) == (False, True, [], before)
    assert applied == pretended(tunnel_of(), None)
    assert (await set_up(wire)).plan == applied.plan


@pytest.mark.parametrize("burst", [True, False])
async def test_a_change_that_cuts_the_tunnel_is_taken_back(autojump_clock: object, burst: bool) -> None:  # noqa: FBT001
    made = await set_up_router()
    before, made.cut_when = held(made), through_the_tunnel("vps.test")
    with pytest.raises(TunnelLost):
        await set_up(Wire(made, burst=burst), MOVED)
    assert made.is_cut_off()
    await trio.sleep(UNDO_S)
    assert not made.is_cut_off()
    assert (held(made), undos(made), list(made.script_errors)) == (before, [], [])


async def test_a_change_that_cuts_only_until_it_is_whole_is_proven(autojump_clock: object) -> None:
    """The VPS moved: the tunnel is alive before and after, but for a moment."""
    made = await set_up_router()
    moves = through_the_tunnel("vps.test"), through_the_tunnel("new.test", ip="10.200.0.8/32")
    made.cut_when = lambda it: all(is_cut(it) for is_cut in moves)
    wire = Wire(made, burst=True)
    assert (await set_up(wire, tunnel_of(vps_host="new.test", address="10.200.0.8/32"))).changed
    assert undos(made) == []
    assert made.rows(ADDRESSES)[0]["address"] == "10.200.0.8/32"


@pytest.mark.parametrize("cut_after", range(4))
async def test_a_cut_at_each_of_its_steps_ends_in_the_old_or_in_the_new(autojump_clock: object, cut_after: int) -> None:
    made = await set_up_router()
    before, expected, steps = held(made), await after(MOVED), 0

    def note(path: str, _row: object, _gone: bool) -> None:  # noqa: FBT001  # a Watcher
        nonlocal steps
        steps += path != SCHEDULERS

    made.state.watchers.append(note)
    # It comes back, too: by whatever is taken back.
    made.cut_when = lambda it: steps == cut_after and bool(undos(it)) and held(it) != before
    try:
        await set_up(Wire(made), MOVED)
    except TunnelLost:
        await trio.sleep(UNDO_S)
        assert held(made) == before
    else:
        assert without_keys(made) == expected
    assert undos(made) == []


@pytest.mark.parametrize("lives", range(MOST_COMMANDS))
async def test_a_daemon_that_dies_after_any_command_leaves_the_old_or_the_new(
    autojump_clock: object, lives: int
) -> None:
    """And whoever comes next, at once or later, makes it right."""
    made, expected = await set_up_router(), await after(MOVED)
    before, wire = held(made), Wire(made, lives=lives)
    try:
        await set_up(wire, MOVED)
    except Dead:
        pass
    else:
        assert lives >= len(wire.sent)
    try:
        await set_up(Wire(made), MOVED)
    except UndoPending:
        await trio.sleep(UNDO_S)
        assert held(made) == before
        await set_up(Wire(made), MOVED)
    await trio.sleep(UNDO_S)
    assert (without_keys(made), undos(made)) == (expected, [])


@pytest.mark.parametrize("lives", range(MOST_COMMANDS))
async def test_a_daemon_that_dies_and_stays_dead_leaves_the_old_or_the_new(autojump_clock: object, lives: int) -> None:
    made, expected = await set_up_router(), await after(MOVED)
    before = held(made)
    with suppress(Dead):
        await set_up(Wire(made, lives=lives), MOVED)
    await trio.sleep(UNDO_S)
    assert undos(made) == []
    assert held(made) == before or without_keys(made) == expected


async def test_a_first_set_up_that_is_not_proven_leaves_nothing(autojump_clock: object) -> None:
    made = router()
    before = held(made)
    made.cut_when = lambda it: bool(it.rows(ROUTES))
    with pytest.raises(TunnelLost):
        await set_up(Wire(made))
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_nothing_risky_is_sent_to_a_router_that_keeps_no_undo(autojump_clock: object) -> None:
    made = await set_up_router()
    before = held(made)
    for fault in (Act.LIE, Trapped(None, "not enough permissions (9)")):
        made.faults.plan(fault, f"{SCHEDULERS}/add")
        with pytest.raises(RouterRefused):
            await set_up(Wire(made), MOVED)
        assert (held(made), undos(made)) == (before, [])


@pytest.mark.parametrize(
    ("fault", "error"), [(Act.LIE, NotHeld), (Trapped(None, "failure: already have such entry"), RouterRefused)]
)
async def test_a_step_that_is_not_done_is_told_and_all_is_taken_back(
    autojump_clock: object, fault: Act | Trapped, error: type[Exception]
) -> None:
    made = await set_up_router()
    before = held(made)
    made.faults.decide = lambda request: fault if request.command == f"{ROUTES}/add" else None
    with pytest.raises(error):
        await set_up(Wire(made), MOVED)
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_a_step_that_was_lost_once_is_sent_again(autojump_clock: object) -> None:
    made = await set_up_router()
    made.faults.plan(Act.LIE, f"{PEERS}/set")
    assert (await set_up(Wire(made), MOVED)).changed
    assert made.rows(PEERS)[0]["endpoint-address"] == "new.test"
    assert undos(made) == []


async def test_rows_of_others_are_never_touched_and_count_if_they_do_it(autojump_clock: object) -> None:
    made = router()
    made.run(f"{WIREGUARD}/add", {"name": "wg-opendesk"})
    made.run(f"{PEERS}/add", {"interface": "wg-opendesk", "public-key": OTHER_KEY, "allowed-address": "10.1.0.0/24"})
    made.run(f"{ADDRESSES}/add", {"interface": "wg-opendesk", "address": "10.200.0.7/32", "network": "10.200.0.7"})
    made.run(f"{ROUTES}/add", {"dst-address": "10.200.0.0/16", "gateway": "wg-opendesk"})
    others = [made.rows(menu) for menu in (WIREGUARD, ADDRESSES, ROUTES)]
    applied = await set_up(Wire(made))
    assert [step.menu for step in applied.plan] == [PEERS]
    assert [made.rows(menu) for menu in (WIREGUARD, ADDRESSES, ROUTES)] == others


async def test_a_row_of_somebody_else_in_our_place_is_told_and_nothing_is_sent(autojump_clock: object) -> None:
    made = router()
    made.run(f"{WIREGUARD}/add", {"name": "wg-opendesk", "disabled": "yes"})
    wire = Wire(made)
    with pytest.raises(RowInTheWay, match="wireguard"):
        await set_up(wire)
    assert wire.changes() == []


async def test_what_is_of_no_more_use_goes_once_the_tunnel_is_proven(autojump_clock: object) -> None:
    made = await set_up_router()
    await set_up(Wire(made), MOVED)
    await set_up(Wire(made))
    assert [row["dst-address"] for row in made.rows(ROUTES)] == ["10.200.0.0/16"]


async def test_a_router_that_is_not_there_is_told(autojump_clock: object) -> None:
    made = router()
    made.faults.black_hole = True
    with pytest.raises(RouterUnavailable):
        await set_up(Wire(made))
