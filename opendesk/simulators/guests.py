"""How a guest's order goes: a phone behind a hotspot, a payment, and what the network API made of it."""

from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define
import trio

from opendesk.simulators.api_client import ApiError, PromiseBroken
from opendesk.simulators.backend import Backend
from opendesk.simulators.guest_plan import BACK_AFTER_MIN, DEAD_BEFORE_MIN, GuestPlan, GuestStory
from opendesk.simulators.happenings import Kind
from opendesk.simulators.hotspots import DEAD_SAID, MEANWHILE, OFF_BEFORE, WAITED, Hotspots
from opendesk.simulators.town import Town

# Until a dead router's circuit opens, and until an order that waited is done once it is back: some seconds, on a busy machine more.
_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.05

OPEN: Final = "open"


@define(eq=False)
class Guest:
    town: Town
    hotspots: Hotspots
    backend: Backend
    plan: GuestPlan

    async def day(self) -> None:
        """An actor of the clock."""
        plan = self.plan
        if plan.story is GuestStory.ROUTER_DIES:
            await self.town.clock.until(plan.at - DEAD_BEFORE_MIN)
            self.hotspots.kill(plan.router)
            self.town.tell(Kind.ROUTER_DEAD, plan.router, "dies: its router takes connections and answers nothing")
        await self.town.clock.until(plan.at)
        router = self.hotspots.router(plan.router)
        phone = router.phone(plan.mac, plan.ip)
        device = await self.backend.hello(plan.router, plan.ip, plan.mac)
        self.hotspots.prove(OFF_BEFORE, ok=not router.is_online(plan.mac, plan.ip))
        if plan.story is GuestStory.ROUTER_DIES:
            await self._pay_while_it_is_dead(device)
        else:
            await self.backend.authorize(plan.router, plan.order, device, plan.minutes)
        began = self.town.clock.minute
        self._is_online(until=began + plan.minutes)
        if plan.story in {GuestStory.MOVES, GuestStory.IS_REVOKED}:
            await self.town.clock.until(began + plan.uses)
        if plan.story is GuestStory.MOVES:
            phone.move(plan.next_ip)
            await self._move(device)
        if plan.story is GuestStory.IS_REVOKED:
            await self._revoke()
        else:
            await self._time_ends(began + plan.minutes)
        phone.leave()
        self.hotspots.played += 1

    def _is_online(self, until: int) -> None:
        plan = self.plan
        self.hotspots.opened(plan.order, plan.router, plan.mac, plan.ip, until=until)
        meanwhile = ""
        if self.hotspots.dead:
            self.hotspots.prove(MEANWHILE, ok=True)
            meanwhile = f", while {' and '.join(self.hotspots.dead)} is dead"
        said = f"pays order {plan.order} at {plan.router} and is online for {plan.minutes} min{meanwhile}"
        self._tell(Kind.PHONE_ONLINE, said)

    async def _time_ends(self, until: int) -> None:
        await self.town.clock.until(until)
        self.hotspots.closed(self.plan.order)
        said = f"is off at {self.plan.router}: the {self.plan.minutes} min of {self.plan.order} are over"
        self._tell(Kind.PHONE_OFF, said)

    async def _revoke(self) -> None:
        plan = self.plan
        await self.backend.revoke(plan.router, plan.mac)
        self.hotspots.revoked += 1
        self.hotspots.closed(plan.order)
        said = f"gets the money back after {plan.uses} of {plan.minutes} min: {plan.order} is revoked, the phone is off"
        self._tell(Kind.ORDER_REVOKED, said)

    async def _move(self, device: str) -> None:
        plan = self.plan
        await self.backend.resync(plan.router, plan.order, device, plan.next_ip, plan.mac)
        self.hotspots.goes_on(plan.order, plan.next_ip)
        said = f"has {plan.next_ip} now, not {plan.ip}: {plan.order} goes on there with the rest of its time"
        self._tell(Kind.PHONE_MOVED, said)

    # ---- a router that is dead

    async def _pay_while_it_is_dead(self, device: str) -> None:
        """The caller is told so, a repeat joins the job, and the job does it when the router is back."""
        name = self.plan.router
        await self._until(self._is_circuit_open, f"the circuit of {name} did not open")
        first, second = await self._refused(device), await self._refused(device)
        is_one_job = first.job_id is not None and first.job_id == second.job_id
        self.hotspots.prove(DEAD_SAID, ok=first.code == second.code == "CIRCUIT_OPEN" and is_one_job)
        said = f"pays order {self.plan.order} at {name}: {first.code}, and one job waits for the router"
        self._tell(Kind.ORDER_WAITS, said, code=first.code)
        await self.town.clock.until(self.plan.at + BACK_AFTER_MIN)
        self.hotspots.revive(name)
        self.town.tell(Kind.ROUTER_BACK, name, "is back, and nobody asks again: what was paid for is done now")

        async def is_done() -> bool:
            job = await self.backend.job(first.job_id or "")
            return bool(job["state"] == "done")

        await self._until(is_done, f"{self.plan.order} was not done when {name} was back")
        self.hotspots.prove(WAITED, ok=True)

    async def _refused(self, device: str) -> ApiError:
        plan = self.plan
        try:
            await self.backend.authorize(plan.router, plan.order, device, plan.minutes)
        except ApiError as refusal:
            self.hotspots.waited += 1
            return refusal
        raise PromiseBroken(f"{plan.router} is dead, and the way of {plan.order} was said to be open")

    async def _is_circuit_open(self) -> bool:
        return await self.backend.circuit(self.plan.router) == OPEN

    async def _until(self, happened: Callable[[], Awaitable[bool]], complaint: str) -> None:
        with trio.move_on_after(_PATIENCE_S):
            while not await happened():  # noqa: ASYNC110 - another process, which tells nobody
                await trio.sleep(_LOOK_S)
            return
        raise PromiseBroken(f"{complaint} within {_PATIENCE_S:g} s")

    def _tell(self, kind: Kind, text: str, *, code: str | None = None) -> None:
        self.town.tell(kind, self.plan.name, text, code=code)
