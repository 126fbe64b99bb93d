"""One suite for the simulated `wg` and the real one: whatever holds for the first holds for the second."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
import os

from attrs import frozen
import pytest

from opendesk.network.wireguard import prefixes
from opendesk.network.wireguard.changes import Put, Remove
from opendesk.network.wireguard.dump import Peer
from opendesk.network.wireguard.key_file import public_key_of
from opendesk.network.wireguard.keys import ZERO
from opendesk.network.wireguard.wg import Refused, Wg
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.wireguard.namespaces import joined, new_key, skip_if_impossible

A, B, C = (public_key_of(new_key()) for _ in range(3))


def random_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@frozen
class Subject:
    wg: Wg
    set_by_hand: Callable[..., Awaitable[object]]

    async def peers(self) -> dict[str, Peer]:
        return dict((await self.wg.read()).peers)

    async def owners(self) -> dict[str, set[str]]:
        return {key: set(peer.allowed_ips) for key, peer in (await self.peers()).items()}


@pytest.fixture(params=["simulated", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "real":
        skip_if_impossible()
    return str(request.param)


@pytest.fixture
async def subject(kind: str) -> AsyncIterator[Subject]:
    if kind == "simulated":
        simulated = SimulatedWireguard()

        async def set_by_hand(*words: str) -> None:
            await simulated.run(["wg", "set", "wg0", *words])

        yield Subject(Wg("wg0", simulated.run), set_by_hand)
    else:
        async with joined() as both:
            yield Subject(both.vps.wg, both.vps.set)


async def test_an_interface_without_peers_is_read_as_one(subject: Subject) -> None:
    interface = await subject.wg.read()
    assert interface.peers == {}
    assert interface.public_key is not None
    assert interface.listen_port == 51820


async def test_a_peer_holds_what_was_put(subject: Subject) -> None:
    secret = random_key()
    put = Put(A, ("10.200.0.7/32", "192.168.4.0/24", "fd00::7/128"), 25, "[2001:db8::1]:4000", secret)
    await subject.wg.apply([put])
    assert await subject.peers() == {A: Peer(A, secret, put.endpoint, put.allowed_ips, 0, 0, 0, 25)}


async def test_what_a_put_leaves_out_stays_and_an_empty_preshared_key_takes_it_off(subject: Subject) -> None:
    secret = random_key()
    await subject.wg.apply([Put(A, (), 25, "192.0.2.7:4000", secret)])
    await subject.wg.apply([Put(A, (), 0)])
    peer = (await subject.peers())[A]
    assert (peer.endpoint, peer.preshared_key, peer.keepalive) == ("192.0.2.7:4000", secret, 0)
    await subject.wg.apply([Put(A, (), 0, preshared_key="")])
    assert (await subject.peers())[A].preshared_key is None


async def test_allowed_ips_are_read_in_the_order_of_ours_whatever_the_order_they_came_in(subject: Subject) -> None:
    texts = ("fd00::7/128", "10.200.0.70/32", "192.168.4.0/24", "10.200.0.8/32", "fd00::/112")
    await subject.set_by_hand("peer", A, "allowed-ips", ",".join(texts))
    assert (await subject.peers())[A].allowed_ips == (
        "10.200.0.8/32", "10.200.0.70/32", "192.168.4.0/24", "fd00::/112", "fd00::7/128"
    )  # fmt: skip


async def test_canonical_text_of_ours_is_the_text_of_wg(subject: Subject) -> None:
    texts = [
        "FD00:0:0:1::/64",
        "2001:db8:0:1:0:0:0:1",
        "fd00:0:1:0:1:0:1:0",
        "2001:DB8::0:1/128",
        "10.1.2.3",
        "64:ff9b::/96",
    ]
    ours = prefixes.allowed_ips(texts)
    await subject.wg.apply([Put(A, ours, 0)])
    assert (await subject.peers())[A].allowed_ips == ours


async def test_an_allowed_ip_of_another_moves_without_a_word(subject: Subject) -> None:
    await subject.wg.apply([Put(A, ("10.200.0.7/32", "10.200.0.8/32"), 0), Put(B, (), 0)])
    await subject.set_by_hand("peer", B, "allowed-ips", "10.200.0.7/32")
    assert await subject.owners() == {A: {"10.200.0.8/32"}, B: {"10.200.0.7/32"}}


async def test_one_within_another_prefix_stays_beside_it(subject: Subject) -> None:
    await subject.wg.apply([Put(A, ("10.200.0.0/24",), 0), Put(B, ("10.200.0.7/32",), 0)])
    assert await subject.owners() == {A: {"10.200.0.0/24"}, B: {"10.200.0.7/32"}}


async def test_two_swap_their_allowed_ips_in_one_call(subject: Subject) -> None:
    await subject.wg.apply([Put(A, ("10.200.0.1/32",), 0), Put(B, ("10.200.0.2/32",), 0)])
    await subject.wg.apply([Put(A, ("10.200.0.2/32",), 0), Put(B, ("10.200.0.1/32",), 0)])
    assert await subject.owners() == {A: {"10.200.0.2/32"}, B: {"10.200.0.1/32"}}


async def test_a_put_takes_off_what_it_does_not_name(subject: Subject) -> None:
    await subject.wg.apply([Put(A, ("10.200.0.1/32", "10.200.0.2/32"), 0)])
    await subject.wg.apply([Put(A, ("10.200.0.2/32",), 0)])
    assert await subject.owners() == {A: {"10.200.0.2/32"}}
    await subject.wg.apply([Put(A, (), 0)])
    assert await subject.owners() == {A: set()}


async def test_changes_are_done_in_their_order(subject: Subject) -> None:
    await subject.wg.apply([Put(A, (), 0), Remove(A), Put(B, (), 0), Remove(C), Put(C, (), 0)])
    assert set(await subject.peers()) == {B, C}


async def test_removing_who_is_not_there_is_no_fault(subject: Subject) -> None:
    await subject.wg.apply([Remove(A)])
    assert await subject.peers() == {}


@pytest.mark.parametrize("bad", [A[:-1], f"{A[:-2]}B=", "", "x"], ids=["unpadded", "not canonical", "empty", "short"])
async def test_a_bad_key_anywhere_applies_nothing_and_is_not_told(subject: Subject, bad: str) -> None:
    with pytest.raises(Refused) as caught:
        await subject.wg.apply([Put(A, (), 0), Put(bad, (), 0), Put(B, (), 0)])
    assert A[:20] not in str(caught.value)
    assert await subject.peers() == {}


async def test_the_interfaces_own_key_makes_no_peer_and_the_zero_key_one_that_can_be_removed(subject: Subject) -> None:
    own = (await subject.wg.read()).public_key
    assert own is not None
    await subject.wg.apply([Put(own, (), 0), Put(ZERO, (), 0)])
    assert set(await subject.peers()) == {ZERO}
    await subject.wg.apply([Remove(ZERO)])
    assert await subject.peers() == {}


async def test_host_bits_and_ports_out_of_range_are_bent_into_shape(subject: Subject) -> None:
    """Why we look at them before."""
    await subject.set_by_hand("peer", A, "endpoint", "192.0.2.7:99999", "allowed-ips", "10.200.0.7/24")
    peer = (await subject.peers())[A]
    assert (peer.endpoint, peer.allowed_ips) == ("192.0.2.7:34463", ("10.200.0.0/24",))


async def test_an_interface_takes_a_key_and_a_port_and_keeps_its_peers(subject: Subject) -> None:
    key = new_key()
    await subject.wg.apply([Put(A, (), 0)])
    await subject.wg.set_private_key(key)
    await subject.wg.set_listen_port(40404)
    interface = await subject.wg.read()
    assert (interface.public_key, interface.listen_port) == (public_key_of(key), 40404)
    assert set(interface.peers) == {A}


async def test_a_thousand_peers_go_on_and_off(subject: Subject) -> None:
    puts = [
        Put(random_key(), (f"10.201.{number // 250}.{number % 250}/32",), 25, preshared_key=random_key() if number < 300 else None)
        for number in range(1100)
    ]  # fmt: skip
    await subject.wg.apply(puts)
    peers = await subject.peers()
    assert {key: (peer.allowed_ips, peer.preshared_key) for key, peer in peers.items()} == {
        put.public_key: (put.allowed_ips, put.preshared_key) for put in puts
    }
    await subject.wg.apply([Remove(put.public_key) for put in islice(puts, 1, None)])
    assert set(await subject.peers()) == {puts[0].public_key}
