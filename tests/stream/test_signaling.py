"""What client and host are told: addresses, the relay's URL, tokens and shapes."""

from datetime import UTC, datetime
from uuid import UUID

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.stream import signaling, tokens
from opendesk.stream.signaling import (
    Granted,
    LanWay,
    MissingHostAddress,
    NoRelayUrl,
    PcAddress,
    TransportMode,
    direct_way,
    relay_url,
)
from opendesk.stream.tokens import Role
from opendesk.web.wire import to_wire

KEY = bytes(range(32))
SESSION, ANA, BOB = UUID(int=1), UUID(int=2), UUID(int=3)
NOWHERE = PcAddress("DIRECT", None, None, None)
GRANTED = Granted("ACTIVE", datetime(2026, 1, 31, 12, tzinfo=UTC), "wss://desk.example/stream/relay")
LAN = LanWay(TransportMode.UDP_LAN, "203.0.113.7", 5004, 5505)


def way(address: str | None, host: str | None = None, port: int | None = None) -> tuple[str, int]:
    found = direct_way(PcAddress("DIRECT", address, host, port))
    assert found is not None
    assert (found.mode, found.input_port) == ("UDP_LAN", 5505)
    return found.host, found.video_port


@pytest.mark.parametrize(
    ("address", "host", "port", "expected"),
    [
        ("203.0.113.7:6000", None, None, ("203.0.113.7", 6000)),
        ("203.0.113.7", None, None, ("203.0.113.7", 5004)),
        ("rig.example:6000", None, None, ("rig.example", 6000)),
        # connectionHost and connectionPort come first, each for itself.
        ("203.0.113.7:6000", "rig.example", None, ("rig.example", 6000)),
        ("203.0.113.7:6000", None, 7000, ("203.0.113.7", 7000)),
        ("203.0.113.7:6000", "rig.example", 7000, ("rig.example", 7000)),
        (None, "rig.example", None, ("rig.example", 5004)),
        (None, "rig.example:8000", None, ("rig.example", 8000)),
        ("203.0.113.7:6000", "rig.example:8000", None, ("rig.example", 8000)),
        # IPv6, in brackets or bare; told without.
        ("[2001:db8::7]:6000", None, None, ("2001:db8::7", 6000)),
        ("[2001:db8::7]", None, None, ("2001:db8::7", 5004)),
        ("2001:db8::7", None, None, ("2001:db8::7", 5004)),
        ("fe80::1%eth0", None, None, ("fe80::1%eth0", 5004)),
        (None, "[2001:db8::7]", 7000, ("2001:db8::7", 7000)),
        (None, "2001:db8::7", None, ("2001:db8::7", 5004)),
        # What can't be read is as if it weren't there.
        ("203.0.113.7:99999", "rig.example", None, ("rig.example", 5004)),
        ("203.0.113.7:6000", "[rig", None, ("203.0.113.7", 6000)),
    ],
)
def test_an_address_is_put_together(
    address: str | None, host: str | None, port: int | None, expected: tuple[str, int]
) -> None:
    assert way(address, host, port) == expected


UNREADABLE = (
    None, "", ":5004", "rig:", "rig:x", "rig:0", "rig:65536", "rig:123456", "a:b:c", "[rig]:5004", "[2001:db8::7", "2001:db8::7]", "[]:1",
    "[2001:db8::7]5004", "a%b", "[203.0.113.7]:5004",
)  # fmt: skip


@pytest.mark.parametrize("address", UNREADABLE)
def test_no_address_is_told(address: str | None) -> None:
    for pc in (evolve(NOWHERE, connect_address=address), evolve(NOWHERE, connection_host=address, connection_port=5)):
        with pytest.raises(MissingHostAddress):
            direct_way(pc)


@given(st.text("0123456789abcdef.:[]%-_", max_size=30))
def test_whatever_a_host_wrote_is_an_address_or_none(text: str) -> None:
    try:
        found = direct_way(evolve(NOWHERE, connect_address=text))
    except MissingHostAddress:
        return
    assert found is not None
    assert found.host in text
    assert not {"[", "]"} & set(found.host)
    assert 1 <= found.video_port <= 65535


@pytest.mark.parametrize("address", [None, "203.0.113.7:6000"])
def test_a_pc_behind_the_relay_has_no_direct_way(address: str | None) -> None:
    assert direct_way(PcAddress("RELAY", address, None, 7000)) is None


@pytest.mark.parametrize(
    ("public", "scheme", "host", "url"),
    [
        ("https://desk.example", "http", "evil.example", "wss://desk.example/stream/relay"),
        ("http://desk.example:8080", "https", "x", "ws://desk.example:8080/stream/relay"),
        ("HTTPS://desk.example/under/a/path/", "http", "", "wss://desk.example/under/a/path/stream/relay"),
        (None, "http", "127.0.0.1:3333", "ws://127.0.0.1:3333/stream/relay"),
        (None, "https", "desk.example", "wss://desk.example/stream/relay"),
        (None, "https", "[2001:db8::1]:443", "wss://[2001:db8::1]:443/stream/relay"),
    ],
)
def test_the_relay_s_url(public: str | None, scheme: str, host: str, url: str) -> None:
    assert relay_url(public, scheme, host) == url


@pytest.mark.parametrize(
    "host", ["", "a/b", "a b", "user@host", "host:", "host:x", "host:0", "2001:db8::1", "a?b", "a#b", "a, b", "é"]
)
def test_a_host_that_makes_no_url_is_refused(host: str) -> None:
    with pytest.raises(NoRelayUrl):
        relay_url(None, "http", host)


def test_the_answer_is_as_the_contract_shows_it() -> None:
    shared, own = tokens.shared_token(KEY, SESSION), tokens.own_token(KEY, SESSION, Role.CLIENT, ANA)
    told = to_wire(signaling.answer(KEY, SESSION, Role.CLIENT, ANA, lan=LAN, granted=GRANTED))
    end = "2026-01-31T12:00:00.000Z"
    assert told == {
        "sessionId": str(SESSION),
        "sessionStatus": "ACTIVE",
        "streamState": "ACTIVE",
        "host": "203.0.113.7",
        "videoPort": 5004,
        "inputPort": 5505,
        "streamId": tokens.stream_id(shared),
        "token": shared,
        "tokenExpiresAt": end,
        "connectAddress": "203.0.113.7:5004",
        "transport": {
            "recommended": "UDP_LAN",
            "relay": {
                "mode": "RELAY_WS",
                "url": "wss://desk.example/stream/relay",
                "roleClient": "client",
                "roleHost": "host",
                "sessionId": str(SESSION),
                "streamId": tokens.stream_id(own),
                "token": own,
                "tokenExpiresAt": end,
            },
            "lan": {"mode": "UDP_LAN", "host": "203.0.113.7", "videoPort": 5004, "inputPort": 5505},
        },
    }


def test_behind_the_relay_nothing_is_said_of_addresses() -> None:
    told = to_wire(signaling.answer(KEY, SESSION, Role.HOST, BOB, lan=None, granted=GRANTED))
    assert (told["transport"]["recommended"], told["transport"]["lan"]) == ("RELAY_WS", None)
    assert [told[name] for name in ("host", "videoPort", "inputPort", "connectAddress")] == [None] * 4
    assert told["transport"]["relay"]["token"] == tokens.own_token(KEY, SESSION, Role.HOST, BOB)


def test_an_ipv6_address_stands_in_brackets_before_its_port() -> None:
    lan = evolve(LAN, host="2001:db8::7")
    told = signaling.answer(KEY, SESSION, Role.CLIENT, ANA, lan=lan, granted=GRANTED)
    assert (told.host, told.connect_address) == ("2001:db8::7", "[2001:db8::7]:5004")


@pytest.mark.parametrize(("status", "state"), [("PENDING", "STARTING"), ("ACTIVE", "ACTIVE")])
def test_a_stream_is_starting_until_the_session_is_active(status: str, state: str) -> None:
    told = signaling.answer(KEY, SESSION, Role.HOST, BOB, lan=LAN, granted=evolve(GRANTED, status=status))
    assert (told.session_status, told.stream_state) == (status, state)


def test_no_token_stands_in_a_repr() -> None:
    told = signaling.answer(KEY, SESSION, Role.CLIENT, ANA, lan=LAN, granted=GRANTED)
    assert told.token not in repr(told)
    assert told.transport.relay.token not in repr(told)
