"""An endpoint is believed only if the router has dialled by it: WireGuard itself goes on with where the other end was last heard from."""

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.routers.link import Api
from opendesk.network.setup.errors import EndpointUnproven, TunnelLost, UndoPending
from opendesk.network.setup.script import ADDRESSES, PEERS
from opendesk.network.setup.undo import UNDO_S
from opendesk.simulators.routeros import Act, Router
from tests.network.setup.wires import Roaming, Wire, held, router, set_up, tunnel_of, undos

WRONG = tunnel_of(vps_host="wrong.test")


async def set_up_router() -> tuple[Router, Wire]:
    made = router()
    await set_up(Wire(made))
    return made, Wire(made, burst=True)


async def test_a_wrong_endpoint_is_taken_back(autojump_clock: object) -> None:
    made, wire = await set_up_router()
    before, world = held(made), Roaming(made)
    with pytest.raises(TunnelLost):
        await set_up(wire, WRONG, forget=world.forget)
    assert made.is_cut_off()
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made), made.is_cut_off()) == (before, [], False)


async def test_a_right_one_is_dialled_and_believed(autojump_clock: object) -> None:
    made, wire = await set_up_router()
    world = Roaming(made, frozenset({"vps.test", "new.test"}))
    assert (await set_up(wire, tunnel_of(vps_host="new.test"), forget=world.forget)).changed
    assert (undos(made), made.is_cut_off()) == ([], False)
    assert made.rows(PEERS)[0]["endpoint-address"] == "new.test"


async def test_it_would_pass_if_only_the_router_forgot(autojump_clock: object) -> None:
    """So it isn't even tried where the VPS can't forget, unless it is the VPS' own, which all routers are told."""
    made, wire = await set_up_router()
    Roaming(made)
    before = held(made)
    for dry_run in (True, False):
        with pytest.raises(EndpointUnproven):
            await set_up(wire, WRONG, forget=None, own_endpoint=("vps.test", 51820), dry_run=dry_run)
    assert (wire.changes(), held(made)) == ([], before)
    assert (await set_up(wire, WRONG, forget=None, own_endpoint=("wrong.test", 51820))).changed


async def test_other_changes_take_no_forgetting(autojump_clock: object) -> None:
    _made, wire = await set_up_router()
    assert (await set_up(wire, tunnel_of(keepalive=15), forget=None)).changed
    assert (await set_up(wire, tunnel_of(keepalive=16))).changed
    assert wire.forgot == 0


async def test_a_vps_that_does_not_forget_proves_nothing(autojump_clock: object) -> None:
    made, wire = await set_up_router()
    before = held(made)
    Roaming(made)
    with pytest.raises(TunnelLost, match="forget"):
        await set_up(wire, WRONG, forget=trio.sleep_forever)
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_the_proof_is_at_the_address_in_the_tunnel(autojump_clock: object) -> None:
    """A router that is reached by another way answers there whatever becomes of its tunnel."""
    made, wire = await set_up_router()
    before = held(made)
    world = Roaming(made)
    made.cut_when = None

    silent = router()
    silent.cut_when = lambda _it: True

    def prove() -> AbstractAsyncContextManager[Api]:
        return Wire(silent if world._is_cut(made) else made).dial()

    with pytest.raises(TunnelLost):
        await set_up(wire, WRONG, forget=world.forget, prove=prove)
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])


async def test_a_router_gets_another_address_in_the_tunnel(autojump_clock: object) -> None:
    """While the VPS sends it both, it is dialled at the old one for the change, and at the new one from then on."""
    made, _wire = await set_up_router()

    old, new = Wire(made, only_at="10.200.0.7/32", burst=True), Wire(made, only_at="10.200.0.8/32")
    assert (await set_up(old, tunnel_of(address="10.200.0.8/32"), prove=new.dial)).changed
    assert ([row["address"] for row in made.rows(ADDRESSES)], undos(made)) == (["10.200.0.8/32"], [])
    assert not (await set_up(new, tunnel_of(address="10.200.0.8/32"))).changed


async def test_who_gives_up_is_told_that_an_undo_is_armed_and_until_when(autojump_clock: object) -> None:
    made, wire = await set_up_router()
    with pytest.raises(RouterUnavailable) as told:
        await set_up(wire, WRONG, limit_s=30, forget=Roaming(made).forget)
    assert "An undo is armed" in str(told.value)
    assert told.value.retry_after_s == UNDO_S
    made, wire = await set_up_router()
    made.faults.decide = lambda request: Act.SILENT
    with pytest.raises(RouterUnavailable) as told:
        await set_up(wire, WRONG, limit_s=1)
    assert "undo" not in str(told.value)


async def test_one_that_the_vps_did_not_forget_for_is_not_proven_by_asking_again(autojump_clock: object) -> None:
    made, wire = await set_up_router()
    before, world = held(made), Roaming(made)
    with pytest.raises(TunnelLost, match="forget"):
        await set_up(wire, WRONG, forget=trio.sleep_forever)
    await trio.sleep(30)
    with pytest.raises(UndoPending):
        await set_up(wire, WRONG, forget=world.forget)
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made), made.is_cut_off()) == (before, [], False)


async def test_another_router_at_the_address_in_the_tunnel_proves_nothing(autojump_clock: object) -> None:
    """All of them may let the same user in."""
    made, wire = await set_up_router()
    before = held(made)
    other = router()
    elsewhere = Wire(other)
    await set_up(elsewhere, tunnel_of(address="10.200.0.8/32"))
    elsewhere.sent.clear()
    with pytest.raises(TunnelLost, match="another router"):
        await set_up(wire, tunnel_of(address="10.200.0.8/32"), prove=elsewhere.dial)
    assert (elsewhere.changes(), len(undos(made))) == ([], 2)
    await trio.sleep(UNDO_S)
    assert (held(made), undos(made)) == (before, [])
