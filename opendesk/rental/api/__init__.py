"""The rental API: what each call takes and answers stands with its noun."""

from opendesk.rental.api import hosts, pcs, sessions, users, wallets
from opendesk.rental.api.context import Rental, Terms
from opendesk.web.endpoint import Endpoint

__all__ = ["Rental", "Terms", "endpoints"]


def endpoints(on: Rental) -> tuple[Endpoint, ...]:
    """Every call of the rental API."""
    return tuple(call for noun in (users, hosts, pcs, wallets, sessions) for call in noun.endpoints(on))
