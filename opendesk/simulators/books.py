"""Whether a day's money adds up: told twice, by what everybody saw over HTTP and by what the ledger's entries say, and compared. Pure.

All amounts are in minor units.
"""

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from opendesk.simulators.operators import GOODWILL, PAYOUT, TOP_UP
from opendesk.simulators.views import SessionView, SettlementView

# The daemon's words beside a client's and a host's movements (the seed of every line below).
_HELD: Final = "SESSION_HOLD"
_RETURNED: Final = ("SESSION_CREDIT", "SESSION_REFUND")
_EARNED: Final = "SESSION_PAYOUT"


@frozen
class Movement:
    """A wallet's: `amount` is signed as the wallet sees it."""

    amount: int
    reason: str


@frozen
class ClientLine:
    """What a client put in, paid, got back, and has."""

    name: str
    sessions: int
    topped_up: int
    paid: int
    returned: int  # by settlements and cancelled reservations
    refunded: int  # by the operator, out of what was retained
    wallet: int


@frozen
class HostLine:
    """What a host earned, lost by its own fault, took out, and has. `minutes` are those that clients used."""

    name: str
    pcs: int
    sessions: int
    minutes: int
    earned: int
    penalties: int  # what its faults cost it; not in `earned`
    paid_out: int
    wallet: int
    score: int
    badge: str


@frozen
class Totals:
    """Where the money is, by the ledger's entries. `entries` is the sum of them all."""

    topped_up: int
    paid_out: int
    client_wallets: int
    host_wallets: int
    escrow: int
    fees: int
    retained: int
    entries: int

    @property
    def held(self) -> int:
        return self.client_wallets + self.host_wallets + self.escrow + self.fees + self.retained


@frozen
class Books:
    clients: tuple[ClientLine, ...]
    hosts: tuple[HostLine, ...]
    totals: Totals


@frozen
class Check:
    """A sum that must come out. `left` and `right` are what was compared."""

    states: str
    left: int
    right: int

    @property
    def ok(self) -> bool:
        return self.left == self.right


def client_line(name: str, *, wallet: int, movements: Sequence[Movement], sessions: int) -> ClientLine:
    return ClientLine(
        name=name,
        sessions=sessions,
        topped_up=_sum(movements, TOP_UP),
        paid=-_sum(movements, _HELD),
        returned=_sum(movements, *_RETURNED),
        refunded=_sum(movements, GOODWILL),
        wallet=wallet,
    )


def host_line(
    name: str,
    *,
    wallet: int,
    movements: Sequence[Movement],
    sessions: Sequence[SessionView],
    pcs: int,
    score: int,
    badge: str,
) -> HostLine:
    ran = [session for session in sessions if session.minutes_used]
    return HostLine(
        name=name,
        pcs=pcs,
        sessions=len(ran),
        minutes=sum(session.minutes_used for session in ran),
        earned=_sum(movements, _EARNED),
        penalties=sum(session.settlement.penalty for session in ran if session.settlement),
        paid_out=-_sum(movements, PAYOUT),
        wallet=wallet,
        score=score,
        badge=badge,
    )


def _sum(movements: Sequence[Movement], *reasons: str) -> int:
    return sum(movement.amount for movement in movements if movement.reason in reasons)


def checks(books: Books, sessions: Sequence[SessionView]) -> tuple[Check, ...]:
    """Every sum that must come out at the end of a day, when no session is live."""
    clients, hosts, totals = books.clients, books.hosts, books.totals
    settled = [session.settlement for session in sessions if session.settlement]
    refunded = sum(c.refunded for c in clients)
    return (
        *(_wallet_of_client(c) for c in clients),
        *(_wallet_of_host(h) for h in hosts),
        Check("every session is over and settled", len(settled), len(sessions)),
        Check("clients paid the price of their sessions", sum(c.paid for c in clients), sum(s.price for s in sessions)),
        Check("each price is payout + fee + credit + retained", sum(map(_parts, settled)), sum(s.total for s in settled)),
        Check("hosts got what settlements say", sum(h.earned for h in hosts), sum(s.host_payout for s in settled)),
        Check("clients got back what settlements say", sum(c.returned for c in clients), sum(s.client_credit for s in settled)),
        Check("the platform has its fees", totals.fees, sum(s.platform_fee for s in settled)),
        Check("retained is what settlements say, less refunds", totals.retained, sum(s.retained for s in settled) - refunded),
        Check("no money is left in escrow", totals.escrow, 0),
        Check("top-ups came in as the clients say", totals.topped_up, sum(c.topped_up for c in clients)),
        Check("payouts went out as the hosts say", totals.paid_out, sum(h.paid_out for h in hosts)),
        Check("clients' wallets in the ledger are those the API shows", totals.client_wallets, sum(c.wallet for c in clients)),
        Check("hosts' wallets in the ledger are those the API shows", totals.host_wallets, sum(h.wallet for h in hosts)),
        Check("what came in less what went out is what is there", totals.topped_up - totals.paid_out, totals.held),
        Check("all entries sum to zero", totals.entries, 0),
    )  # fmt: skip


def _wallet_of_client(line: ClientLine) -> Check:
    return Check(
        f"{line.name}'s wallet is what came in less what was paid",
        line.wallet,
        line.topped_up - line.paid + line.returned + line.refunded,
    )


def _wallet_of_host(line: HostLine) -> Check:
    return Check(f"{line.name}'s wallet is what was earned less payouts", line.wallet, line.earned - line.paid_out)


def _parts(settlement: SettlementView) -> int:
    return settlement.host_payout + settlement.platform_fee + settlement.client_credit + settlement.retained
