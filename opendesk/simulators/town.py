"""Where a day takes place: who is there, what time it is, and what is told of it."""

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import define
import trio

from opendesk.simulators.day_plan import PAYDAY_AT
from opendesk.simulators.fast_clock import FastClock
from opendesk.simulators.happenings import Happening, Kind, money
from opendesk.simulators.hosts import HostSimulator
from opendesk.simulators.operators import OperatorSimulator
from opendesk.simulators.streams import Streams
from opendesk.simulators.views import SessionView

# How long a host that died stays away, in minutes.
AWAY_MIN: Final = 120

# A host takes whole reais out of its wallet.
_PAYOUT_STEP: Final = 100


@define(eq=False)
class Town:
    """`sink` hears of all that happens, in order."""

    operator: OperatorSimulator
    hosts: dict[str, HostSimulator]  # by id
    streams: Streams
    clock: FastClock
    actors: trio.Nursery
    _sink: Callable[[Happening], None]

    def host(self, host_id: str) -> HostSimulator:
        return self.hosts[host_id]

    def pc_name(self, session: SessionView) -> str:
        return next(pc.name for pc in self.host(session.host_id).pcs if pc.id == session.pc_id)

    def tell(
        self,
        kind: Kind,
        who: str,
        text: str,
        *,
        pc: str | None = None,
        amount: int | None = None,
        code: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self._sink(Happening(self.clock.minute, kind, f"{who} {text}", who, pc, amount, code, session_id))

    def silent_pcs(self) -> list[str]:
        return [pc.id for host in self.hosts.values() if not host.is_up for pc in host.pcs]

    async def strike(self, host: HostSimulator) -> None:
        """The host's power goes; it is back two hours later."""
        # Its streams first: then the last beat is the last proof of life, whichever of the two the daemon goes by.
        await self.streams.lose_host(host.id)
        await host.fall_silent()
        self.tell(Kind.HOST_SILENT, host.name, "goes dark: no heartbeat from now on")

        async def come_back() -> None:
            await host.come_back()
            self.tell(Kind.HOST_BACK, host.name, "has power again: its PCs are online with its first heartbeat")

        self.clock.play(self.actors, come_back, at=self.clock.minute + AWAY_MIN)

    async def top_up(self, user_id: str, name: str, amount: int) -> None:
        await self.operator.top_up(user_id, amount)
        self.tell(Kind.TOPPED_UP, name, f"tops up {money(amount)}", amount=amount)

    def pay_hosts_out(self) -> None:
        """Each host takes its earnings home late in the evening."""
        for host in self.hosts.values():
            self.clock.play(self.actors, partial(self._pay_out, host), at=PAYDAY_AT)

    async def _pay_out(self, host: HostSimulator) -> None:
        balance: int = (await host.api.get(f"/wallets/{host.account.user_id}"))["balance"]
        amount = balance // _PAYOUT_STEP * _PAYOUT_STEP
        if amount:
            await self.operator.pay_out(host.account.user_id, amount)
            self.tell(Kind.PAID_OUT, host.name, f"takes {money(amount)} home", amount=amount)
