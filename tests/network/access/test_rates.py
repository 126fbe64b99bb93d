"""Rates on a clock of the tests': what is counted together, how much is remembered, and for how long."""

import hmac
from ipaddress import ip_network
from typing import Any

from attrs import define
import pytest

from opendesk.errors import OpenDeskError
from opendesk.network.access import CALLS_REMEMBERED, RelayAccess, Rules
from opendesk.network.nonces import Nonces
from opendesk.settings import Secret
from opendesk.web.endpoint import Access, WebRequest
from opendesk.web.responder import UNIX

TOKEN = "hush the token"
INTERNAL = "hush the internal one"


@define
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def access(clock: Clock, **rules: Any) -> RelayAccess:
    nobody: Any = None
    return RelayAccess(
        Rules((Secret(TOKEN),), (Secret(INTERNAL),), **{"rate_window_s": 10.0, **rules}), Nonces(nobody, 1000), clock
    )


def request(address: str = "192.0.2.1", token: str = TOKEN, **headers: str) -> WebRequest:
    named = {"x-relay-token": token, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return WebRequest("GET", "/relay/things", (), named, b"", address, "an-id", target=b"/relay/things")


async def said(on: RelayAccess, asked: WebRequest, kind: Access = Access.RELAY) -> str:
    """The code of what is said; nothing to those who may."""
    try:
        await on.admit(asked, kind)
    except OpenDeskError as error:
        return error.code
    return ""


async def test_a_right_comes_back_when_its_call_is_a_window_old() -> None:
    on = access(clock := Clock(), rate_limit=2)
    found = []
    for clock.now_s in (0.0, 4.0, 9.0, 10.0, 13.0, 14.0):
        found.append(await said(on, request()))
    assert found == ["", "", "RATE_LIMITED", "", "RATE_LIMITED", ""]


async def test_failures_are_forgotten_a_window_later() -> None:
    on = access(clock := Clock(), fail_limit=2)
    assert [await said(on, request(token="x")) for _ in range(3)] == ["UNAUTHORIZED", "UNAUTHORIZED", "RATE_LIMITED"]
    assert await said(on, request()) == "RATE_LIMITED"
    clock.now_s = 10.0
    assert await said(on, request()) == ""


async def test_nobody_is_refused_for_another_s_failures() -> None:
    on = access(Clock(), fail_limit=2)
    for _ in range(3):
        await said(on, request(token="x"))
    assert await said(on, request("192.0.2.2")) == ""


async def test_a_subscriber_has_no_more_than_one_address_of_ipv6() -> None:
    on = access(Clock(), fail_limit=2)
    for number in range(3):
        await said(on, request(f"2001:db8::{number}", "x"))
    assert await said(on, request("2001:db8::ffff")) == "RATE_LIMITED"
    assert await said(on, request("2001:db8:0:1::1")) == ""


async def test_who_is_refused_uses_up_no_call() -> None:
    on = access(Clock(), rate_limit=3, fail_limit=2)
    for _ in range(9):
        await said(on, request(token="x"))
    assert on._calls.size == 2
    assert on._failures.size == 2


async def test_memory_is_bounded_whoever_calls() -> None:
    on = access(Clock(), fail_limit=1)
    for number in range(20_000):
        await said(on, request(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "x"))
    assert on._failures.size == on._failures.remembered == 16_384
    assert on._calls.remembered == CALLS_REMEMBERED
    assert len(on._unsaid) == 1


async def test_the_metrics_pages_let_nobody_guess_for_ever() -> None:
    on = access(Clock(), fail_limit=2)
    assert on.holds_token(request())
    assert [on.holds_token(request(token="")) for _ in range(5)] == [False] * 5
    assert [on.holds_token(request(token="x")) for _ in range(2)] == [False, False]
    for token in (TOKEN, "x"):
        with pytest.raises(OpenDeskError, match="too many failed calls") as refused:
            on.holds_token(request(token=token))
        assert (refused.value.code, refused.value.retry_after_s) == ("RATE_LIMITED", 10)
    assert not on.holds_token(request(token=""))
    assert on.holds_token(request("192.0.2.2"))


async def test_when_the_api_is_off_nobody_holds_its_token() -> None:
    nobody: Any = None
    off = RelayAccess(Rules(()), Nonces(nobody, 1000), Clock())
    for token in ("", "x", TOKEN):
        assert not off.holds_token(request(token=token))


async def test_tokens_are_compared_in_constant_time_each_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(ours: bytes, theirs: bytes) -> bool:
        compared.append(ours)
        return real(ours, theirs)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    secrets = (Secret("first"), Secret("second"), Secret("third"))
    nobody: Any = None
    on = RelayAccess(Rules(secrets, secrets), Nonces(nobody, 1000), Clock())
    right = request(token="first", x_relay_internal_token="first")
    assert await said(on, right, Access.INTERNAL) == ""
    assert compared == [b"first", b"second", b"third"] * 2


@pytest.mark.parametrize(
    ("address", "hearsay", "expected"),
    [
        ("10.1.2.3", False, ""),
        ("10.1.2.3", True, "FORBIDDEN"),
        ("11.1.2.3", False, "FORBIDDEN"),
        ("fd00::1", False, ""),
        ("fe80::1%eth0", False, "FORBIDDEN"),
        (UNIX, False, "FORBIDDEN"),
    ],
)
async def test_a_list_is_of_addresses_that_can_be_relied_on(address: str, hearsay: object, expected: str) -> None:
    on = access(Clock(), whitelist=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    asked = WebRequest("GET", "/", (), {"x-relay-token": TOKEN}, b"", address, "an-id", hearsay=bool(hearsay))
    assert await said(on, asked, Access.INTERNAL) == expected
