"""What the handlers stand on, and what they share."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import define, field, frozen

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import wallets
from opendesk.rental.heartbeats import Heartbeats
from opendesk.rental.shapes import Tx
from opendesk.web.auth import Passwords, Tokens, Turns


@frozen
class Terms:
    """What is in force for new sessions."""

    currency: str
    fee_rate: Decimal
    penalty_rate: Decimal
    heartbeat_timeout: timedelta


@frozen
class TxAnswer:
    tx: Tx
    balance: int


@define
class Rental:
    """Everything that a handler may need."""

    pool: Pool
    tokens: Tokens
    passwords: Passwords
    heartbeats: Heartbeats
    terms: Terms
    metrics: Metrics
    clock: Callable[[], datetime]
    listening_since: Callable[[datetime], datetime]
    # A try to log in counts as a failure until it worked: those of one key go one after another, so that good ones don't count
    # against each other.
    turns: Turns = field(factory=Turns)

    async def with_balance(self, conn: TrioConnection, tx: Tx) -> TxAnswer:
        wallet = await wallets.by_user(conn, tx.user_id, currency=self.terms.currency)
        return TxAnswer(tx, wallet.balance)
