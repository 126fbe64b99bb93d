"""`wg` and wireguard-go in network namespaces: what the simulated one is held to, and what only the real one can show."""

from functools import partial
import os
import subprocess

import pytest
import trio

from opendesk.network.wireguard.changes import Put, Remove
from opendesk.network.wireguard.key_file import public_key_of
from opendesk.network.wireguard.wg import Refused
from tests.network.wireguard import namespaces
from tests.network.wireguard.namespaces import POOL, Joined, new_key


def key() -> str:
    return public_key_of(new_key())


async def test_a_peer_that_was_put_shakes_hands_and_answers_pings(wires: Joined) -> None:
    await wires.vps.wg.apply([Put(wires.bus.public_key, (f"{wires.bus.inside}/32",), 25)])
    assert await wires.bus.pings(wires.vps.inside)
    assert await wires.vps.pings(wires.bus.inside)
    peer = await wires.vps.peer(wires.bus)
    assert peer.handshake_unix > 0
    assert peer.rx > 0
    assert peer.endpoint == wires.bus.endpoint


async def test_a_preshared_key_comes_over_by_a_memory_file(wires: Joined) -> None:
    secret = new_key().reveal()
    await wires.vps.wg.apply([Put(wires.bus.public_key, (f"{wires.bus.inside}/32",), 25, preshared_key=secret)])
    await wires.bus.wg.apply([Put(wires.vps.public_key, (POOL,), 25, wires.vps.endpoint, secret)])
    assert await wires.bus.pings(wires.vps.inside)
    assert (await wires.vps.peer(wires.bus)).preshared_key == secret


async def test_a_preshared_key_on_one_side_only_lets_nobody_through(wires: Joined) -> None:
    secret = new_key().reveal()
    await wires.vps.wg.apply([Put(wires.bus.public_key, (f"{wires.bus.inside}/32",), 25, preshared_key=secret)])
    assert not await wires.bus.pings(wires.vps.inside)


async def test_an_interface_that_went_is_a_refusal_and_not_an_empty_one(wires: Joined) -> None:
    await wires.vps.wg.apply([Put(wires.bus.public_key, (), 0)])
    await wires.vps.stop()
    with pytest.raises(Refused):
        await wires.vps.wg.read()
    with pytest.raises(Refused):
        await wires.vps.wg.apply([Put(key(), (), 0)])
    await wires.vps.start()
    assert (await wires.vps.wg.read()).peers == {}


async def test_taking_over_the_allowed_ips_and_removing_the_old_key_is_one_call(wires: Joined) -> None:
    """As a rotation ends."""
    old, new = key(), wires.bus.public_key
    await wires.vps.wg.apply([Put(old, (f"{wires.bus.inside}/32",), 25), Put(new, (), 25)])
    await wires.vps.wg.apply([Put(new, (f"{wires.bus.inside}/32",), 25), Remove(old)])
    assert await wires.bus.pings(wires.vps.inside)
    assert set((await wires.vps.wg.read()).peers) == {new}


async def test_a_peer_without_allowed_ips_shakes_hands_all_the_same(wires: Joined) -> None:
    """What a rotation is proven by."""
    await wires.vps.wg.apply([Put(wires.bus.public_key, (), 25)])
    assert not await wires.bus.pings(wires.vps.inside)
    assert (await wires.vps.peer(wires.bus)).handshake_unix > 0


async def test_the_same_put_again_keeps_session_and_counters(wires: Joined) -> None:
    put = Put(wires.bus.public_key, (f"{wires.bus.inside}/32",), 0)
    await wires.vps.wg.apply([put])
    assert await wires.bus.pings(wires.vps.inside)
    before = await wires.vps.peer(wires.bus)
    await wires.vps.wg.apply([put])
    after = await wires.vps.peer(wires.bus)
    assert (after.handshake_unix, after.endpoint) == (before.handshake_unix, before.endpoint)
    assert after.rx >= before.rx > 0


async def test_what_a_killed_run_left_behind_is_removed_by_the_next_and_other_runs_are_left_alone(
    wires: Joined,
) -> None:
    gone = await trio.run_process(["sh", "-c", "echo $$"], capture_stdout=True)
    name = f"od{int(gone.stdout):x}n0v"
    await namespaces.ip(f"netns add {name}")
    async with trio.open_nursery() as nursery:
        command = ["ip", "netns", "exec", name, "wireguard-go", "-f", name]
        environ = {**os.environ, "LOG_LEVEL": "silent"}
        nursery.start_soon(partial(trio.run_process, command, check=False, env=environ, stderr=subprocess.DEVNULL))
        await namespaces.until((namespaces.SOCKETS / f"{name}.sock").exists)
        async with namespaces.joined():
            pass
    assert not (namespaces.NAMESPACES / name).exists()
    assert not (namespaces.SOCKETS / f"{name}.sock").exists()
    assert (await wires.vps.wg.read()).peers == {}
