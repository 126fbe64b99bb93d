"""An operator: an admin who tops up wallets, pays hosts out, and gives back of what was retained."""

from collections.abc import Callable

from attrs import define

from opendesk.simulators.api_client import Api
from opendesk.simulators.people import Account, Person, log_in
from opendesk.simulators.views import SessionView

# The reasons that this operator writes beside movements: the books are read by them.
TOP_UP = "TOP_UP"
PAYOUT = "PAYOUT"
GOODWILL = "GOODWILL"


@define(eq=False)
class OperatorSimulator:
    """Amounts are in minor units. Each call carries a fresh Idempotency-Key."""

    account: Account
    make_key: Callable[[], str]

    @classmethod
    async def log_in(cls, api: Api, person: Person, make_key: Callable[[], str]) -> "OperatorSimulator":
        """As an admin that the command line made."""
        return cls(await log_in(api, person), make_key)

    @property
    def api(self) -> Api:
        return self.account.api

    async def top_up(self, user_id: str, amount: int) -> int:
        """The balance after it."""
        return await self._move(user_id, "CREDIT", amount, TOP_UP)

    async def pay_out(self, user_id: str, amount: int) -> int:
        """The balance after it. Raise ApiError with INSUFFICIENT_FUNDS."""
        return await self._move(user_id, "DEBIT", amount, PAYOUT)

    async def refund(self, session_id: str, amount: int) -> int:
        """The client's balance after it. Raise ApiError with REFUND_TOO_LARGE."""
        body = {"amount": amount, "reason": GOODWILL}
        balance: int = (await self.api.post(f"/sessions/{session_id}/refund", body, key=self.make_key())).body[
            "balance"
        ]
        return balance

    async def live_sessions(self) -> list[SessionView]:
        found = [await self.api.list_all("/sessions", status=status) for status in ("ACTIVE", "PENDING")]
        return [SessionView.of(session) for some in found for session in some]

    async def _move(self, user_id: str, kind: str, amount: int, reason: str) -> int:
        body = {"type": kind, "amount": amount, "reason": reason}
        balance: int = (await self.api.post(f"/wallets/{user_id}/tx", body, key=self.make_key())).body["balance"]
        return balance
