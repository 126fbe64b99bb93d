"""Two daemons on one database are one service: everything that must be true for both is in the database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, Daemon, until, url_of
from tests.system.people import PASSWORD, Person, Rented, good, register, rent, reserve, settle_in

SETTINGS: Final[Mapping[str, Any]] = {"SESSION_EXPIRATION_INTERVAL_MS": "200", "SESSION_PENDING_TIMEOUT_MS": "600000"}


@frozen
class Twins:
    """The same people, as each of the two daemons sees them."""

    daemons: tuple[Daemon, Daemon]
    people: Rented

    def on(self, number: int, person: Person) -> Person:
        return evolve(person, http=self.daemons[number].http)


@pytest.fixture
async def twins(start: Start, folder: Path, conninfo: str, conn: TrioConnection) -> Twins:
    first = await start(folder, DATABASE_URL=url_of(conninfo), **SETTINGS)
    second = await start(folder, DATABASE_URL=url_of(conninfo), **SETTINGS)
    return Twins((first, second), await settle_in(first.http, conn))


async def test_tokens_and_failed_log_ins_of_one_count_on_the_other(twins: Twins) -> None:
    person = await register(twins.daemons[0].http)
    good(await twins.on(1, person).get("/auth/me"))
    good_login = await twins.daemons[1].http.post("/auth/login", json={"email": person.email, "password": PASSWORD})
    person.token = good(good_login)["token"]
    assert (await twins.on(0, person).post("/auth/logout")).status_code == 204
    assert (await twins.on(1, person).get("/auth/me")).status_code == 401
    login = {"email": twins.people.host.email, "password": "wrong password"}
    codes = [(await twins.daemons[n % 2].http.post("/auth/login", json=login)).status_code for n in range(6)]
    assert codes == [401] * 5 + [429]


async def test_an_end_on_one_is_the_end_on_the_other_and_there_is_one(twins: Twins) -> None:
    here, there = twins.on(0, twins.people.client), twins.on(1, twins.people.client)
    session = await rent(here, twins.people.pc_id)
    assert good(await there.get(f"/sessions/{session['id']}"))["session"]["status"] == "ACTIVE"
    ended = good(await there.post(f"/sessions/{session['id']}/end"))
    assert good(await here.get(f"/sessions/{session['id']}"))["session"]["settlement"] == ended["settlement"]
    again = await here.post(f"/sessions/{session['id']}/end")
    assert (again.status_code, again.json()["code"]) == (409, "INVALID_STATUS")
    # Both at once: one wins.
    session = await rent(twins.people.client, twins.people.pc_id)
    codes: list[int] = []

    async def end(person: Person) -> None:
        codes.append((await person.post(f"/sessions/{session['id']}/end")).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(end, twins.on(number % 2, (twins.people.client, twins.people.host)[number // 2 % 2]))
    assert sorted(codes) == [200] + [409] * 7


async def test_a_key_used_on_one_and_the_other_has_one_effect_and_one_answer(twins: Twins) -> None:
    body = {"pcId": twins.people.pc_id, "minutesPurchased": 60}
    first = await twins.on(0, twins.people.client).post("/sessions", body, key="once")
    again = await twins.on(1, twins.people.client).post("/sessions", body, key="once")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    other = await twins.on(1, twins.people.client).post("/sessions", {**body, "minutesPurchased": 1}, key="once")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    # Both at once: one effect.
    before, codes = await twins.people.client.balance(), list[int]()

    async def pay(number: int) -> None:
        body = {"type": "CREDIT", "amount": 7, "reason": "TOP_UP"}
        admin = twins.on(number % 2, twins.people.admin)
        while (answer := await admin.post(f"/wallets/{twins.people.client.id}/tx", body, key="pay")).status_code == 409:
            assert answer.json()["code"] == "IDEMPOTENCY_IN_PROGRESS"
        codes.append(answer.status_code)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(pay, number)
    assert codes == [201] * 8
    assert await twins.people.client.balance() == before + 7


async def test_what_falls_due_is_ended_once(twins: Twins, conninfo: str, folder: Path, conn: TrioConnection) -> None:
    session = await rent(twins.people.client, twins.people.pc_id)
    await conn.execute("UPDATE sessions SET end_at = now() WHERE id = %s", (session["id"],))

    async def is_over() -> bool:
        found = good(await twins.people.client.get(f"/sessions/{session['id']}"))["session"]
        return bool(found["endReason"] == "COMPLETED")

    await until(is_over)
    rows = await (await conn.execute("SELECT count(*) FROM transfers WHERE kind = 'SETTLEMENT'")).fetchone()
    assert rows == (1,)
    ended = 0.0
    for daemon in twins.daemons:
        figures = (await daemon.http.get("/metrics")).text
        ended += sum(
            float(line.split()[1]) for line in figures.splitlines() if line.startswith("opendesk_sessions_ended_total")
        )
    assert ended == 1
    proof = await opendesk("ledger", "verify", data_dir=folder, DATABASE_URL=url_of(conninfo))
    assert proof.code == 0


async def test_one_goes_on_when_the_other_is_killed_with_work_in_hand(twins: Twins) -> None:
    session = await reserve(twins.people.client, twins.people.pc_id)
    await twins.daemons[0].kill()
    client = twins.on(1, twins.people.client)
    good(await client.post(f"/sessions/{session['id']}/start"))
    good(await client.post(f"/sessions/{session['id']}/end"))


async def test_a_silent_host_is_judged_once(start: Start, folder: Path, conninfo: str, conn: TrioConnection) -> None:
    quick: dict[str, Any] = {"HOST_HEARTBEAT_TIMEOUT_MS": "500", "HOST_HEARTBEAT_CHECK_INTERVAL_MS": "50"}
    first = await start(folder, DATABASE_URL=url_of(conninfo), **quick)
    second = await start(folder, DATABASE_URL=url_of(conninfo), **quick)
    people = await settle_in(first.http, conn)

    async def is_gone() -> bool:
        return bool(good(await second.http.get(f"/pcs/{people.pc_id}"))["pc"]["status"] == "OFFLINE")

    await until(is_gone)
    assert good(await second.http.get(f"/hosts/{people.host.host_id}"))["hostProfile"]["reliabilityScore"] == 90
