"""What is told of a session that came to its end. Pure."""

from attrs import frozen

from opendesk.simulators.happenings import Kind, money
from opendesk.simulators.views import SessionView, SettlementView


@frozen
class Told:
    """An end in words; `amount` is the one that it is about, in minor units."""

    kind: Kind
    who: str
    text: str
    amount: int


class NotOver(Exception):
    """A session that should have come to its end is live."""


def told_end(session: SessionView, *, client: str, host: str, pc: str) -> Told:
    """Raise NotOver, or ValueError for an end reason that no story has."""
    paid = session.settlement
    if paid is None:
        raise NotOver(f"session {session.id} of {client} on {pc} is {session.status}")
    used = f"{session.minutes_used} of {session.minutes_purchased} min"
    match session.end_reason:
        case "COMPLETED":
            return Told(
                Kind.COMPLETED,
                client,
                f"finishes {session.minutes_purchased} min on {pc}: {_shared(paid, host)}",
                paid.host_payout,
            )
        case "ENDED_BY_CLIENT" if session.claimed == "HOST":
            said = f"leaves {pc} after {used} and blames {host}, which beat all along: no credit"
            return Told(Kind.CLAIM_REJECTED, client, said, paid.retained)
        case "ENDED_BY_CLIENT":
            said = f"leaves {pc} after {used}: {_shared(paid, host)}, retained {money(paid.retained)}"
            return Told(Kind.LEFT, client, said, paid.retained)
        case "ENDED_BY_HOST":
            said = f"ends {client}'s session after {used}: gets {_penalized(paid, client)}"
            return Told(Kind.HOST_ENDED, host, said, paid.client_credit)
        case "HOST_TIMEOUT" if session.minutes_used or paid.platform_fee:
            said = f"timed out {used} into {client}'s session: gets {_penalized(paid, client)}"
            return Told(Kind.HOST_TIMED_OUT, host, said, paid.client_credit)
        case "HOST_TIMEOUT":
            said = f"timed out with {client}'s reservation: all of {money(paid.client_credit)} is back"
            return Told(Kind.HOST_TIMED_OUT, host, said, paid.client_credit)
        case "CANCELLED":
            return Told(
                Kind.CANCELLED, client, f"cancels {pc}: all of {money(paid.client_credit)} is back", paid.client_credit
            )
        case "NEVER_STARTED":
            said = f"forgets a reservation of {pc}: given up after 15 min, all of {money(paid.client_credit)} is back"
            return Told(Kind.NEVER_STARTED, client, said, paid.client_credit)
        case reason:
            raise ValueError(f"nobody in a story ends a session with {reason}")


def _shared(paid: SettlementView, host: str) -> str:
    return f"{host} earns {money(paid.host_payout)}, fee {money(paid.platform_fee)}"


def _penalized(paid: SettlementView, client: str) -> str:
    return f"{money(paid.host_payout)} (penalty {money(paid.penalty)}), {client} gets {money(paid.client_credit)} back"
