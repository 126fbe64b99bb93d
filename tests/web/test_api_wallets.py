"""Wallets over HTTP: amounts are integers, balances add up, admins move."""

import json

import pytest

from tests.web.site import Json, Site, problem

NOBODY = "018f9a2e-0000-7000-8000-000000000000"
CREDIT: Json = {"type": "CREDIT", "amount": 500, "reason": "TOP_UP"}


async def test_a_credit_is_answered_with_the_movement_and_the_balance(site: Site) -> None:
    admin, ana = await site.admin(), await site.user(money=100)
    answer = await admin.post(f"/wallets/{ana.id}/tx", json=CREDIT)
    assert answer.status_code == 201
    tx = answer.json()["tx"]
    made = {"id": tx["id"], "createdAt": tx["createdAt"]}
    assert answer.json() == {"tx": {**CREDIT, **made, "userId": str(ana.id), "sessionId": None}, "balance": 600}
    assert (await ana.get(f"/wallets/{ana.id}")).json() == {"userId": str(ana.id), "balance": 600, "currency": "BRL"}


async def test_a_host_s_withdrawal_is_a_debit(site: Site) -> None:
    admin, host = await site.admin(), await site.host()
    await admin.post(f"/wallets/{host.id}/tx", json=CREDIT)
    payout = {"type": "DEBIT", "amount": 500, "reason": "PAYOUT"}
    answer = await admin.post(f"/wallets/{host.id}/tx", json=payout)
    assert (answer.status_code, answer.json()["balance"]) == (201, 0)
    assert payout.items() <= answer.json()["tx"].items()


async def test_a_debit_over_the_balance_is_402_and_moves_nothing(site: Site) -> None:
    admin, ana = await site.admin(), await site.user(money=100)
    answer = await admin.post(f"/wallets/{ana.id}/tx", json={**CREDIT, "type": "DEBIT", "amount": 101})
    assert problem(answer) == (402, "INSUFFICIENT_FUNDS")
    assert await ana.balance() == 100


async def test_a_movement_may_name_its_session(site: Site) -> None:
    admin, host, ana = await site.admin(), await site.host(), await site.user(money=10_000)
    session = await site.reserved(ana, await site.pc(host))
    answer = await admin.post(f"/wallets/{ana.id}/tx", json={**CREDIT, "sessionId": session})
    assert answer.json()["tx"]["sessionId"] == session
    answer = await admin.post(f"/wallets/{ana.id}/tx", json={**CREDIT, "sessionId": NOBODY})
    assert problem(answer) == (404, "SESSION_NOT_FOUND")


async def test_the_wallet_of_nobody_is_404(site: Site) -> None:
    admin = await site.admin()
    for answer in (
        await admin.get(f"/wallets/{NOBODY}"),
        await admin.get(f"/wallets/{NOBODY}/transactions"),
        await admin.post(f"/wallets/{NOBODY}/tx", json=CREDIT),
    ):
        assert problem(answer) == (404, "USER_NOT_FOUND")


async def test_transactions_tell_all_that_came_and_went(site: Site) -> None:
    host, ana = await site.host(), await site.user(money=5_000)
    session = await site.running(ana, await site.pc(host))
    await ana.post(f"/sessions/{session}/end")
    listed = (await ana.get(f"/wallets/{ana.id}/transactions")).json()["items"]
    told = [(tx["type"], tx["amount"], tx["reason"], tx["sessionId"]) for tx in listed]
    assert told == [("DEBIT", 2400, "SESSION_HOLD", session), ("CREDIT", 5000, "TOP_UP", None)]
    signs = {"CREDIT": 1, "DEBIT": -1}
    assert sum(signs[tx["type"]] * tx["amount"] for tx in listed) == await ana.balance() == 2600
    (payout,) = (await host.get(f"/wallets/{host.id}/transactions")).json()["items"]
    assert (payout["type"], payout["amount"], payout["reason"]) == ("CREDIT", await host.balance(), "SESSION_PAYOUT")


@pytest.mark.parametrize(
    "amount", ["1.5", "0.0", "1e13", '"5"', "true", "null", "0", "-1", "1000000000001", "[1]", "1E400"]
)
async def test_an_amount_is_a_positive_integer_and_nothing_else(site: Site, amount: str) -> None:
    admin, ana = await site.admin(), await site.user()
    body = json.dumps({**CREDIT, "amount": 1}).replace('"amount": 1', f'"amount": {amount}')
    answer = await admin.post(f"/wallets/{ana.id}/tx", content=body)
    assert problem(answer) in {(422, "VALIDATION_FAILED"), (400, "INVALID_JSON")}
    assert await ana.balance() == 0


@pytest.mark.parametrize("amount", ["100", "100.0", "1e2", "1000e-1"])
async def test_a_number_is_what_it_is_worth_however_it_is_written(site: Site, amount: str) -> None:
    """JSON doesn't tell 100 from 100.0, and some languages write the one for the other."""
    admin, ana = await site.admin(), await site.user()
    body = json.dumps({**CREDIT, "amount": 1}).replace('"amount": 1', f'"amount": {amount}')
    answer = await admin.post(f"/wallets/{ana.id}/tx", content=body)
    assert '"amount":100,' in answer.text
    assert await ana.balance() == 100


async def test_large_amounts_stay_exact(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    for balance in (1_000_000_000_000, 1_999_999_999_999):
        amount = balance if balance == 1_000_000_000_000 else balance - 1_000_000_000_000
        answer = await admin.post(f"/wallets/{ana.id}/tx", json={**CREDIT, "amount": amount})
        assert f'"balance":{balance}}}' in answer.text
