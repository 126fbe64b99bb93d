"""What an earlier change left on the router: an undo that will run, that needn't, or that ran."""

import pytest
import trio

from opendesk.network.setup import redialling
from opendesk.network.setup.errors import RouterRefused, RowInTheWay, TunnelLost, UndoPending
from opendesk.network.setup.redialling import REDIAL_S, SCHEDULERS
from opendesk.network.setup.script import PEERS, ROUTES, Tunnel
from opendesk.network.setup.undo import UNDO_S
from opendesk.simulators.routeros import HandClock, Request, Router, Trapped
from tests.network.setup.wires import Dead, Wire, held, router, set_up, through_the_tunnel, tunnel_of, undos

MOVED = tunnel_of(vps_host="new.test", allowed_ips=("10.200.0.0/16", "10.9.0.0/24"))
WIDER = tunnel_of(allowed_ips=MOVED.allowed_ips)


async def set_up_router() -> Router:
    made = router()
    await set_up(Wire(made))
    return made


async def dead_after(made: Router, command: str, config: Tunnel = MOVED) -> None:
    """Our last command is that one, the first of its path."""
    wire = Wire(made)
    made.faults.decide = lambda request: setattr(wire, "lives", 0) if request.command == command else None
    with pytest.raises(Dead):
        await set_up(wire, config)
    made.faults.clear()


async def test_a_change_that_is_half_done_is_left_to_the_router(autojump_clock: object) -> None:
    made = await set_up_router()
    before = held(made)
    await dead_after(made, f"{PEERS}/set")
    half, wire = held(made), Wire(made)
    with pytest.raises(UndoPending) as raised:
        await set_up(wire, MOVED)
    assert (raised.value.retry_after_s, wire.changes(), held(made)) == (UNDO_S, [], half)
    assert half != before
    await trio.sleep(UNDO_S)
    assert held(made) == before


async def test_one_that_was_not_begun_keeps_nobody_waiting(autojump_clock: object) -> None:
    made = await set_up_router()
    await dead_after(made, f"{SCHEDULERS}/add")
    assert undos(made) != []
    assert (await set_up(Wire(made), MOVED)).changed
    assert undos(made) == []


async def test_one_that_was_done_and_not_proven_is_proven_by_the_next(autojump_clock: object) -> None:
    made = await set_up_router()
    await dead_after(made, f"{ROUTES}/add", WIDER)
    wire, new = Wire(made), held(made)
    assert not (await set_up(wire, WIDER)).changed
    assert (wire.changes(), undos(made), held(made)) == ([f"{SCHEDULERS}/remove"] * 2, [], new)


async def test_a_new_endpoint_is_not_proven_by_asking_again(autojump_clock: object) -> None:
    """Nobody knows any more whether both ends had forgotten where the other was."""
    made = await set_up_router()
    before = held(made)
    await dead_after(made, f"{PEERS}/set")
    await trio.sleep(REDIAL_S)
    wire = Wire(made)
    with pytest.raises(UndoPending):
        await set_up(wire, MOVED)
    assert wire.changes() == []
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_an_undo_at_boot_that_is_left_alone_is_cleared_away(autojump_clock: object) -> None:
    made = await set_up_router()
    left = {"name": "opendesk-undo-1-boot", "start-time": "startup", "on-event": ":put 1", "comment": "opendesk"}
    made.run(f"{SCHEDULERS}/add", left)
    assert (await set_up(Wire(made), MOVED)).changed
    assert undos(made) == []


async def test_an_entry_of_another_with_the_name_of_ours_is_in_the_way_before_anything_is_sent(
    autojump_clock: object,
) -> None:
    made = await set_up_router()
    made.run(f"{SCHEDULERS}/add", {"name": redialling.NAME, "interval": "1d"})
    wire, before = Wire(made), undos(made)
    with pytest.raises(RowInTheWay, match="scheduler"):
        await set_up(wire, MOVED)
    assert (wire.changes(), undos(made)) == ([], before)
    made.run(f"{SCHEDULERS}/add", {"name": "opendesk-undo-1", "interval": "1d"})
    before = undos(made)
    assert (await set_up(wire, WIDER)).changed
    assert undos(made) == before


async def test_an_undo_that_ran_before_it_was_disarmed_is_noticed(autojump_clock: object) -> None:
    clock = HandClock()
    made = Router(clock=clock)
    await set_up(Wire(made))
    before = held(made)

    def too_late(request: Request) -> None:
        if request.command == f"{SCHEDULERS}/remove":
            clock.advance(UNDO_S)
            made.settle()

    made.faults.decide = too_late
    with pytest.raises(TunnelLost, match="took the change back"):
        await set_up(Wire(made), tunnel_of(allowed_ips=MOVED.allowed_ips))
    assert (held(made), undos(made)) == (before, [])


async def test_a_router_that_reboots_meanwhile_takes_it_back_too(autojump_clock: object) -> None:
    made = await set_up_router()
    before, made.cut_when = held(made), through_the_tunnel("vps.test")
    with pytest.raises(TunnelLost):
        await set_up(Wire(made), MOVED)
    made.reboot(down_s=30)
    await trio.sleep(30)
    assert (held(made), undos(made)) == (before, [])


async def test_a_router_whose_clock_is_set_back_takes_it_back_when_it_boots(autojump_clock: object) -> None:
    clock = HandClock()
    made = Router(clock=clock)
    await set_up(Wire(made))
    before, made.cut_when = held(made), lambda it: len(it.rows(ROUTES)) > 1
    with pytest.raises(TunnelLost):
        await set_up(Wire(made), tunnel_of(allowed_ips=MOVED.allowed_ips))
    clock.advance(-86_400)
    clock.advance(UNDO_S)
    assert made.is_cut_off()
    made.reboot()
    assert (held(made), undos(made)) == (before, [])
    assert list(made.script_errors) == []


async def test_what_keeps_an_undo_from_going_is_told(autojump_clock: object) -> None:
    """At once, and not as a tunnel that is lost: it isn't."""
    made = await set_up_router()
    before = held(made)
    trap = Trapped(None, "not enough permissions (9)")
    made.faults.decide = lambda request: trap if request.command == f"{SCHEDULERS}/remove" else None
    with pytest.raises(RouterRefused, match="not enough permissions"):
        await set_up(Wire(made), tunnel_of(allowed_ips=MOVED.allowed_ips))
    made.faults.clear()
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_a_redial_that_never_was_is_cleared_away(autojump_clock: object) -> None:
    made = await set_up_router()
    made.run(f"{SCHEDULERS}/add", {"name": redialling.NAME, "comment": "opendesk", "disabled": "yes"})
    assert (await set_up(Wire(made), MOVED)).changed
    assert undos(made) == []


async def test_an_undo_that_will_never_run_is_cleared_away(autojump_clock: object) -> None:
    made = await set_up_router()
    made.run(f"{SCHEDULERS}/add", {"name": "opendesk-undo-1", "comment": "opendesk", "disabled": "yes"})
    assert not (await set_up(Wire(made))).changed
    assert undos(made) == []


async def test_rows_of_ours_beyond_number_are_told(autojump_clock: object) -> None:
    made = await set_up_router()
    for number in range(100):
        row = {"dst-address": f"10.{number}.0.0/24", "gateway": "wg-opendesk", "comment": "opendesk"}
        made.run(f"{ROUTES}/add", row)
    with pytest.raises(RowInTheWay, match="more than"):
        await set_up(Wire(made))
