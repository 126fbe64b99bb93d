"""Names are looked up before `wg` is called, by a made-up resolver."""

from collections.abc import AsyncIterator
import socket
from typing import Any

from attrs import define, field
import pytest
import trio

from opendesk.network.wireguard.changes import Change, Put, Remove
from opendesk.network.wireguard.endpoints import with_addresses
from opendesk.network.wireguard.wg import Wg
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.wireguard.test_wg import A, B, C


@define
class Resolver(trio.abc.HostnameResolver):
    known: dict[str, str] = field(factory=dict)
    asked: list[str] = field(factory=list)

    async def getaddrinfo(self, host: bytes | None, port: Any, *_rest: Any, **_more: Any) -> Any:
        name = (host or b"").decode()
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        if name == "hangs.example":
            await trio.sleep_forever()
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (self.known[name], int(port)))]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for names")


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    made = Resolver({"bus.example": "192.0.2.7", "six.example": "2001:db8::7"})
    trio.socket.set_custom_hostname_resolver(made)
    yield made
    trio.socket.set_custom_hostname_resolver(None)


def put(key: str, endpoint: str | None) -> Put:
    return Put(key, ("10.200.0.7/32",), 25, endpoint)


async def endpoints(*asked: str | None) -> list[str | None]:
    return [
        change.endpoint for change in await with_addresses([put(A, name) for name in asked]) if isinstance(change, Put)
    ]


async def test_addresses_are_left_as_they_are_and_nobody_is_asked(resolver: Resolver) -> None:
    changes: list[Change] = [put(A, "192.0.2.9:1"), put(B, "[2001:db8::1]:1"), put(C, None), Remove(A)]
    assert await with_addresses(changes) == changes
    assert resolver.asked == []


async def test_a_name_becomes_its_address_and_is_asked_for_once(resolver: Resolver) -> None:
    assert await endpoints("bus.example:7", "six.example:8", "bus.example:7") == [
        "192.0.2.7:7", "[2001:db8::7]:8", "192.0.2.7:7"
    ]  # fmt: skip
    assert sorted(resolver.asked) == ["bus.example", "six.example"]


async def test_names_that_are_unknown_or_hang_cost_nobody_else_anything(
    resolver: Resolver, autojump_clock: trio.testing.MockClock
) -> None:
    assert await endpoints("none.example:1", "hangs.example:1", "bus.example:7") == [None, None, "192.0.2.7:7"]


async def test_a_peer_of_an_unknown_name_gets_all_but_the_endpoint(resolver: Resolver) -> None:
    simulated = SimulatedWireguard()
    await Wg("wg0", simulated.run).apply([put(A, "none.example:1"), put(B, "bus.example:7")])
    assert {key: (peer.endpoint, peer.keepalive) for key, peer in simulated.peers.items()} == {
        A: (None, 25),
        B: ("192.0.2.7:7", 25),
    }
