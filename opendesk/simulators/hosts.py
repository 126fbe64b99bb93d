"""A host: offers PCs, beats, falls silent, comes back, ends a session before its time."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
import trio

from opendesk.simulators.api_client import Api, ApiError, ApiUnreachable
from opendesk.simulators.people import Account, Person, register
from opendesk.simulators.views import PcView, SessionView

# The daemon writes beats twice a second, so more of them tell it nothing new.
BEAT_EVERY_S: Final = 0.5


@define(eq=False)
class HostSimulator:
    """`run` beats for all of the host's PCs, until cancelled; one that fell silent waits there to come back."""

    account: Account
    id: str
    name: str
    beat_every_s: float = BEAT_EVERY_S
    pcs: list[PcView] = field(factory=list)
    beats: int = 0
    missed: int = 0  # beats that the daemon refused or didn't answer
    _up: trio.Event = field(factory=trio.Event)
    _turn: trio.Lock = field(factory=trio.Lock)

    @classmethod
    async def join(cls, api: Api, person: Person, *, beat_every_s: float = BEAT_EVERY_S) -> "HostSimulator":
        """Register as a host. It beats from `come_back` on."""
        account = await register(api, person, "HOST")
        profile = (await account.api.post("/hosts")).body["hostProfile"]
        return cls(account, profile["id"], person.name, beat_every_s)

    @property
    def api(self) -> Api:
        return self.account.api

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    async def offer(self, pc: Mapping[str, Any]) -> PcView:
        """Offer a PC, described as the API takes it, and reached through the relay."""
        offered = PcView.of((await self.api.post("/pcs", pc)).body["pc"])
        # There is no direct way to a simulated PC.
        await self.api.post(f"/pcs/{offered.id}/network", {"networkProvider": "RELAY"})
        self.pcs.append(offered)
        return offered

    async def run(self) -> None:
        while True:
            await self._up.wait()
            async with self._turn:
                if self.is_up:
                    await self._beat_or_miss()
            await trio.sleep(self.beat_every_s)

    async def beat(self) -> list[dict[str, Any]]:
        """One beat; the live sessions on this host's PCs. Raise ApiError, ApiUnreachable."""
        answer = (await self.api.post(f"/hosts/{self.id}/heartbeat")).body
        self.beats += 1
        sessions: list[dict[str, Any]] = answer["sessions"]
        return sessions

    async def come_back(self) -> None:
        """Be there again, from this beat on."""
        async with self._turn:
            await self.beat()
            self._up.set()

    async def fall_silent(self) -> None:
        """Beat a last time, and no more: that beat is the last proof of life."""
        async with self._turn:
            await self.beat()
            self._up = trio.Event()

    async def end(self, session_id: str, *, key: str | None = None) -> SessionView:
        """End somebody's session before its time. It beats first: whoever can end a session is there."""
        async with self._turn:
            await self.beat()
        return SessionView.of((await self.api.post(f"/sessions/{session_id}/end", key=key)).body["session"])

    async def _beat_or_miss(self) -> None:
        try:
            await self.beat()
        except (ApiError, ApiUnreachable):
            self.missed += 1
