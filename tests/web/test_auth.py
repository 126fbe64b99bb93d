"""Who is let in, who is not, and how they are kept out."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
import json
import threading
from typing import Any

import attrs
from attrs import define, field
import httpx
import jwt
import psycopg
import pytest
import trio
import trio.testing

from opendesk.errors import Overloaded
from opendesk.rental import users
from opendesk.web.auth import (
    HASHES_AT_ONCE,
    HASHES_OF_ONE,
    HASHES_WAITING,
    TURNS_WAITING,
    Passwords,
    Tokens,
    Turns,
    utc_now,
)
from tests.web.site import JWT_SECRET, PASSWORD, PATIENCE_S, Json, Person, Site, problem, serving_site

WRONG = (401, "INVALID_CREDENTIALS")
OUT = (401, "UNAUTHENTICATED")
SHUT = (429, "RATE_LIMITED")
NEW = "another horse battery"
# How often the database is asked whether they have come so far.
POLL_S = 0.005


async def log_in(site: Site, email: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
    return await site.client.post("/auth/login", json={"email": email, "password": password}, headers=headers)


async def is_in(person: Person, token: str | None = None) -> bool:
    headers = {"Authorization": f"Bearer {token or person.token}"}
    answer = await person.client.get("/auth/me", headers=headers)
    if answer.status_code != 200:
        assert problem(answer) == OUT
    return answer.status_code == 200


# Logging in


async def test_logging_in_answers_as_registering_does(site: Site) -> None:
    host = await site.host()
    answer = await log_in(site, host.email)
    assert answer.status_code == 200
    welcome = answer.json()
    assert (welcome["userId"], welcome["hostProfileId"]) == (str(host.id), str(host.host_id))
    assert (welcome["role"], welcome["needsUsername"]) == ("HOST", False)
    assert await is_in(host, welcome["token"])


async def test_an_e_mail_address_is_found_in_any_case(site: Site) -> None:
    ana = await site.user()
    assert (await log_in(site, ana.email.upper())).status_code == 200


async def test_a_password_is_taken_to_the_letter(site: Site) -> None:
    ana = await site.user()
    for password in (PASSWORD.upper(), PASSWORD + " ", PASSWORD[:-1], "", "\u00a0"):
        assert problem(await log_in(site, ana.email, password)) == WRONG
        async with site.pool.connection() as conn:
            await conn.run("DELETE FROM login_attempts")


def shape(answer: httpx.Response) -> tuple[int, Json, Mapping[str, str]]:
    body = {key: value for key, value in answer.json().items() if key != "traceId"}
    headers = {key: value for key, value in answer.headers.items() if key not in {"x-request-id", "date"}}
    return answer.status_code, body, headers


async def test_an_unknown_address_and_a_wrong_password_look_the_same(site: Site) -> None:
    ana, banned = await site.user(), await site.user()
    async with site.pool.connection() as conn:
        await users.set_banned(conn, banned.email, banned=True)
    wrong = await log_in(site, ana.email, "wrong")
    assert problem(wrong) == WRONG
    for answer in (
        await log_in(site, "nobody@example.org", "wrong"),
        await log_in(site, "no address at all", "wrong"),
        await log_in(site, banned.email),
    ):
        assert shape(answer) == shape(wrong)


async def test_both_are_hashed_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same time is the same work: one verification each, of a hash with the same costs."""
    verified: list[str] = []

    def verify(stored: str, _: str) -> bool:
        verified.append(stored)
        return False

    monkeypatch.setattr("opendesk.web.auth._verify", verify)
    registered = {"email": "ana@example.org", "password": PASSWORD, "username": "ana"}
    await site.client.post("/auth/register", json=registered)
    await log_in(site, "ana@example.org", "wrong")
    await log_in(site, "nobody@example.org", "wrong")
    assert len(verified) == 2
    costs = {stored.split("$")[1:4][-1] for stored in verified}
    assert costs == {"m=19456,t=2,p=1"}


async def test_the_hash_that_is_stored_is_argon2id(site: Site) -> None:
    await site.client.post("/auth/register", json={"email": "ana@example.org", "password": PASSWORD, "username": "ana"})
    async with site.pool.connection() as conn:
        row = await conn.fetch_one("SELECT password_hash FROM users")
    assert row is not None
    assert row[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await log_in(site, "ana@example.org")).status_code == 200


# Too many failures


async def test_after_five_failures_the_door_is_shut(site: Site) -> None:
    ana, bob = await site.user(), await site.user()
    for _ in range(5):
        assert problem(await log_in(site, ana.email, "wrong")) == WRONG
    for password in ("wrong", PASSWORD):
        answer = await log_in(site, ana.email.title(), password)
        assert problem(answer) == SHUT
        assert 290 < int(answer.headers["retry-after"]) <= 301
    assert (await log_in(site, bob.email)).status_code == 200


async def test_it_is_shut_for_addresses_that_nobody_has_as_well(site: Site) -> None:
    for _ in range(5):
        await log_in(site, "nobody@example.org", "wrong")
    assert problem(await log_in(site, "nobody@example.org", "wrong")) == SHUT


async def test_it_opens_again_after_five_minutes(site: Site) -> None:
    ana = await site.user()
    for _ in range(6):
        answer = await log_in(site, ana.email, "wrong")
    assert problem(answer) == SHUT
    async with site.pool.connection() as conn:
        await conn.run("UPDATE login_attempts SET window_start = window_start - interval '301 seconds'")
    assert (await log_in(site, ana.email)).status_code == 200


async def test_a_success_forgets_the_failures(site: Site) -> None:
    ana = await site.user()
    for _ in range(2):
        for _ in range(4):
            assert problem(await log_in(site, ana.email, "wrong")) == WRONG
        assert (await log_in(site, ana.email)).status_code == 200


async def test_tokens_still_work_while_the_door_is_shut(site: Site) -> None:
    ana = await site.user()
    for _ in range(6):
        await log_in(site, ana.email, "wrong")
    assert await is_in(ana)


async def failures_from(site: Site, email: str, *forwarded: str) -> list[int]:
    return [(await log_in(site, email, "wrong", **{"X-Forwarded-For": hops})).status_code for hops in forwarded]


async def test_a_stranger_s_forwarded_address_counts_for_nothing(site: Site) -> None:
    ana = await site.user()
    assert await failures_from(site, ana.email, *(f"203.0.113.{n}" for n in range(6))) == [401] * 5 + [429]


async def test_behind_a_trusted_proxy_each_address_counts_for_itself(conninfo: str) -> None:
    async with serving_site(conninfo, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as site:
        ana = await site.user()
        assert await failures_from(site, ana.email, *["203.0.113.1"] * 6) == [401] * 5 + [429]
        assert await failures_from(site, ana.email, "203.0.113.2") == [401]
        made_up = [f"198.51.100.{n}, 203.0.113.1, 10.1.1.1" for n in range(3)]
        assert await failures_from(site, ana.email, *made_up) == [429] * 3
        assert (await log_in(site, ana.email, **{"X-Forwarded-For": "203.0.113.3"})).status_code == 200


async def test_an_ipv4_address_counts_as_one_however_it_is_written(conninfo: str) -> None:
    async with serving_site(conninfo, TRUSTED_PROXIES="127.0.0.1") as site:
        ana = await site.user()
        spellings = ["203.0.113.1", "::ffff:203.0.113.1", "::ffff:cb00:7101"] * 2
        assert await failures_from(site, ana.email, *spellings) == [401] * 5 + [429]


async def new_password(person: Person, current: str = PASSWORD) -> httpx.Response:
    return await person.post("/auth/password", json={"current": current, "password": NEW})


async def test_after_five_wrong_current_passwords_none_is_looked_at(site: Site) -> None:
    """A stolen token doesn't help to guess the password."""
    ana, bob = await site.user(), await site.user()
    for _ in range(5):
        assert problem(await new_password(ana, "wrong")) == WRONG
    for current in ("wrong", PASSWORD):
        answer = await new_password(ana, current)
        assert problem(answer) == SHUT
        assert 290 < int(answer.headers["retry-after"]) <= 301
    assert (await new_password(bob)).status_code == 204
    assert (await log_in(site, ana.email)).status_code == 200
    async with site.pool.connection() as conn:
        await conn.run("UPDATE login_attempts SET window_start = window_start - interval '301 seconds'")
    assert (await new_password(ana)).status_code == 204


async def test_a_changed_password_forgets_the_failures(site: Site) -> None:
    ana = await site.user()
    for _ in range(4):
        await new_password(ana, "wrong")
    assert (await new_password(ana)).status_code == 204
    async with site.pool.connection() as conn:
        assert await conn.fetch_one("SELECT count(*) FROM login_attempts") == (0,)


# Many at once


@define
class Gate:
    """Holds every verification until it is opened."""

    _opened: threading.Event = field(factory=threading.Event)

    def open(self) -> None:
        self._opened.set()

    def verify(self, _stored: str, password: str) -> bool:
        assert self._opened.wait(PATIENCE_S)
        return password == PASSWORD


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr("opendesk.web.auth._verify", made.verify)
    yield made
    made.open()


async def test_good_log_ins_at_once_do_not_count_against_each_other(
    site: Site, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await site.user()
    begun: list[bytes] = []
    original = Turns.turn

    def turn(turns: Turns, key: bytes) -> AbstractAsyncContextManager[None]:
        begun.append(key)
        if len(begun) == 12:
            gate.open()
        return original(turns, key)

    monkeypatch.setattr(Turns, "turn", turn)
    answers: list[int] = []

    async def one() -> None:
        answers.append((await log_in(site, ana.email)).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(one)
    assert answers == [200] * 12


async def test_of_a_crowd_at_one_account_those_over_the_limit_are_told_to_come_back(site: Site, gate: Gate) -> None:
    ana, bob = await site.user(), await site.user()
    served = 1 + TURNS_WAITING
    told: list[httpx.Response] = []

    async def one() -> None:
        answer = await log_in(site, ana.email)
        told.append(answer)
        if len(told) == 8:
            # Nobody has been let in so far: those who are too many don't wait.
            assert [problem(each) for each in told] == [(503, "OVERLOADED")] * 8
            assert {each.headers["retry-after"] for each in told} == {"5"}
            gate.open()

    async with trio.open_nursery() as nursery:
        for _ in range(served + 8):
            nursery.start_soon(one)
    assert [answer.status_code for answer in told[8:]] == [200] * served
    assert (await log_in(site, bob.email)).status_code == 200


async def tries_counted(site: Site) -> int:
    async with site.pool.connection() as conn:
        row = await conn.fetch_one("SELECT coalesce(sum(failures), 0) FROM login_attempts")
    assert row is not None
    return int(row[0])


async def test_whom_we_turn_away_has_not_tried(site: Site, gate: Gate) -> None:
    """However often: the right password gets in afterwards."""
    ana = await site.user()
    async with trio.open_nursery() as nursery:
        for number in range(HASHES_OF_ONE):
            nursery.start_soon(log_in, site, f"nobody-{number}@example.org")
        with trio.fail_after(PATIENCE_S):
            while True:
                if await tries_counted(site) == HASHES_OF_ONE:
                    break
                await trio.sleep(POLL_S)
        for _ in range(2 * users.LOGIN_FAILURES):
            for answer in (await log_in(site, ana.email), await new_password(ana)):
                assert problem(answer) == (503, "OVERLOADED")
        assert await tries_counted(site) == HASHES_OF_ONE
        gate.open()
    assert (await log_in(site, ana.email)).status_code == 200
    assert (await new_password(ana)).status_code == 204


async def test_a_try_without_a_user_to_compare_with_is_not_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the database goes away in between."""
    ana = await site.user()

    async def away(*_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as patched:
        patched.setattr(users, "by_email", away)
        assert problem(await log_in(site, ana.email)) == (503, "DATABASE_UNAVAILABLE")
    assert await tries_counted(site) == 0
    assert (await log_in(site, ana.email)).status_code == 200


async def test_turns_are_one_at_a_time_for_each_key_and_leave_nothing(autojump_clock: trio.testing.MockClock) -> None:
    turns, inside = Turns(), list[bytes]()

    async def stay(key: bytes) -> None:
        async with turns.turn(key):
            assert key not in inside
            inside.append(key)
            await trio.sleep(1)
            inside.remove(key)

    with trio.move_on_after(2.5):  # some are cancelled at it, some while they wait
        async with trio.open_nursery() as nursery:
            for key in [b"a", b"b"] * 4:
                nursery.start_soon(stay, key)
    assert attrs.astuple(turns, recurse=False) == ({},)


# Tokens


def forged(ana: Person, **changes: Any) -> Json:
    now = int(utc_now().timestamp())
    claims = {"sub": str(ana.id), "role": "CLIENT", "iat": now, "exp": now + 3600, "ver": 1, **changes}
    return {name: value for name, value in claims.items() if value is not ...}


ODD_CLAIMS: list[Json] = [
    {"exp": 1},
    {"exp": "soon"},
    {"exp": ...},
    {"exp": 10**400},
    {"exp": None},
    {"iat": ...},
    {"nbf": 10**12},
    {"sub": ...},
    {"sub": "x"},
    {"sub": 5},
    {"sub": None},
    {"sub": ""},
    {"sub": "018f9a2e-0000-7000-8000-000000000000"},
    {"ver": ...},
    {"ver": 0},
    {"ver": 2},
    {"ver": "1"},
    {"ver": 1.0},
    {"ver": True},
    {"ver": None},
    {"ver": -1},
    {"ver": 2**31},
    {"ver": 2**63},
    {"ver": 10**400},
]


async def test_a_token_with_odd_claims_is_none(site: Site) -> None:
    host = await site.host()
    for changes in ODD_CLAIMS:
        token = jwt.encode(forged(host, **changes), JWT_SECRET, algorithm="HS256")
        assert not await is_in(host, token), changes
        headers = {"Authorization": f"Bearer {token}"}
        answer = await site.client.post(f"/hosts/{host.host_id}/heartbeat", headers=headers)
        assert problem(answer) == OUT, changes


async def test_a_good_one_is_good_and_its_role_does_not_matter(site: Site) -> None:
    ana = await site.user()
    for changes in (
        {},
        {"exp": "99999999999"},
        {"exp": 99999999999.5},
        {"role": ...},
        {"role": 5},
        {"more": "claims"},
        # When it was issued, another daemon's clock told.
        {"iat": 1},
        {"iat": 10**12},
        {"iat": "now"},
    ):
        assert await is_in(ana, jwt.encode(forged(ana, **changes), JWT_SECRET, algorithm="HS256"))


async def test_a_token_signed_otherwise_is_none(site: Site) -> None:
    ana = await site.user()
    claims = forged(ana)
    other_key = jwt.encode(claims, JWT_SECRET + "x", algorithm="HS256")
    header, payload, signature = ana.token.split(".")
    unsigned = jwt.encode(claims, "", algorithm="none")
    for token in (
        other_key,
        jwt.encode(claims, JWT_SECRET + "as long as HS512 wants", algorithm="HS512"),
        unsigned,
        f"{unsigned.split('.')[0]}.{payload}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{jwt.encode({**claims, 'role': 'ADMIN'}, 'x' * 32).split('.')[1]}.{signature}",
        f"{header}.{payload}.{signature}{signature}",
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}..{signature}",
        "..",
        "a.b.c",
        "null",
        "x" * 8000,
    ):
        assert not await is_in(ana, token), token


async def test_a_token_ends_with_its_time(site: Site) -> None:
    ana = await site.user()
    short = Tokens(JWT_SECRET.encode(), timedelta(hours=1))
    for age, good in [(timedelta(minutes=59), True), (timedelta(minutes=61), False)]:
        token = short.issue(ana.id, "CLIENT", 1, now=utc_now() - age)
        assert await is_in(ana, token) is good


ODD_HEADERS = [
    "{token}",
    "Basic {token}",
    "Bearer",
    "Bearer{token}",
    "Bearer {token} x",
    "Bearer {token}, Bearer {token}",
    "Bearer: {token}",
    "Token {token}",
    "Digest username=x",
    "Bearer \xff\xfe",
    "",
    "x" * 8000,
]


async def test_an_odd_authorization_header_is_none(site: Site) -> None:
    ana = await site.user()
    for header in ODD_HEADERS:
        value = header.format(token=ana.token).encode("latin-1")
        answer = await site.client.get("/auth/me", headers=[(b"Authorization", value)])
        assert problem(answer) == OUT, header
        assert answer.headers["www-authenticate"] == "Bearer"


SCHEMES = ["Bearer", "bearer", "BEARER", "Bearer "]


async def test_the_scheme_s_case_does_not_matter(site: Site) -> None:
    ana = await site.user()
    for scheme in SCHEMES:
        answer = await site.client.get("/auth/me", headers={"Authorization": f"{scheme} {ana.token}"})
        assert answer.status_code == 200, scheme


async def test_two_authorization_headers_are_none(site: Site) -> None:
    ana, bob = await site.user(), await site.user()
    headers = [("Authorization", f"Bearer {person.token}") for person in (ana, bob)]
    assert problem(await site.client.get("/auth/me", headers=headers)) == OUT


# Keeping out


async def test_logging_out_ends_every_token_so_far(site: Site) -> None:
    ana = await site.user()
    other = (await log_in(site, ana.email)).json()["token"]
    answer = await ana.post("/auth/logout")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_in(ana)
    assert not await is_in(ana, other)
    assert await is_in(ana, (await log_in(site, ana.email)).json()["token"])


async def test_a_new_password_ends_every_token_so_far(site: Site) -> None:
    ana = await site.user()
    answer = await ana.post("/auth/password", json={"current": PASSWORD, "password": NEW})
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_in(ana)
    assert problem(await log_in(site, ana.email)) == WRONG
    assert (await log_in(site, ana.email, NEW)).status_code == 200


async def test_the_password_is_changed_by_who_knows_it(site: Site) -> None:
    ana = await site.user()
    answer = await ana.post("/auth/password", json={"current": "wrong", "password": NEW})
    assert problem(answer) == WRONG
    assert await is_in(ana)
    assert (await log_in(site, ana.email)).status_code == 200


async def test_a_ban_ends_everything_at_once_and_is_taken_back(site: Site) -> None:
    host = await site.host()

    async def banned(*, banned: bool) -> None:
        async with site.pool.connection() as conn:
            assert await users.set_banned(conn, host.email, banned=banned)

    await banned(banned=True)
    assert not await is_in(host)
    assert problem(await host.post(f"/hosts/{host.host_id}/heartbeat")) == OUT
    assert problem(await log_in(site, host.email)) == WRONG
    assert problem(await host.post("/auth/password", json={"current": PASSWORD, "password": NEW})) == OUT
    await banned(banned=False)
    assert not await is_in(host)
    assert await is_in(host, (await log_in(site, host.email)).json()["token"])


async def test_the_secret_is_made_once_and_kept_where_none_is_set(conninfo: str) -> None:
    async with serving_site(conninfo, JWT_SECRET="") as first:
        body = {"email": "ana@example.org", "password": PASSWORD, "username": "ana"}
        token = (await first.client.post("/auth/register", json=body)).json()["token"]
    async with serving_site(conninfo, JWT_SECRET="") as second:
        answer = await second.client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        async with second.pool.connection() as conn:
            row = await conn.fetch_one("SELECT value FROM secrets WHERE name = 'jwt'")
    assert row is not None
    assert len(bytes(row[0])) == 32
    assert json.loads(jwt.utils.base64url_decode(token.split(".")[0])) == {"alg": "HS256", "typ": "JWT"}


# Passwords


async def test_one_address_takes_no_more_than_its_share_of_the_hashing(gate: Gate) -> None:
    passwords, told = Passwords(), list[bool]()

    async def one(address: str) -> None:
        with passwords.place(address):
            told.append(await passwords.matches("stored", PASSWORD))

    async with trio.open_nursery() as nursery:
        for _ in range(HASHES_OF_ONE):
            nursery.start_soon(one, "203.0.113.1")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(Overloaded) as caught:
            await one("203.0.113.1")
        assert caught.value.retry_after_s == 5
        nursery.start_soon(one, "203.0.113.2")
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.open()
    assert told == [True] * (HASHES_OF_ONE + 1)
    await one("203.0.113.1")


async def test_all_addresses_together_are_bounded(gate: Gate) -> None:
    passwords = Passwords()

    async def one(address: str) -> None:
        with passwords.place(address):
            assert await passwords.matches("stored", PASSWORD)

    async with trio.open_nursery() as nursery:
        for number in range(HASHES_AT_ONCE + HASHES_WAITING):
            nursery.start_soon(one, f"203.0.113.{number}")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(Overloaded):
            await one("198.51.100.1")
        gate.open()
    await one("198.51.100.1")
