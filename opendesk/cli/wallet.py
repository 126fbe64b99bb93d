"""`opendesk wallet`: money in and out, from the command line."""

import json

import click

from opendesk.cli.common import TEXT, checked, load_settings, plain_failures, say, with_connection
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import users, wallets
from opendesk.rental.api.wallets import MoveMoney
from opendesk.rental.errors import UserNotFound
from opendesk.rental.shapes import Tx, TxType, Wallet
from opendesk.web.wire import to_wire


@click.group()
def wallet() -> None:
    """Credit and debit wallets. Amounts are in minor units: 2000 is 20.00."""


def _movement(name: str, kind: TxType, default_reason: str, help_text: str) -> None:
    @wallet.command(name, help=help_text)
    @click.argument("email", type=TEXT)
    @click.argument("amount", type=int)
    @click.option("--reason", type=TEXT, default=default_reason, show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="Print the movement and the balance as JSON.")
    @click.pass_context
    def move(context: click.Context, email: str, amount: int, *, reason: str, as_json: bool) -> None:
        settings = load_settings(context)
        wanted = checked(MoveMoney, type=kind, amount=amount, reason=reason)

        async def work(conn: TrioConnection) -> tuple[Tx, Wallet]:
            return await _move(conn, email, wanted, currency=settings.currency)

        with plain_failures(wallets.CurrencyDiffers):
            tx, after = with_connection(settings, work)
        if as_json:
            click.echo(json.dumps(to_wire({"tx": tx, "balance": after.balance})))
        else:
            say(f"{email}: {kind.lower()} {tx.amount}, balance {after.balance} {after.currency} ({tx.id})")


async def _move(conn: TrioConnection, email: str, wanted: MoveMoney, *, currency: str) -> tuple[Tx, Wallet]:
    user_id = await users.id_by_email(conn, email)
    if user_id is None:
        raise UserNotFound(f"there is no user {email}")
    await wallets.keep_currency(conn, currency)
    async with conn.transaction():
        tx = await wallets.move(conn, user_id, wanted.type, wanted.amount, wanted.reason)
        return tx, await wallets.by_user(conn, user_id, currency=currency)


_movement("credit", TxType.CREDIT, "TOP_UP", "Put AMOUNT into the wallet of EMAIL.")
_movement("debit", TxType.DEBIT, "PAYOUT", "Take AMOUNT out of the wallet of EMAIL.")
