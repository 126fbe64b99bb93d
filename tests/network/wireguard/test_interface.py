"""The interface of this machine: what is missing of it, and making it, in a network namespace of the test's own."""

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_interface
import json
from subprocess import CompletedProcess
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
import pytest
import trio

from opendesk.network.wireguard.interface import (
    Found,
    InterfaceFault,
    Link,
    Maker,
    Step,
    Wished,
    check_free,
    command,
    links_of,
    steps,
)
from opendesk.network.wireguard.key_file import public_key_of
from opendesk.network.wireguard.wg import WgError
from opendesk.settings.secret import Secret
from tests.network.wireguard.alone import namespace

PRIVATE = Secret("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
OTHER = Secret("CQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
PUBLIC = public_key_of(PRIVATE)
ADDRESS = ip_interface("10.200.0.1/16")
WISHED = Wished("wg0", PUBLIC, 51820, ADDRESS)
THERE = Found(Link("wg0", is_up=True, addresses=frozenset({ADDRESS})), PUBLIC, 51820)


def test_of_none_all_is_missing_and_of_a_right_one_nothing() -> None:
    assert steps(WISHED, None) == tuple(Step)
    assert steps(WISHED, THERE) == ()


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (evolve(THERE, public_key=None), Step.KEY),
        (evolve(THERE, listen_port=0), Step.PORT),
        (evolve(THERE, link=evolve(THERE.link, addresses=frozenset({ip_interface("10.200.0.1/24")}))), Step.ADDRESS),
        (evolve(THERE, link=evolve(THERE.link, is_up=False)), Step.UP),
    ],
)
def test_only_what_is_missing_is_done(found: Found, missing: Step) -> None:
    assert steps(WISHED, found) == (missing,)


def test_one_with_another_key_is_left_as_it_is() -> None:
    with pytest.raises(InterfaceFault, match="another key"):
        steps(WISHED, evolve(THERE, public_key=public_key_of(OTHER), listen_port=1))


def test_no_command_has_the_private_key_in_it() -> None:
    assert not any(PRIVATE.reveal() in word for step in Step for word in command(step, WISHED))


@pytest.mark.parametrize(
    ("other", "is_free"),
    [("10.200.3.4/24", False), ("10.0.0.1/8", False), ("10.201.0.1/16", True), ("fd00::1/64", True)],
)
def test_a_network_that_another_interface_has_is_not_taken(other: str, is_free: bool) -> None:  # noqa: FBT001
    links = {"wg0": THERE.link, "eth0": Link("eth0", is_up=True, addresses=frozenset({ip_interface(other)}))}
    if is_free:
        check_free(WISHED, links)
    else:
        with pytest.raises(InterfaceFault, match="eth0"):
            check_free(WISHED, links)


def test_what_ip_tells_is_read() -> None:
    told = [
        {},
        {"ifname": "lo", "flags": ["LOOPBACK"], "addr_info": []},
        {
            "ifname": "wg0",
            "flags": ["NOARP", "UP"],
            "addr_info": [
                {"family": "inet", "local": "10.200.0.1", "prefixlen": 16, "scope": "global"},
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
            ],
        },
    ]
    assert links_of(json.dumps(told).encode()) == {
        "lo": Link("lo", is_up=False, addresses=frozenset()),
        "wg0": Link("wg0", is_up=True, addresses=frozenset({ADDRESS})),
    }


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["ifname", "flags", "addr_info", "local", "prefixlen"]), inner)
    ),
)


@given(ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_what_can_not_be_read_is_a_fault_and_nothing_else(told: bytes) -> None:
    with suppress(InterfaceFault):
        links_of(told)


async def test_a_program_that_is_not_there_is_named() -> None:
    async def run(arguments: list[str], **_rest: Any) -> CompletedProcess[bytes]:
        raise FileNotFoundError(arguments[0])

    with pytest.raises(InterfaceFault, match="no program ip here"):
        await Maker(WISHED, PRIVATE, run).make()


async def test_what_says_that_it_was_done_and_was_not_is_found_out() -> None:
    async def run(arguments: list[str], **_rest: Any) -> CompletedProcess[bytes]:
        return CompletedProcess(arguments, 0, b"[]", b"")

    with pytest.raises(InterfaceFault, match="remains to make the interface"):
        await Maker(WISHED, PRIVATE, run).make()


async def test_where_neither_way_works_both_complaints_are_told() -> None:
    async def run(arguments: list[str], **_rest: Any) -> CompletedProcess[bytes]:
        box = "┌──┐\n│ x│\n└──┘\n".encode()
        return CompletedProcess(arguments, int("-json" not in arguments), b"[]", box + b"no " + arguments[0].encode())

    with pytest.raises(InterfaceFault) as caught:
        await Maker(WISHED, PRIVATE, run).make()
    assert str(caught.value) == "wg0 can't be made: no ip; wireguard-go: no wireguard-go"


# Real ones


@pytest.fixture
def prefix() -> Iterator[tuple[str, ...]]:
    with namespace() as name:
        yield ("ip", "netns", "exec", name)


@pytest.fixture
def wished(prefix: tuple[str, ...]) -> Wished:
    """The name is its socket's too, which all namespaces share."""
    return evolve(WISHED, name=prefix[-1], listen_port=0x1234)


async def test_it_is_made_and_made_again_changes_nothing(wished: Wished, prefix: tuple[str, ...]) -> None:
    maker = Maker(wished, PRIVATE, prefix=prefix)
    assert await maker.look() is None
    assert await maker.make() == tuple(Step)
    found = await maker.look()
    assert found == Found(Link(wished.name, is_up=True, addresses=frozenset({ADDRESS})), PUBLIC, 0x1234)
    assert await maker.make() == ()


async def test_what_somebody_took_away_is_given_back_and_nothing_else_touched(
    wished: Wished, prefix: tuple[str, ...]
) -> None:
    maker = Maker(wished, PRIVATE, prefix=prefix)
    await maker.make()
    mine = ["ip", "address", "add", "192.0.2.1/32", "dev", wished.name]
    for by_hand in (
        ["ip", "address", "flush", "dev", wished.name],
        mine,
        ["wg", "set", wished.name, "listen-port", "9"],
    ):
        await trio.run_process([*prefix, *by_hand])
    assert await maker.make() == (Step.PORT, Step.ADDRESS)
    found = await maker.look()
    assert found is not None
    assert found.link.addresses == {ADDRESS, ip_interface("192.0.2.1/32")}


async def test_another_key_on_it_stays(wished: Wished, prefix: tuple[str, ...]) -> None:
    await Maker(evolve(wished, public_key=public_key_of(OTHER)), OTHER, prefix=prefix).make()
    with pytest.raises(InterfaceFault, match="another key"):
        await Maker(wished, PRIVATE, prefix=prefix).make()
    found = await Maker(wished, prefix=prefix).look()
    assert found is not None
    assert found.public_key == public_key_of(OTHER)


async def test_one_that_is_not_wireguards_is_refused(wished: Wished, prefix: tuple[str, ...]) -> None:
    await trio.run_process([*prefix, "ip", "link", "add", wished.name, "type", "veth", "peer", "name", "odother"])
    with pytest.raises(WgError):
        await Maker(wished, PRIVATE, prefix=prefix).make()


async def test_what_lives_on_gets_none_of_our_environment(
    wished: Wished, prefix: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With this one, wireguard-go keeps the pipe that we read from; the others are secrets of ours.
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("RELAY_TOKEN", "hush-hush")
    await Maker(wished, PRIVATE, prefix=prefix).make()
    found = await trio.run_process(["pgrep", "-f", wished.name], capture_stdout=True, check=False)
    for line in found.stdout.split():  # none where the kernel has WireGuard
        assert b"hush-hush" not in await trio.Path(f"/proc/{int(line)}/environ").read_bytes()
