"""Whose word on the caller counts, and which browsers may read."""

from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.web.responder import UNIX, Origins, Proxies, comes_from, web_request

PROXIES = Proxies((ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("fd00::/8")))
NONE = Proxies(())


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "address", "hearsay"),
    [
        # Nobody in between, or nobody that we trust.
        (NONE, "203.0.113.1", None, "203.0.113.1", False),
        (NONE, "203.0.113.1", "198.51.100.1", "203.0.113.1", True),
        (NONE, "127.0.0.1", "198.51.100.1", "127.0.0.1", True),
        (PROXIES, "203.0.113.1", "198.51.100.1", "203.0.113.1", True),
        (PROXIES, "203.0.113.1", "127.0.0.1", "203.0.113.1", True),
        # One proxy, several, and what a client made up before them.
        (PROXIES, "10.0.0.1", "203.0.113.1", "203.0.113.1", False),
        (PROXIES, "10.0.0.1", "203.0.113.1, 10.0.0.2", "203.0.113.1", False),
        (PROXIES, "10.0.0.1", "1.1.1.1, 203.0.113.1 ,10.0.0.2", "203.0.113.1", False),
        (PROXIES, "10.0.0.1", "127.0.0.1, 203.0.113.1", "203.0.113.1", False),
        (PROXIES, "fd00::1", "2001:db8::1", "2001:db8::1", False),
        # Nobody but proxies.
        (PROXIES, "10.0.0.1", None, "10.0.0.1", False),
        (PROXIES, "127.0.0.1", "127.0.0.1", "127.0.0.1", False),
        (PROXIES, "10.0.0.1", "10.0.0.2", "10.0.0.2", False),
        # What is no address ends the walk, and makes what is behind it a rumour.
        (PROXIES, "10.0.0.1", "unknown", "10.0.0.1", True),
        (PROXIES, "10.0.0.1", "203.0.113.1:4711", "10.0.0.1", True),
        (PROXIES, "10.0.0.1", "203.0.113.1, , 10.0.0.2", "10.0.0.2", True),
        (PROXIES, "10.0.0.1", "", "10.0.0.1", True),
        (PROXIES, "10.0.0.1", "unix", "10.0.0.1", True),
        # The other end of a Unix socket is a program of this machine.
        (NONE, UNIX, None, UNIX, False),
        (NONE, UNIX, "203.0.113.1", "203.0.113.1", False),
        (NONE, UNIX, "1.1.1.1, 203.0.113.1", "203.0.113.1", False),
    ],
)
def test_the_caller_is_the_nearest_that_is_no_proxy_of_ours(
    proxies: Proxies, peer: str, forwarded: str | None, address: str, hearsay: object
) -> None:
    assert proxies.caller(peer, forwarded) == (address, hearsay)


@given(st.text(max_size=60))
def test_whatever_a_stranger_says_the_stranger_s_address_counts(forwarded: str) -> None:
    assert PROXIES.caller("203.0.113.1", forwarded) == ("203.0.113.1", True)


@given(st.text("0123456789.,: abcdefunkow%", max_size=60))
def test_a_proxy_s_word_gives_an_address(forwarded: str) -> None:
    address, _ = PROXIES.caller("10.0.0.1", forwarded)
    assert PROXIES.trusts(address) or address in forwarded


# The request


def scope(**changes: Any) -> dict[str, Any]:
    base = {
        "method": "GET",
        "path": "/pcs",
        "raw_path": b"/pcs",
        "query_string": b"",
        "headers": [],
        "client": ("203.0.113.1", 5),
    }
    return {**base, **changes}


def read(**changes: Any) -> Any:
    return web_request(scope(**changes), b"", proxies=PROXIES, request_id=lambda sent: sent or "made")


@pytest.mark.parametrize(
    ("raw_path", "query", "target"),
    [(b"/a%20b", b"", b"/a%20b"), (b"/", b"c=%C3%A9&&", b"/?c=%C3%A9&&"), (b"//x", b"?", b"//x??")],
)
def test_the_target_is_what_was_sent(raw_path: bytes, query: bytes, target: bytes) -> None:
    assert read(path="/decoded", raw_path=raw_path, query_string=query).target == target


def test_an_address_is_on_a_list_only_if_it_can_be_relied_on() -> None:
    everybody = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    fields = [(b"x-forwarded-for", b"203.0.113.9")]
    assert comes_from(read(), everybody)
    assert comes_from(read(client=("2001:db8::1", 5)), everybody)
    assert comes_from(read(client=("10.0.0.1", 5), headers=fields), [ip_network("203.0.113.9")])
    assert not comes_from(read(), ())
    assert not comes_from(read(), [ip_network("203.0.113.2")])
    assert not comes_from(read(headers=fields), everybody)
    assert not comes_from(read(client=None), everybody)


def test_fields_of_one_name_are_one() -> None:
    fields = [(b"a", b"1"), (b"x-forwarded-for", b"1.1.1.1"), (b"a", b"2"), (b"x-forwarded-for", b"203.0.113.9")]
    request = read(headers=fields, client=("10.0.0.1", 5))
    assert request.headers == {"a": "1, 2", "x-forwarded-for": "1.1.1.1, 203.0.113.9"}
    assert (request.address, request.hearsay) == ("203.0.113.9", False)


def test_without_a_client_it_is_a_unix_socket() -> None:
    assert read(client=None).address == UNIX


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("::ffff:203.0.113.1", None, "203.0.113.1"),
        ("::FFFF:CB00:7101", None, "203.0.113.1"),
        # A proxy that we trust by its IPv4 address, and what it says.
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        # IPv6 in one spelling.
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1", None, "2001:db8::1"),
    ],
)
def test_an_address_has_one_spelling(peer: str, forwarded: str | None, address: str) -> None:
    fields = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    request = read(headers=fields, client=(peer, 5))
    assert (request.address, request.hearsay) == (address, False)


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"", ()),
        (b"a=1&b=&c&a=%C3%A9+x", (("a", "1"), ("b", ""), ("c", ""), ("a", "é x"))),
        (b"&".join([b"a=1"] * 20), (("a", "1"),) * 20),
        (b"&".join([b"a=1"] * 21), None),
        (b"a=%FF", None),
        (b"a=%ED%A0%80", None),
        (b"a=\xff", None),
        (b"a=%", (("a", "%"),)),
    ],
)
def test_a_query_is_read_or_it_is_none(query: bytes, pairs: Any) -> None:
    assert read(query_string=query).query == pairs


# Origins


def test_origins_are_told_apart_to_the_letter() -> None:
    origins = Origins(frozenset({"https://a.example", "http://localhost:3000"}))
    for origin in origins.allowed:
        assert dict(origins.headers(origin))["Access-Control-Allow-Origin"] == origin
    for other in (
        None,
        "",
        "null",
        "*",
        "https://a.example.evil",
        "https://A.example",
        "http://a.example",
        "https://a.example:443",
    ):
        assert origins.headers(other) == (("Vary", "Origin"),)
    assert Origins(frozenset()).headers("https://a.example") == ()
