"""A request that is sent again has its effect once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio

from opendesk.errors import IdempotencyInProgress, IdempotencyKeyReused
from opendesk.postgres.driver import TrioConnection
from opendesk.web.idempotency import Guard, StoredAnswer, forget_old_keys
from tests.web.site import PATIENCE_S, Json, Person, Site, pointers, problem

CREDIT: Json = {"type": "CREDIT", "amount": 500, "reason": "TOP_UP"}
REUSED = (422, "IDEMPOTENCY_KEY_REUSED")
# How often the database is asked whether somebody waits there.
POLL_S = 0.005
RUNNING = (409, "IDEMPOTENCY_IN_PROGRESS")


async def credit(admin: Person, ana: Person, key: str | None, **fields: object) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await admin.post(f"/wallets/{ana.id}/tx", json={**CREDIT, **fields}, headers=headers)


def replayed(answer: httpx.Response) -> bool:
    assert answer.headers.get("idempotent-replayed") in {None, "true"}
    return "idempotent-replayed" in answer.headers


async def test_the_same_request_again_gets_the_same_answer(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    first, *again = [await credit(admin, ana, "key-1") for _ in range(3)]
    assert (first.status_code, replayed(first)) == (201, False)
    for answer in again:
        assert (answer.status_code, answer.content, replayed(answer)) == (201, first.content, True)
        assert answer.headers["content-type"] == first.headers["content-type"]
        assert answer.headers["x-request-id"] != first.headers["x-request-id"]
    assert await ana.balance() == 500


async def test_without_a_key_every_request_counts(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    for _ in range(2):
        assert not replayed(await credit(admin, ana, None))
    assert not replayed(await credit(admin, ana, "key"))
    assert await ana.balance() == 1500


async def test_a_key_stands_for_one_request(site: Site) -> None:
    admin, ana, bob = await site.admin(), await site.user(), await site.user()
    await credit(admin, ana, "key")
    assert problem(await credit(admin, ana, "key", amount=501)) == REUSED
    assert problem(await credit(admin, bob, "key")) == REUSED
    answer = await admin.post("/sessions", json=CREDIT, headers={"Idempotency-Key": "key"})
    assert (problem(answer), len(pointers(answer))) == ((422, "VALIDATION_FAILED"), 5)
    assert (await ana.balance(), await bob.balance()) == (500, 0)


async def test_a_key_is_its_caller_s_own(site: Site) -> None:
    admin, other, ana = await site.admin(), await site.admin(), await site.user()
    for caller in (admin, other):
        assert not replayed(await credit(caller, ana, "key"))
    assert await ana.balance() == 1000


async def test_an_answer_is_kept_over_a_log_out(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    first = await credit(admin, ana, "key")
    await admin.post("/auth/logout")
    assert problem(await credit(admin, ana, "key")) == (401, "UNAUTHENTICATED")
    welcome = await site.client.post("/auth/login", json={"email": admin.email, "password": "correct horse battery"})
    headers = {"Authorization": f"Bearer {welcome.json()['token']}", "Idempotency-Key": "key"}
    again = await site.client.post(f"/wallets/{ana.id}/tx", json=CREDIT, headers=headers)
    assert (again.content, replayed(again)) == (first.content, True)


async def test_a_failure_is_not_kept(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    for _ in range(2):
        answer = await credit(admin, ana, "key", type="DEBIT")
        assert (problem(answer), replayed(answer)) == ((402, "INSUFFICIENT_FUNDS"), False)
    await credit(admin, ana, None)
    assert (await credit(admin, ana, "key", type="DEBIT")).status_code == 201
    assert await ana.balance() == 0


async def test_a_key_whose_request_failed_is_free_for_another(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    assert problem(await credit(admin, ana, "key", type="DEBIT")) == (402, "INSUFFICIENT_FUNDS")
    assert (await credit(admin, ana, "key")).status_code == 201


@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"', "018f9a2e-0000-7000-8000-000000000000", "a,b;c=d"])
async def test_any_visible_ascii_is_a_key(site: Site, key: str) -> None:
    admin, ana = await site.admin(), await site.user()
    assert [replayed(await credit(admin, ana, key)) for _ in range(2)] == [False, True]


async def test_a_key_is_forgotten_after_a_day(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    await credit(admin, ana, "key")
    for hours, forgotten in [(23, 0), (2, 1)]:
        async with site.pool.connection() as conn:
            await conn.run(f"UPDATE idempotency_keys SET created_at = created_at - interval '{hours} hours'")
            assert await forget_old_keys(conn) == forgotten
    assert not replayed(await credit(admin, ana, "key"))
    assert await ana.balance() == 1000


async def age(site: Site, hours: int) -> None:
    async with site.pool.connection() as conn:
        await conn.run(f"UPDATE idempotency_keys SET created_at = created_at - interval '{hours} hours'")


async def test_after_a_day_a_key_is_new_even_if_nobody_swept_it_up(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    await credit(admin, ana, "key")
    await age(site, 23)
    assert replayed(await credit(admin, ana, "key"))
    await age(site, 2)
    first, again = [await credit(admin, ana, "key", amount=700) for _ in range(2)]
    assert (first.status_code, replayed(first)) == (201, False)
    assert (again.content, replayed(again)) == (first.content, True)
    assert await ana.balance() == 1200


async def test_a_key_taken_anew_lives_for_another_day(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    await credit(admin, ana, "key")
    await age(site, 25)
    await credit(admin, ana, "key")
    await age(site, 23)
    async with site.pool.connection() as conn:
        assert await forget_old_keys(conn) == 0
    assert replayed(await credit(admin, ana, "key"))


async def test_a_key_taken_anew_outlives_the_sweep_that_waited_for_it(site: Site, conn: TrioConnection) -> None:
    admin, ana = await site.admin(), await site.user()
    await credit(admin, ana, "key")
    await age(site, 25)
    swept: list[int] = []

    async def sweep() -> None:
        async with site.pool.connection() as own:
            swept.append(await forget_old_keys(own))

    async with trio.open_nursery() as nursery, conn.transaction():
        guard = Guard.of(admin.id, "key", "POST", "/x", b"")
        assert await guard.run(conn, partial(finished, b"new")) == StoredAnswer(201, b"new")
        nursery.start_soon(sweep)
        await waits_for_a_lock(site)
    assert swept == [0]
    assert await guard.run(conn, partial(finished, b"newer")) == StoredAnswer(201, b"new", replayed=True)


async def finished(body: bytes) -> StoredAnswer:
    return StoredAnswer(201, body)


# Every call that moves money or changes a session


async def test_a_whole_session_can_be_repeated_step_by_step(site: Site) -> None:
    host, ana, admin = await site.host(), await site.user(money=10_000), await site.admin()
    pc = await site.pc(host)
    made: Json = {}
    for caller, path, body in [
        (ana, "/sessions", {"pcId": pc, "minutesPurchased": 60}),
        (ana, "/sessions/{id}/start", None),
        (ana, "/sessions/{id}/end", {"failureReason": "NONE"}),
        (admin, "/sessions/{id}/refund", {"amount": 1, "reason": "GOODWILL"}),
    ]:
        where = path.format(**made)
        first, second = [await caller.post(where, json=body, headers={"Idempotency-Key": path}) for _ in range(2)]
        assert first.is_success, first.text
        assert (replayed(first), replayed(second)) == (False, True)
        assert (second.status_code, second.content) == (first.status_code, first.content)
        made = {"id": first.json()["session"]["id"]} if "session" in first.json() else made
    transactions = (await ana.get(f"/wallets/{ana.id}/transactions")).json()["items"]
    assert [tx["reason"] for tx in transactions] == ["GOODWILL", "SESSION_HOLD", "TOP_UP"]


async def test_a_cancellation_can_be_repeated(site: Site) -> None:
    ana = await site.user(money=10_000)
    session = await site.reserved(ana, await site.pc(await site.host()))
    path, key = f"/sessions/{session}/cancel", {"Idempotency-Key": "key"}
    assert [replayed(await ana.post(path, headers=key)) for _ in range(2)] == [False, True]
    assert problem(await ana.post(path)) == (409, "INVALID_STATUS")
    assert await ana.balance() == 10_000


# At once


@asynccontextmanager
async def wallet_held(conn: TrioConnection, ana: Person) -> AsyncIterator[None]:
    """Whoever would move this wallet's money waits until this is over."""
    async with conn.transaction():
        await conn.fetch("SELECT FROM accounts WHERE user_id = %(id)s FOR UPDATE", {"id": ana.id})
        yield


async def waits_for_a_lock(site: Site) -> None:
    async with site.pool.connection() as conn:
        waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with trio.fail_after(PATIENCE_S):
            while True:
                if await conn.fetch_one(waiting) is not None:
                    return
                await trio.sleep(POLL_S)


async def test_while_the_first_runs_the_second_is_told_so(site: Site, conn: TrioConnection) -> None:
    admin, ana = await site.admin(), await site.user()
    answers: list[httpx.Response] = []

    async def first() -> None:
        answers.append(await credit(admin, ana, "key"))

    async with trio.open_nursery() as nursery, wallet_held(conn, ana):
        nursery.start_soon(first)
        await waits_for_a_lock(site)
        running = await credit(admin, ana, "key")
        assert (problem(running), running.headers["retry-after"]) == (RUNNING, "1")
        assert problem(await credit(admin, ana, "key", amount=1)) == RUNNING
        assert answers == []
    assert answers[0].status_code == 201
    again = await credit(admin, ana, "key")
    assert (replayed(again), again.content) == (True, answers[0].content)
    assert await ana.balance() == 500


async def test_of_many_at_once_one_has_effect(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await credit(admin, ana, "key"))

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(one)
    made = [answer for answer in answers if answer.status_code == 201]
    assert {problem(answer) for answer in answers if answer.status_code != 201} <= {RUNNING}
    assert [replayed(answer) for answer in made].count(False) == 1
    assert len({answer.content for answer in made}) == 1
    assert await ana.balance() == 500


async def test_of_many_repetitions_at_once_all_get_the_stored_answer(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    first = await credit(admin, ana, "key")
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await credit(admin, ana, "key"))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(one)
    assert [(replayed(answer), answer.content) for answer in answers] == [(True, first.content)] * 30


async def test_a_repetition_holds_up_no_other(site: Site, conn: TrioConnection) -> None:
    """One that is just being answered has the key's lock."""
    ana = await site.user()
    guard, other = (Guard.of(ana.id, "key", "POST", "/x", body) for body in (b"", b"other"))
    await guard.run(conn, partial(finished, b"first"))
    async with conn.transaction(), site.pool.connection() as second:
        assert (await guard.run(conn, partial(finished, b"second"))).replayed
        assert await guard.run(second, partial(finished, b"third")) == StoredAnswer(201, b"first", replayed=True)
        with pytest.raises(IdempotencyKeyReused):
            await other.run(second, partial(finished, b"fourth"))


async def test_a_key_past_its_day_that_is_taken_anew_is_running_and_not_answered(
    site: Site, conn: TrioConnection
) -> None:
    ana = await site.user()
    guard = Guard.of(ana.id, "key", "POST", "/x", b"")
    await guard.run(conn, partial(finished, b"old"))
    await age(site, 25)
    async with conn.transaction(), site.pool.connection() as second:
        assert (await guard.run(conn, partial(finished, b"new"))).body == b"new"
        with pytest.raises(IdempotencyInProgress):
            await guard.run(second, partial(finished, b"newer"))


async def test_what_is_cut_off_leaves_neither_key_nor_effect(site: Site, conn: TrioConnection) -> None:
    admin, ana = await site.admin(), await site.user()

    told = trio.Event()

    async def cut_off() -> None:
        assert problem(await credit(admin, ana, "key")) == (503, "DATABASE_UNAVAILABLE")
        told.set()

    async with trio.open_nursery() as nursery, wallet_held(conn, ana):
        nursery.start_soon(cut_off)
        await waits_for_a_lock(site)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await conn.fetch(kill)
        await told.wait()
    assert await ana.balance() == 0
    assert not replayed(await credit(admin, ana, "key"))
    assert await ana.balance() == 500
