"""Sessions over HTTP: shapes, codes, and what is refused. Who gets what is for tests/rental."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tests.web.site import Json, Person, Site, pointers, problem

NOBODY = "018f9a2e-0000-7000-8000-000000000000"


async def both(site: Site, *, price: int = 2400, money: int = 10_000) -> tuple[Person, Person, str]:
    """A host, a client with money, and the id of the host's PC."""
    host, ana = await site.host(), await site.user(money=money)
    return host, ana, await site.pc(host, pricePerHour=price)


async def test_a_reservation_holds_the_whole_price(site: Site) -> None:
    host, ana, pc = await both(site)
    body = {"pcId": pc, "minutesPurchased": 30, "clientUserId": str(ana.id)}
    answer = await ana.post("/sessions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (201, "SESSION_CREATED")
    session = answer.json()["session"]
    unset = ("startAt", "endAt", "endedAt", "endReason", "failureReason", "claimedFailureReason", "settlement")
    assert session == {
        "id": session["id"],
        "pcId": pc,
        "hostId": str(host.host_id),
        "clientUserId": str(ana.id),
        "status": "PENDING",
        "minutesPurchased": 30,
        "minutesUsed": 0,
        "priceTotal": 1200,
        "currency": "BRL",
        "platformFeeRate": "0.1",
        "penaltyRate": "0.3",
        "createdAt": session["createdAt"],
        **dict.fromkeys(unset),
    }
    assert await ana.balance() == 8_800
    assert (await ana.get(f"/pcs/{pc}")).json()["pc"]["status"] == "ONLINE"


def lines_of(site: Site, session: str) -> list[Json]:
    return [line for line in site.lines() if line.get("session") == session]


async def test_a_sessions_id_finds_in_the_log_who_booked_started_and_ended_it(site: Site) -> None:
    host, ana, pc = await both(site)
    asked = {"pcId": pc, "minutesPurchased": 30}
    session = (await ana.post("/sessions", json=asked, headers={"X-Request-ID": "booking"})).json()["session"]["id"]
    again = await ana.post(f"/sessions/{session}/start", headers={"Idempotency-Key": "once-only"})
    assert (await ana.post(f"/sessions/{session}/start", headers={"Idempotency-Key": "once-only"})).text == again.text
    await host.post(f"/sessions/{session}/end", headers={"X-Request-ID": "ending"})
    booked, started, ended = lines_of(site, session)
    assert [line["event"] for line in (booked, started, ended)] == [
        "session.booked",
        "session.started",
        "session.ended",
    ]
    assert (booked["client"], booked["pc"], booked["host"], booked["minutes"], booked["traceId"]) == (
        *(str(ana.id), pc, str(host.host_id), 30, "booking"),
    )
    assert started["by"] == str(ana.id)
    assert (ended["by"], ended["reason"], ended["fault"], ended["traceId"]) == (
        *(str(host.id), "ENDED_BY_HOST", "HOST", "ending"),
    )


async def test_a_cancelled_reservation_is_an_end_in_the_log(site: Site) -> None:
    _host, ana, pc = await both(site)
    session = await site.reserved(ana, pc)
    await ana.post(f"/sessions/{session}/cancel")
    _booked, ended = lines_of(site, session)
    assert (ended["event"], ended["reason"], ended["by"]) == ("session.ended", "CANCELLED", str(ana.id))


async def test_a_session_from_start_to_end(site: Site) -> None:
    host, ana, pc = await both(site)
    session = await site.reserved(ana, pc)
    answer = await ana.post(f"/sessions/{session}/start")
    assert answer.status_code == 200
    started = answer.json()["session"]
    assert (started["status"], started["settlement"]) == ("ACTIVE", None)
    assert (await ana.get(f"/pcs/{pc}")).json()["pc"]["status"] == "BUSY"
    answer = await ana.post(f"/sessions/{session}/end")
    assert (answer.status_code, set(answer.json())) == (200, {"session", "settlement"})
    ended, settlement = answer.json()["session"], answer.json()["settlement"]
    assert ended["settlement"] == settlement
    assert (ended["status"], ended["endReason"], ended["failureReason"]) == ("ENDED", "ENDED_BY_CLIENT", "NONE")
    parts = [settlement[name] for name in ("platformFee", "hostPayout", "clientCredit", "retained")]
    assert sum(parts) == settlement["total"] == 2400
    assert settlement["unused"] == settlement["total"] - settlement["proportional"]
    for caller in (ana, host):
        assert (await caller.get(f"/sessions/{session}")).json()["session"] == ended
        assert (await caller.get("/sessions")).json()["items"] == [ended]
    assert (await ana.get(f"/pcs/{pc}")).json()["pc"]["status"] == "ONLINE"


async def test_rates_are_decimals_as_text(site: Site) -> None:
    _, ana, pc = await both(site)
    session = (await ana.get(f"/sessions/{await site.reserved(ana, pc)}")).json()["session"]
    assert (Decimal(session["platformFeeRate"]), Decimal(session["penaltyRate"])) == (Decimal("0.1"), Decimal("0.3"))


async def test_a_cancelled_reservation_is_paid_back(site: Site) -> None:
    _, ana, pc = await both(site)
    session = await site.reserved(ana, pc)
    answer = await ana.post(f"/sessions/{session}/cancel")
    cancelled = answer.json()["session"]
    assert (answer.status_code, cancelled["status"], cancelled["endReason"]) == (200, "FAILED", "CANCELLED")
    assert cancelled["settlement"]["clientCredit"] == 2400
    assert await ana.balance() == 10_000


async def test_a_refund_comes_out_of_what_was_retained(site: Site) -> None:
    _, ana, pc = await both(site)
    session = await site.running(ana, pc)
    ended = (await ana.post(f"/sessions/{session}/end")).json()
    retained, admin = ended["settlement"]["retained"], await site.admin()
    answer = await admin.post(f"/sessions/{session}/refund", json={"amount": retained, "reason": "GOODWILL"})
    tx = answer.json()["tx"]
    assert (answer.status_code, tx["type"], tx["amount"], tx["sessionId"]) == (201, "CREDIT", retained, session)
    assert (tx["userId"], answer.json()["balance"]) == (str(ana.id), await ana.balance())
    answer = await admin.post(f"/sessions/{session}/refund", json={"amount": 1, "reason": "MORE"})
    assert problem(answer) == (409, "REFUND_TOO_LARGE")
    assert (await ana.get(f"/sessions/{session}")).json()["session"] == ended["session"]


async def test_a_live_session_has_nothing_to_refund(site: Site) -> None:
    _, ana, pc = await both(site)
    session = await site.running(ana, pc)
    answer = await (await site.admin()).post(f"/sessions/{session}/refund", json={"amount": 1, "reason": "X"})
    assert problem(answer) == (409, "INVALID_STATUS")


@pytest.mark.parametrize("step", ["start", "end", "cancel", "refund"])
async def test_an_unknown_session_is_404(site: Site, step: str) -> None:
    admin = await site.admin()
    body = {"amount": 1, "reason": "X"} if step == "refund" else {}
    assert problem(await admin.post(f"/sessions/{NOBODY}/{step}", json=body)) == (404, "SESSION_NOT_FOUND")
    assert problem(await admin.get(f"/sessions/{NOBODY}")) == (404, "SESSION_NOT_FOUND")


# What a reservation is refused for


async def refused(caller: Person, pc: str, **fields: Any) -> tuple[int, str]:
    return problem(await caller.post("/sessions", json={"pcId": pc, "minutesPurchased": 60, **fields}))


async def test_a_reservation_is_refused_with_the_contract_s_codes(site: Site) -> None:
    host, ana, pc = await both(site)
    bob, poor = await site.user(money=10_000), await site.user(money=2_399)
    offline = await site.pc(host, online=False)
    assert await refused(ana, offline) == (409, "PC_OFFLINE")
    assert await refused(poor, pc) == (402, "INSUFFICIENT_FUNDS")
    assert await refused(host, pc) == (403, "OWN_PC")
    assert await refused(ana, NOBODY) == (404, "PC_NOT_FOUND")
    assert await refused(ana, pc, clientUserId=str(bob.id)) == (403, "FORBIDDEN")
    session = await site.reserved(ana, pc)
    assert await refused(bob, pc) == (409, "PC_BUSY")
    assert await refused(ana, await site.pc(host)) == (409, "SESSION_EXISTS")
    await ana.post(f"/sessions/{session}/start")
    assert await refused(bob, pc) == (409, "PC_BUSY")
    assert await poor.balance() == 2_399


async def test_after_three_reservations_never_started_the_next_waits(site: Site) -> None:
    _, ana, pc = await both(site)
    for _ in range(3):
        await ana.post(f"/sessions/{await site.reserved(ana, pc)}/cancel")
    answer = await ana.post("/sessions", json={"pcId": pc, "minutesPurchased": 60})
    assert problem(answer) == (429, "RATE_LIMITED")
    assert 3500 < int(answer.headers["retry-after"]) <= 3601


@pytest.mark.parametrize("minutes", [0, -1, 241, 1.5, "60", True, None, 10**30])
async def test_minutes_are_an_integer_from_1_to_240(site: Site, minutes: object) -> None:
    _, ana, pc = await both(site)
    answer = await ana.post("/sessions", json={"pcId": pc, "minutesPurchased": minutes})
    assert (problem(answer), pointers(answer)) == ((422, "VALIDATION_FAILED"), ["/minutesPurchased"])


@pytest.mark.parametrize(
    ("price", "minutes", "total"), [(0, 240, 0), (1, 1, 1), (10_000_000, 240, 40_000_000), (90, 1, 2)]
)
async def test_the_price_is_an_integer_at_least_one_unless_free(
    site: Site, price: int, minutes: int, total: int
) -> None:
    _, ana, pc = await both(site, price=price, money=100_000_000)
    answer = await ana.post("/sessions", json={"pcId": pc, "minutesPurchased": minutes})
    assert answer.json()["session"]["priceTotal"] == total


# Steps that don't go


async def test_a_session_takes_each_step_once(site: Site) -> None:
    _, ana, pc = await both(site)
    session = await site.reserved(ana, pc)
    assert problem(await ana.post(f"/sessions/{session}/end")) == (409, "INVALID_STATUS")
    await ana.post(f"/sessions/{session}/start")
    for step in ("start", "cancel"):
        assert problem(await ana.post(f"/sessions/{session}/{step}")) == (409, "INVALID_STATUS")
    await ana.post(f"/sessions/{session}/end")
    balance = await ana.balance()
    for step in ("start", "cancel", "end"):
        assert problem(await ana.post(f"/sessions/{session}/{step}")) == (409, "INVALID_STATUS")
    assert await ana.balance() == balance


async def test_a_reservation_on_a_pc_that_went_off_can_not_be_started(site: Site) -> None:
    host, ana, pc = await both(site)
    session = await site.reserved(ana, pc)
    await host.post(f"/hosts/{host.host_id}/heartbeat", json={"status": "OFFLINE"})
    assert problem(await ana.post(f"/sessions/{session}/start")) == (409, "PC_OFFLINE")


# Whose fault it is said to be


@pytest.mark.parametrize(
    ("body", "status", "counts", "claimed"),
    [
        ({}, "ENDED", "NONE", None),
        ({"failureReason": None, "hostFault": None}, "ENDED", "NONE", None),
        ({"hostFault": False}, "ENDED", "NONE", None),
        ({"failureReason": "NONE"}, "ENDED", "NONE", None),
        ({"failureReason": "CLIENT"}, "FAILED", "CLIENT", None),
        ({"failureReason": "HOST"}, "ENDED", "NONE", "HOST"),
        ({"hostFault": True}, "ENDED", "NONE", "HOST"),
        ({"hostFault": True, "failureReason": "HOST"}, "ENDED", "NONE", "HOST"),
        ({"hostFault": False, "failureReason": "CLIENT"}, "FAILED", "CLIENT", None),
        ({"failureReason": "PLATFORM"}, "ENDED", "NONE", "PLATFORM"),
    ],
)
async def test_a_client_puts_the_fault_on_nobody_else(
    site: Site, body: Json, status: str, counts: str, claimed: str | None
) -> None:
    _, ana, pc = await both(site)
    answer = await ana.post(f"/sessions/{await site.running(ana, pc)}/end", json=body)
    ended = answer.json()["session"]
    assert (ended["status"], ended["failureReason"], ended["claimedFailureReason"]) == (status, counts, claimed)


@pytest.mark.parametrize("reason", ["CLIENT", "PLATFORM", "NONE"])
async def test_host_fault_goes_with_no_other_reason(site: Site, reason: str) -> None:
    _, ana, pc = await both(site)
    session = await site.running(ana, pc)
    answer = await ana.post(f"/sessions/{session}/end", json={"hostFault": True, "failureReason": reason})
    assert (problem(answer), pointers(answer)) == ((422, "VALIDATION_FAILED"), ["/hostFault"])
    assert (await ana.get(f"/sessions/{session}")).json()["session"]["status"] == "ACTIVE"


async def test_a_host_who_ends_early_is_at_fault(site: Site) -> None:
    host, ana, pc = await both(site)
    answer = await host.post(f"/sessions/{await site.running(ana, pc)}/end", json={"failureReason": "CLIENT"})
    ended = answer.json()["session"]
    assert (ended["status"], ended["endReason"], ended["failureReason"]) == ("FAILED", "ENDED_BY_HOST", "HOST")
    assert ended["claimedFailureReason"] == "CLIENT"
    profile = (await ana.get(f"/hosts/{host.host_id}")).json()["hostProfile"]
    assert (profile["reliabilityScore"], profile["sessionsDropped"], profile["lastDropAt"]) == (98, 1, ended["endedAt"])


async def test_an_admin_s_word_counts(site: Site) -> None:
    _, ana, pc = await both(site)
    admin = await site.admin()
    answer = await admin.post(f"/sessions/{await site.running(ana, pc)}/end", json={"failureReason": "PLATFORM"})
    ended = answer.json()["session"]
    assert (ended["status"], ended["endReason"], ended["failureReason"]) == ("FAILED", "ENDED_BY_ADMIN", "PLATFORM")


# Lists


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["active", "pending", "ended"]),
        ({"status": "PENDING"}, ["pending"]),
        ({"status": "ACTIVE"}, ["active"]),
        ({"status": "ENDED"}, ["ended"]),
        ({"status": "FAILED"}, []),
        ({"pcId": "of the active"}, ["active", "ended"]),
        ({"pcId": "of the active", "status": "ENDED"}, ["ended"]),
        ({"pcId": NOBODY}, []),
    ],
)
async def test_sessions_are_filtered(site: Site, query: Mapping[str, str], found: list[str]) -> None:
    host, ana, pc = await both(site)
    bob = await site.user(money=10_000)
    ended = await site.running(bob, pc)
    await bob.post(f"/sessions/{ended}/end")
    pending = await site.reserved(bob, await site.pc(host))
    names = {ended: "ended", pending: "pending", await site.running(ana, pc): "active"}
    params = {name: pc if value == "of the active" else value for name, value in query.items()}
    for caller in (host, await site.admin()):
        listed = (await caller.get("/sessions", params=params)).json()["items"]
        assert [names[session["id"]] for session in listed] == found
    mine = (await ana.get("/sessions", params=params)).json()["items"]
    assert [names[session["id"]] for session in mine] == [name for name in found if name == "active"]
