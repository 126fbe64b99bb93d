"""Wallets, and what admins do with them."""

from uuid import UUID

from attrs import frozen

from opendesk.errors import Forbidden
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import errors, wallets
from opendesk.rental.api.context import Rental, TxAnswer
from opendesk.rental.shapes import Amount, Text, Tx, TxType, Wallet
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page


@frozen
class MoveMoney:
    type: TxType
    amount: Amount
    reason: Text
    session_id: UUID | None = None


@frozen
class Wallets:
    """The handlers."""

    _on: Rental

    async def get_wallet(self, call: Call, conn: TrioConnection) -> Answer:
        owner = _own(call)
        return Answer(await wallets.by_user(conn, owner, currency=self._on.terms.currency))

    async def transactions(self, call: Call, conn: TrioConnection) -> Answer:
        owner, query = _own(call), call.query
        await wallets.by_user(conn, owner, currency=self._on.terms.currency)
        return Answer(page(await wallets.transactions(conn, owner, before=query.before, wanted=query.wanted), query))

    async def move_money(self, call: Call, conn: TrioConnection) -> Answer:
        """A top-up, or with `DEBIT` a payout (reason `PAYOUT`)."""
        owner, asked = call.ids["userId"], call.body
        async with conn.transaction():
            tx = await wallets.move(
                conn, owner, asked.type, asked.amount, asked.reason, session_id=asked.session_id, made_by=call.caller.id
            )
            return Answer(await self._on.with_balance(conn, tx), 201)


def _own(call: Call) -> UUID:
    owner = call.ids["userId"]
    if owner != call.caller.id and not call.caller.is_admin:
        raise Forbidden
    return owner


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    api = Wallets(on)
    e, admin = Endpoint, Access.ADMIN
    # fmt: off
    return (
        e("GET", "/wallets/{userId}", "A wallet", {200: Wallet}, unit=api.get_wallet, tag="wallets", errors=(Forbidden, errors.UserNotFound)),
        e("GET", "/wallets/{userId}/transactions", "What came and went", {200: Page[Tx]}, unit=api.transactions, query=PageQuery,
          tag="wallets", errors=(Forbidden, errors.UserNotFound)),
        e("POST", "/wallets/{userId}/tx", "Credit or debit a wallet", {201: TxAnswer}, unit=api.move_money, access=admin, body=MoveMoney,
          guarded=True, tag="wallets", errors=(errors.UserNotFound, errors.SessionNotFound, errors.InsufficientFunds)),
    )
    # fmt: on
