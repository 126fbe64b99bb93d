"""Signed calls over whole HTTP: both forms, replays, clocks, other requests than the signed one, secrets that change, strict mode."""

from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
import trio

from opendesk.network.signatures import Stamp
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import SettingsError, load
from tests.network.access.calling import (
    CALLS,
    GOOD,
    ID,
    INTERNAL,
    SECRET,
    TOKEN,
    UNAUTHORIZED,
    UNSIGNED,
    Calling,
    calling,
    plain,
    signature,
    stamp,
    told,
)
from tests.web.serving import ask
from tests.web.site import problem

LONG = "hush sixteen bytes or more"
STRICT = {
    "RELAY_STRICT_SECURITY": "1",
    "RELAY_TOKEN": TOKEN,
    "RELAY_API_SECRET": LONG,
    "RELAY_INTERNAL_TOKEN": INTERNAL,
}
CHANGES = [call for call in CALLS if call[0] != "GET"]


def detail(answer: httpx.Response) -> str:
    assert problem(answer) == UNSIGNED
    return str(answer.json()["detail"])


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_what_changes_something_is_signed(pool: Pool, method: str, path: str) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET, RELAY_INTERNAL_WHITELIST="127.0.0.1") as on:
        for target in (f"/relay{path}", f"/internal{path}"):
            assert problem(await on.call(method, target)) == UNSIGNED
            assert told(await on.signed(method, target)) in {200, 204}
            assert problem(await on.signed(method, target, secret="hush of another")) == UNSIGNED


async def test_what_only_reads_is_not(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        assert told(await on.call("GET", "/relay/things")) == 200
        assert told(await on.call("GET", "/relay/things", headers={"x-relay-signature": "nonsense"})) == 200


async def test_without_a_secret_signatures_are_not_looked_at(pool: Pool, conn: TrioConnection) -> None:
    async with calling(pool) as on:
        for headers in ({}, {"x-relay-signature": "nonsense"}, plain(b"another body")):
            assert told(await on.call("POST", "/relay/things", headers=headers)) == 200
        again = signature("POST", "/relay/things", GOOD)
        for _ in range(2):
            assert told(await on.call("POST", "/relay/things", headers=again)) == 200
    assert await conn.fetch("SELECT FROM relay_nonces") == []


async def test_a_signature_does_for_no_token(pool: Pool, conn: TrioConnection) -> None:
    """And a stranger's nonce is remembered by nobody."""
    async with calling(pool, RELAY_API_SECRET=SECRET, RELAY_INTERNAL_TOKEN=INTERNAL) as on:
        for target, headers in (("/relay/things", {"x-relay-token": "x"}), ("/internal/things", {})):
            sent = {**signature("POST", target, GOOD), **headers}
            assert problem(await on.call("POST", target, headers=sent))[0] in {401, 403}
        wrong = signature("POST", "/relay/things", GOOD, secret="hush of another")
        assert problem(await on.call("POST", "/relay/things", headers=wrong)) == UNSIGNED
    assert await conn.fetch("SELECT FROM relay_nonces") == []


# The plain form


async def test_the_plain_form_is_good_for_a_body_as_often_as_it_comes(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        for _ in range(2):
            assert told(await on.call("POST", "/relay/things", headers=plain(GOOD))) == 200
            assert told(await on.call("PUT", f"/relay/things/{ID}", headers=plain(GOOD))) == 200
        assert problem(await on.call("POST", "/relay/things", b'{"name":"x"}', plain(GOOD))) == UNSIGNED
        assert problem(await on.call("DELETE", f"/relay/things/{ID}", headers=plain(b""))) == UNSIGNED
        assert problem(await on.call("POST", "/relay/things", b"", plain(b""))) == UNSIGNED


# The replay-safe form


async def test_a_call_is_not_repeated_here_nor_elsewhere_nor_after_a_restart(pool: Pool) -> None:
    sent = signature("POST", "/relay/things", GOOD)
    async with calling(pool, RELAY_API_SECRET=SECRET) as on, calling(pool, RELAY_API_SECRET=SECRET) as other:
        assert told(await on.call("POST", "/relay/things", headers=sent)) == 200
        for daemon in (on, other):
            assert "nonce" in detail(await daemon.call("POST", "/relay/things", headers=sent))
    async with calling(pool, RELAY_API_SECRET=SECRET) as again:
        assert "nonce" in detail(await again.call("POST", "/relay/things", headers=sent))


async def test_of_one_call_sent_many_times_at_once_to_two_daemons_one_is_answered(pool: Pool) -> None:
    found = list[int]()
    secret = {"RELAY_API_SECRET": SECRET}
    async with calling(pool, **secret) as on, calling(pool, **secret) as other, trio.open_nursery() as nursery:
        send = partial(_send, found, signature("POST", "/relay/things", GOOD))
        for number in range(20):
            nursery.start_soon(send, (on, other)[number % 2])
    assert sorted(found) == [200, *[401] * 19]


async def _send(found: list[int], headers: dict[str, str], to: Calling) -> None:
    found.append((await to.call("POST", "/relay/things", headers=headers)).status_code)


async def test_a_nonce_is_good_once_whatever_it_is_sent_with(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        nonce = "the-same-nonce-twice"
        assert told(await on.signed("POST", "/relay/things", by=stamp(nonce=nonce))) == 200
        again = await on.signed("DELETE", f"/relay/things/{ID}", by=stamp(nonce=nonce, off_ms=5000))
        assert "nonce" in detail(again)


@pytest.mark.parametrize("off_ms", [-3_600_000, -400_000, 400_000, 3_600_000])
async def test_an_old_clock_and_one_of_the_future_are_refused(pool: Pool, off_ms: int) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        assert "clock" in detail(await on.signed("POST", "/relay/things", by=stamp(off_ms=off_ms)))
    async with calling(pool, RELAY_API_SECRET=SECRET, HMAC_WINDOW_MS="7200000") as wide:
        assert told(await wide.signed("POST", "/relay/things", by=stamp(off_ms=off_ms))) == 200


@pytest.mark.parametrize("sent", ["0", "99999999999999", "999999999999999", "-1", "1e12", "now", ""])
async def test_odd_times_are_refused(pool: Pool, sent: str) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        headers = {**signature("POST", "/relay/things", GOOD), "x-relay-ts": sent}
        assert problem(await on.call("POST", "/relay/things", headers=headers)) == UNSIGNED
        if sent.isdigit():
            by = Stamp(int(sent), "a-nonce-of-an-odd-time")
            assert problem(await on.signed("POST", "/relay/things", by=by)) == UNSIGNED


async def test_a_signature_is_good_for_its_request_only(pool: Pool) -> None:
    """Another method, path, query, spelling or body."""
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        for method, target, body in [
            ("PUT", "/relay/things?of=a", GOOD),
            ("POST", "/relay/things", GOOD),
            ("POST", "/relay/things?of=b", GOOD),
            ("POST", "/relay/things?of=%61", GOOD),
            ("POST", "/relay/things?of=a&", GOOD),
            ("POST", "/internal/things?of=a", GOOD),
            ("POST", "/relay/%74hings?of=a", GOOD),
            ("POST", "/relay/things?of=a", b'{"name": "y"}'),
            ("POST", "/relay/things?of=a", b""),
        ]:
            sent = signature(method, target, body)
            answer = await on.call("POST", "/relay/things?of=a", headers=sent)
            assert problem(answer) == UNSIGNED, (method, target, body)


@pytest.mark.parametrize(
    "target",
    ["/relay/things?of=a%20b", "/relay/%74hings", "/relay/things?of=a&", "/relay/things?of=%C3%A9", "/relay/things?"],
)
async def test_path_and_query_are_signed_as_they_are_sent(pool: Pool, target: str) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        fields = {"x-relay-token": TOKEN, **signature("POST", target, GOOD), "content-length": str(len(GOOD))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = f"POST {target} HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + GOOD
        async with await on.served.connect() as stream:
            assert (await ask(stream, request)).status == 200


async def test_a_body_in_chunks_is_signed_as_the_bytes_it_is(pool: Pool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in GOOD:
            yield bytes([byte])

    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        for made in (plain(GOOD), signature("POST", "/relay/things", GOOD)):
            headers = {**on.headers, **made}
            answer = await on.client.post("/relay/things", content=pieces(), headers=headers)
            assert answer.status_code == 200


async def test_a_body_of_any_bytes_is_looked_at_only_when_it_is_signed(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        for body in (b"\xff\0\n", b"nonsense", b"x" * 1024 * 1024):
            assert problem(await on.call("POST", "/relay/things", body)) == UNSIGNED
            assert problem(await on.signed("POST", "/relay/things", body)) == (400, "INVALID_JSON")


async def test_headers_that_come_twice_or_are_odd_are_refused(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        made = {**on.headers, **signature("POST", "/relay/things", GOOD)}
        for name in ("x-relay-signature", "x-relay-ts", "x-relay-nonce"):
            for values in ([made[name]] * 2, [made[name], "x"], [b"\xff" * 20], [b""], [b"x" * 8000]):
                rest = [(other, value) for other, value in made.items() if other != name]
                headers = [*rest, *((name, value) for value in values)]
                answer = await on.client.post("/relay/things", content=GOOD, headers=headers)  # type: ignore[arg-type]  # text and bytes at once
                assert problem(answer) == UNSIGNED
        assert told(await on.call("POST", "/relay/things", headers=made)) == 200


async def test_a_secret_is_changed_without_a_gap(pool: Pool) -> None:
    old, new = "hush the old one", "hush the new one"
    async with calling(pool, RELAY_API_SECRET=f"{new},{old}") as on:
        for secret in (old, new):
            assert told(await on.signed("POST", "/relay/things", secret=secret)) == 200
            assert told(await on.call("POST", "/relay/things", headers=plain(GOOD, secret))) == 200
        for secret in (f"{new},{old}", "", f"{new} "):
            assert problem(await on.signed("POST", "/relay/things", secret=secret)) == UNSIGNED
    used = signature("POST", "/relay/things", GOOD, secret=old)
    async with calling(pool, RELAY_API_SECRET=f"{new},{old}") as on:
        assert told(await on.call("POST", "/relay/things", headers=used)) == 200
    async with calling(pool, RELAY_API_SECRET=new) as on:
        assert problem(await on.call("POST", "/relay/things", headers=used)) == UNSIGNED
        assert problem(await on.signed("POST", "/relay/things", secret=old)) == UNSIGNED
        assert told(await on.signed("POST", "/relay/things", secret=new)) == 200


async def test_the_token_comes_before_the_signature(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        assert problem(await on.call("POST", "/relay/things", headers={"x-relay-token": None})) == UNAUTHORIZED


# Strict mode


async def test_a_strict_daemon_takes_only_the_replay_safe_form(pool: Pool) -> None:
    async with calling(pool, **STRICT) as on:
        assert "replay-safe" in detail(await on.call("POST", "/relay/things", headers=plain(GOOD, LONG)))
        assert told(await on.signed("POST", "/relay/things", secret=LONG)) == 200
        assert told(await on.signed("DELETE", f"/relay/things/{ID}", secret=LONG)) == 204


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"RELAY_API_SECRET": ""}, "RELAY_API_SECRET: is not set"),
        ({"RELAY_INTERNAL_TOKEN": ""}, "RELAY_INTERNAL_TOKEN: is not set"),
        ({"RELAY_API_SECRET": "x" * 15}, "RELAY_API_SECRET: is shorter than 16 bytes"),
        ({"RELAY_API_SECRET": f"{LONG},short"}, "RELAY_API_SECRET: is shorter than 16 bytes"),
        ({"RELAY_TOKEN": "x" * 15}, "RELAY_TOKEN: is shorter than 16 bytes"),
        ({"RELAY_INTERNAL_TOKEN": "x" * 15}, "RELAY_INTERNAL_TOKEN: is shorter than 16 bytes"),
        ({"BACKEND_HMAC_SECRET": "x" * 15}, "BACKEND_HMAC_SECRET: is shorter than 16 bytes"),
        ({"JWT_SECRET": "x" * 15}, "JWT_SECRET: is shorter than 16 bytes"),
    ],
)
def test_a_strict_daemon_does_not_start_without_good_secrets(changed: dict[str, str], fault: str) -> None:
    assert load(STRICT).relay_strict_security
    with pytest.raises(SettingsError) as refused:
        load({**STRICT, **changed})
    (said,) = refused.value.faults
    assert said.startswith(fault)
    assert "hush" not in said
