"""A client: looks for a PC, rents it, uses it, leaves; may cancel, ask twice, or put the blame on the host."""

from collections.abc import Callable
from typing import Any

from attrs import define

from opendesk.simulators.api_client import Api, Reply
from opendesk.simulators.people import Account, Person, log_in, register
from opendesk.simulators.views import PcView, SessionView


@define(eq=False)
class ClientSimulator:
    """Every call that moves money or changes a session carries a fresh Idempotency-Key, as a careful app's would."""

    account: Account
    person: Person
    make_key: Callable[[], str]

    @classmethod
    async def join(cls, api: Api, person: Person, make_key: Callable[[], str]) -> "ClientSimulator":
        return cls(await register(api, person, "CLIENT"), person, make_key)

    @property
    def api(self) -> Api:
        return self.account.api

    @property
    def name(self) -> str:
        return self.person.name

    @property
    def user_id(self) -> str:
        return self.account.user_id

    async def log_in(self) -> None:
        """Come with a new token, as on another day."""
        self.account = await log_in(self.api, self.person)

    async def pcs(self, status: str | None = None) -> list[PcView]:
        """Those on offer, by name."""
        found = [PcView.of(pc) for pc in await self.api.list_all("/pcs", status=status)]
        return sorted(found, key=lambda pc: pc.name)

    async def balance(self) -> int:
        balance: int = (await self.api.get(f"/wallets/{self.user_id}"))["balance"]
        return balance

    async def reserve(self, pc_id: str, minutes: int) -> SessionView:
        """Raise ApiError, with PC_BUSY, PC_OFFLINE, SESSION_EXISTS or INSUFFICIENT_FUNDS among others."""
        reply = await self.reserve_with_key(pc_id, minutes, self.make_key())
        return SessionView.of(reply.body["session"])

    async def reserve_with_key(self, pc_id: str, minutes: int, key: str) -> Reply:
        """The same, by a key of the caller's: asked twice, it takes effect once."""
        return await self.api.post("/sessions", {"pcId": pc_id, "minutesPurchased": minutes}, key=key)

    async def start(self, session_id: str) -> SessionView:
        return await self._step(session_id, "start")

    async def cancel(self, session_id: str) -> SessionView:
        return await self._step(session_id, "cancel")

    async def end(self, session_id: str, claim: str | None = None) -> SessionView:
        """`claim` is whose fault the client says it is: HOST, CLIENT, PLATFORM or NONE."""
        return await self._step(session_id, "end", None if claim is None else {"failureReason": claim})

    async def session(self, session_id: str) -> SessionView:
        return SessionView.of((await self.api.get(f"/sessions/{session_id}"))["session"])

    async def _step(self, session_id: str, step: str, body: dict[str, Any] | None = None) -> SessionView:
        reply = await self.api.post(f"/sessions/{session_id}/{step}", body, key=self.make_key())
        return SessionView.of(reply.body["session"])
