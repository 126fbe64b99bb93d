"""The same over real sockets: cut off, nobody answers until the router has taken the change back."""

from functools import partial

import pytest
import trio

from opendesk.network.routeros.client import connect
from opendesk.network.routeros.transport import Target
from opendesk.network.setup.apply import apply
from opendesk.network.setup.errors import TunnelLost
from opendesk.network.setup.probe import probe
from opendesk.network.setup.undo import UNDO_S
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros import PASSWORD, USER, HandClock, Router, simulated
from tests.network.setup.wires import held, through_the_tunnel, tunnel_of, undos


async def test_a_router_that_is_cut_off_comes_back_by_itself() -> None:
    clock = HandClock()
    router = Router(clock=clock)
    async with simulated(router) as address:
        dial = partial(connect, Target(*address, USER, Secret(PASSWORD), timeout_s=0.2))
        assert (await apply(dial, config=tunnel_of(), user=None, dry_run=False)).changed
        before, router.cut_when = held(router), through_the_tunnel("vps.test")
        wrong = tunnel_of(vps_host="wrong.test")
        with pytest.raises(TunnelLost):
            await apply(dial, config=wrong, user=None, dry_run=False, prove_s=0.3, forget=trio.lowlevel.checkpoint)
        assert router.is_cut_off()
        clock.advance(UNDO_S)
        assert (await probe(dial)).identity == "router"
        assert (held(router), undos(router)) == (before, [])
        assert not (await apply(dial, config=tunnel_of(), user=None, dry_run=False)).changed


async def test_one_that_is_given_up_midway_takes_it_back() -> None:
    clock = HandClock()
    router = Router(clock=clock)
    async with simulated(router) as address:
        dial = partial(connect, Target(*address, USER, Secret(PASSWORD), timeout_s=5))
        before, router.cut_when = held(router), lambda it: bool(undos(it))
        with trio.move_on_after(0.2) as scope:
            await apply(dial, config=tunnel_of(), user=None, dry_run=False)
        assert scope.cancelled_caught
        clock.advance(UNDO_S)
        assert (held(router), undos(router)) == (before, [])
