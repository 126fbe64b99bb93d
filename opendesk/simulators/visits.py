"""How a client's visit goes: the story of the plan, played with real calls, and what the API made of it."""

from collections.abc import Awaitable, Mapping
from random import Random
from typing import Final

from attrs import define

from opendesk.simulators.api_client import ApiError, PromiseBroken
from opendesk.simulators.clients import ClientSimulator
from opendesk.simulators.day_plan import LAST_ENTRY_AT, ClientPlan, Story, Visit
from opendesk.simulators.endings import told_end
from opendesk.simulators.happenings import Kind, money
from opendesk.simulators.town import Town
from opendesk.simulators.views import PcView, SessionView

# When every PC is taken, or none is yet, a client looks again after so many minutes, until LAST_ENTRY_AT.
LOOK_AGAIN_MIN: Final = 10

# Who was refused tries another PC, or the same with more money, after so many.
TRY_ANOTHER_MIN: Final = 1

# Who is interrupted by somebody else's story plays the own one again, so many times.
TRIES: Final = 3

# A client's app looks as often whether its host is still there.
APP_LOOKS_EVERY_MIN: Final = 5

# What a client who couldn't pay puts in: more than any session costs.
ANOTHER_TOP_UP: Final = 4000

# How long a reservation is thought over.
THINKS_MIN: Final = 5

# After this the daemon has given up a reservation that nobody started (SESSION_PENDING_TIMEOUT_MS).
FORGOTTEN_MIN: Final = 16

# What must be told of a story that came about. Of the others any end will do.
_COMES_TO: Final[Mapping[Story, Kind]] = {
    Story.CANCELS: Kind.CANCELLED,
    Story.NEVER_STARTS: Kind.NEVER_STARTED,
    Story.BLAMES_THE_HOST: Kind.CLAIM_REJECTED,
    Story.HOST_DIES: Kind.HOST_TIMED_OUT,
    Story.HOST_ENDS: Kind.HOST_ENDED,
    Story.LEAVES: Kind.LEFT,
}

# What a client may hear as it goes. Anything else is a fault, and ends the day.
_REFUSALS: Final[Mapping[str, str]] = {
    "INSUFFICIENT_FUNDS": "can't pay for {minutes} min on {pc}",
    "PC_BUSY": "wants {pc}, which is taken",
    "PC_OFFLINE": "wants {pc}, which is off",
}


@define(eq=False)
class Visitor:
    """A client with a mind of its own: `lot` decides what the plan leaves open."""

    town: Town
    client: ClientSimulator
    plan: ClientPlan
    lot: Random

    async def day(self) -> None:
        """An actor of the clock."""
        await self.client.log_in()
        for visit in self.plan.visits:
            await self.town.clock.until(visit.at)
            await self._visit(visit)

    async def _visit(self, visit: Visit) -> None:
        for _ in range(TRIES):
            session = await self._rent(visit)
            if session is None:
                return
            told = await self._play(session, visit)
            if told is _COMES_TO.get(visit.story, told):
                return

    async def _play(self, session: SessionView, visit: Visit) -> Kind:
        match visit.story:
            case Story.CANCELS:
                await self._wait(THINKS_MIN)
                return await self._end(await self._still(session, self.client.cancel(session.id)))
            case Story.NEVER_STARTS:
                await self._wait(FORGOTTEN_MIN)
                return await self._end(await self.client.session(session.id))
            case _:
                return await self._use(session, visit)

    # ---- getting one

    async def _rent(self, visit: Visit) -> SessionView | None:
        if visit.story is Story.WANTS_A_BUSY_ONE and (session := await self._reserve_busy(visit)):
            return session
        while self.town.clock.minute <= LAST_ENTRY_AT:
            online = await self.client.pcs("ONLINE")
            if not online:
                self._tell(Kind.ALL_TAKEN, "finds every PC taken, and looks again later")
                await self._wait(LOOK_AGAIN_MIN)
            elif session := await self._reserve(self.lot.choice(online), visit):
                return session
            else:
                await self._wait(TRY_ANOTHER_MIN)
        return None

    async def _reserve_busy(self, visit: Visit) -> SessionView | None:
        """Ask for one that somebody is on, when there is such a one."""
        while self.town.clock.minute <= LAST_ENTRY_AT:
            if busy := await self.client.pcs("BUSY"):
                return await self._reserve(self.lot.choice(busy), visit)
            await self._wait(LOOK_AGAIN_MIN)
        return None

    async def _reserve(self, pc: PcView, visit: Visit) -> SessionView | None:
        """None if it was refused; whoever hadn't enough has topped up then."""
        try:
            if visit.story is Story.ASKS_TWICE:
                return await self._reserve_twice(pc, visit)
            return await self.client.reserve(pc.id, visit.minutes)
        except ApiError as refusal:
            if refusal.code not in _REFUSALS:
                raise
            why = _REFUSALS[refusal.code].format(minutes=visit.minutes, pc=pc.name)
            self._tell(Kind.REFUSED, f"{why}: {refusal.code}", pc=pc.name, code=refusal.code)
            if refusal.code == "INSUFFICIENT_FUNDS":
                await self.town.top_up(self.client.user_id, self.client.name, ANOTHER_TOP_UP)
            return None

    async def _reserve_twice(self, pc: PcView, visit: Visit) -> SessionView:
        """The first answer is lost on its way; the app asks again with the same key. Raise PromiseBroken if that counts twice."""
        before, key = await self.client.balance(), self.client.make_key()
        first = await self.client.reserve_with_key(pc.id, visit.minutes, key)
        again = await self.client.reserve_with_key(pc.id, visit.minutes, key)
        paid = before - await self.client.balance()
        session = SessionView.of(again.body["session"])
        if not again.replayed or again.body != first.body or paid != session.price:
            raise PromiseBroken(f"a repeat of Idempotency-Key {key} counted again: {paid} paid for {session}")
        said = f"asks for {pc.name} twice with one Idempotency-Key: one session, {money(paid)} paid once"
        self._tell(Kind.ASKED_TWICE, said, pc=pc.name, amount=paid, session_id=session.id)
        return session

    # ---- using it

    async def _use(self, session: SessionView, visit: Visit) -> Kind:
        session = await self.client.start(session.id)
        price = f"starts {self._pc(session)} for {session.minutes_purchased} min, {money(session.price)} held"
        self._tell(Kind.STARTED, price, pc=self._pc(session), amount=session.price, session_id=session.id)
        host = self.town.host(session.host_id)
        if host.is_up:
            await self.town.streams.open(session.id, host=host.account, client=self.client.account)
        began = self.town.clock.minute
        if not await self._stays(session, began + visit.uses):
            return await self._end(await self.client.session(session.id))
        return await self._turn_out(session, visit, began + session.minutes_purchased)

    async def _turn_out(self, session: SessionView, visit: Visit, until: int) -> Kind:
        host = self.town.host(session.host_id)
        match visit.story:
            case Story.LEAVES:
                return await self._end(await self._still(session, self.client.end(session.id)))
            case Story.BLAMES_THE_HOST:
                ended = await self._still(session, self.client.end(session.id, "HOST"))
                told = await self._end(ended)
                await self._goodwill(ended)
                return told
            case Story.HOST_ENDS:
                return await self._end(await self._still(session, host.end(session.id, key=self.client.make_key())))
            case Story.HOST_DIES:
                await self.town.strike(host)
        await self._stays(session, until)
        return await self._end(await self.client.session(session.id))

    async def _stays(self, session: SessionView, until: int) -> bool:
        """Use it until that minute; False if its host went dark before, and the daemon has seen it."""
        host, clock = self.town.host(session.host_id), self.town.clock
        while host.is_up and clock.minute < until:
            await clock.until(min(until, (clock.minute // APP_LOOKS_EVERY_MIN + 1) * APP_LOOKS_EVERY_MIN))
        if not host.is_up:
            await self._wait(APP_LOOKS_EVERY_MIN)
        return host.is_up

    async def _still(self, session: SessionView, step: Awaitable[SessionView]) -> SessionView:
        """What the step made of the session, or what it had become before."""
        try:
            return await step
        except ApiError as refusal:
            if refusal.code != "INVALID_STATUS":
                raise
            return await self.client.session(session.id)

    async def _goodwill(self, session: SessionView) -> None:
        """The operator gives half of what was retained back, to keep a client."""
        retained = session.settlement.retained if session.settlement else 0
        if half := retained // 2:
            await self.town.operator.refund(session.id, half)
            said = f"gets {money(half)} of the retained {money(retained)} back for goodwill"
            self._tell(Kind.REFUNDED, said, amount=half, session_id=session.id)

    # ---- telling it

    async def _end(self, session: SessionView) -> Kind:
        """Tell it, when the relay has closed its stream too."""
        host = self.town.host(session.host_id).name
        told = told_end(session, client=self.client.name, host=host, pc=self._pc(session))
        await self.town.streams.closed(session.id)
        self.town.tell(
            told.kind,
            told.who,
            told.text,
            pc=self._pc(session),
            amount=told.amount,
            code=session.end_reason,
            session_id=session.id,
        )
        return told.kind

    def _tell(
        self, kind: Kind, text: str, *, pc: str | None = None, amount: int | None = None, code: str | None = None,
        session_id: str | None = None,
    ) -> None:  # fmt: skip
        self.town.tell(kind, self.client.name, text, pc=pc, amount=amount, code=code, session_id=session_id)

    def _pc(self, session: SessionView) -> str:
        return self.town.pc_name(session)

    async def _wait(self, minutes: int) -> None:
        await self.town.clock.until(self.town.clock.minute + minutes)
