"""A change of the tunnel, from arming the router's undo to disarming it. Its steps go out together: the first may cut off the rest."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
import math
from typing import Final

from attrs import define, field
import trio

from opendesk.errors import OpenDeskError
from opendesk.network.routeros.errors import TimedOut, TooMuch, Trap, Unreachable
from opendesk.network.routeros.session import Result
from opendesk.network.routers.link import DIAL_FAILURES, Api
from opendesk.network.setup import reading, redialling, undo
from opendesk.network.setup.errors import EndpointUnproven, RouterRefused, TunnelLost, UndoPending, refused
from opendesk.network.setup.probe import Dial
from opendesk.network.setup.reading import Seen
from opendesk.network.setup.redialling import REDIAL_S
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.steps import Step
from opendesk.network.setup.undo import UNDO_S, Undo

# How long the tunnel may take until it is seen alive: a router that dials afresh does so after REDIAL_S. Well before the router takes the change
# back by itself.
PROVE_S: Final = 120.0
# Until a router that didn't let us in is dialled again.
AGAIN_S: Final = 2.0
# Steps are sent only as long after arming: then the time to prove them isn't over before they are done.
ARMED_S: Final = 30.0
# What was sent and isn't there is sent again once, in case that it was lost on the way.
ROUNDS: Final = 2
# For what switches the router's peer off, to arrive: nobody answers then. And for the VPS to forget after that; the router waits for both.
OFF_S: Final = 5.0
FORGET_S: Final = 8.0
assert OFF_S + FORGET_S < REDIAL_S

Forget = Callable[[], Awaitable[None]]


@define(eq=False)
class Change:
    """`begin` on the connection that there is, `finish` on new ones. `prove` goes through the tunnel, and nowhere else.

    `forget` has the VPS forget where the router was last heard from. Without it only `own_endpoint`, the VPS' own, is believed of a router whose
    tunnel works by another.
    """

    _dial: Dial
    _prove: Dial
    _config: Tunnel
    _prove_s: float = PROVE_S
    _forget: Forget | None = None
    _own_endpoint: tuple[str, int] | None = None
    armed_until: datetime | None = None
    _steps: tuple[Step, ...] = ()
    _armed: tuple[Undo, ...] = ()
    _is_known: bool = False
    _is_unproven: bool = False
    _is_done: bool = False
    _rounds: int = ROUNDS
    _traps: list[Trap] = field(factory=list)

    @property
    def is_through(self) -> bool:
        """Whether the router was changed, and has come through its tunnel since."""
        return self._is_unproven

    async def plan(self, api: Api) -> tuple[Step, ...]:
        seen = await reading.look(api, self._config)
        self._refuse_unprovable(seen)
        return seen.steps

    async def begin(self, api: Api) -> None:
        seen = await reading.look(api, self._config)
        self._refuse_unprovable(seen)
        seen = await self._without_leftovers(api, seen)
        self._steps, self._armed, self._is_unproven = seen.changes, seen.armed, bool(seen.armed)
        self._is_done = not seen.steps and not seen.undos
        if seen.cuts:
            await self._arm(api, seen)
            self._is_unproven = True
        await self._send(api, self._steps)

    async def finish(self) -> None:
        """Raise TunnelLost, or that it isn't held; the router then takes the change back by itself."""
        if self._is_done:
            return
        if self._is_unproven:
            await self._come_through()
        async with (self._prove if self._is_unproven else self._dial)() as api:
            await self._tidy(api)

    def _refuse_unprovable(self, seen: Seen) -> None:
        endpoint = self._config.vps_host, self._config.vps_port
        if self._forget is None and redialling.changes_endpoint(seen.changes) and endpoint != self._own_endpoint:
            raise EndpointUnproven(
                f"{endpoint[0]} port {endpoint[1]} isn't WG_VPS_ENDPOINT, and the VPS can't be made to forget where this router is: ask the daemon "
                "that keeps the interface, and register the router with its device there"
            )

    async def _without_leftovers(self, api: Api, seen: Seen) -> Seen:
        """One that will run is left to it, unless what it takes back isn't done, or all is well and only wants to be proven. Of a new endpoint
        that would prove nothing: whether both ends had forgotten where the other was is known to nobody any more.
        """
        is_left = not all(undo.is_of(it, seen.changes) for it in seen.armed)
        if is_left and (seen.changes or any(redialling.is_taken_back_by(it.program) for it in seen.armed)):
            raise UndoPending(retry_after_s=UNDO_S)
        stale = undo.disarm(seen.undos if seen.changes else [it for it in seen.undos if not it.armed])
        if not (stale or seen.redials):
            return seen
        await api.run_all([step.command for step in (*stale, *seen.redials)])
        return await reading.look(api, self._config)

    async def _arm(self, api: Api, seen: Seen) -> None:
        """Nothing that cuts is sent before the entries were seen."""
        undos = undo.arm(self._steps, seen.names)
        since_s = trio.current_time()
        self.armed_until = datetime.now(UTC) + timedelta(seconds=UNDO_S)
        answers = await api.run_all([step.command for step in undos])
        seen = await reading.look(api, self._config)
        if seen.changes != self._steps or not undo.are_as_told(seen.undos, undos):
            await api.run_all([step.command for step in undo.disarm(seen.undos)])
            why = _told(answers) or "its rows changed meanwhile, or it didn't keep the entries"
            raise RouterRefused(f"The router can't be made to take the change back by itself: {why}")
        if trio.current_time() - since_s > ARMED_S:
            raise RouterRefused("The router is too slow to be changed safely.")
        self._armed = seen.armed

    async def _send(self, api: Api, steps: Sequence[Step]) -> None:
        """A connection that is gone over it is to be expected: whether it did what was asked is seen on another."""
        if not steps:
            return
        redials = any(map(redialling.is_of, steps))
        try:
            with trio.move_on_after(OFF_S if redials else math.inf):
                answers = await api.run_all([step.command for step in steps])
                self._traps = [answer for answer in answers if isinstance(answer, Trap)]
        except (Unreachable, TimedOut):
            if not self._is_unproven:
                raise
        if redials and self._forget is not None:
            await self._forgotten(self._forget)

    async def _forgotten(self, forget: Forget) -> None:
        """While the router's peer is off. If it can't be, the tunnel's coming back would prove nothing."""
        try:
            with trio.fail_after(FORGET_S):
                await forget()
        except (OpenDeskError, trio.TooSlowError) as error:
            raise TunnelLost(
                f"The VPS didn't forget where the router was ({str(error) or type(error).__name__}), so that its new endpoint can't be proven: it takes the "
                "change back by itself within 5 minutes."
            ) from error

    async def _come_through(self) -> None:
        why = "nobody answered"
        with trio.move_on_after(self._prove_s):
            while True:
                try:
                    async with self._prove() as api:
                        if await self._is_disarmed(api):
                            self.armed_until = None
                            return
                    why = "it answers, and isn't done yet"
                except (Trap, TooMuch):
                    raise
                except DIAL_FAILURES as error:
                    why = str(error) or why
                await trio.sleep(AGAIN_S)
        raise TunnelLost(f"{TunnelLost.title()} ({why})")

    async def _is_disarmed(self, api: Api) -> bool:
        """All is held, and still is once nothing takes it back any more."""
        seen = await reading.look(api, self._config)
        self._refuse_another(seen)
        if seen.redials:
            return False  # it is about to dial afresh
        if not seen.changes:
            answers = await api.run_all([step.command for step in undo.disarm(seen.undos)])
            seen = await reading.look(api, self._config)
            if not seen.changes:
                if seen.undos and (told := _told(answers)):
                    raise RouterRefused(
                        f"The change is proven, and the router takes it back all the same within 5 minutes: {told}"
                    )
                return not seen.undos
        if not seen.armed:
            raise TunnelLost("The tunnel wasn't seen alive in time: the router took the change back.")
        if not self._rounds or not all(step in self._steps for step in seen.changes):
            raise refused(seen.changes, self._traps, "the router takes back the rest within 5 minutes")
        self._rounds -= 1
        await self._send(api, seen.changes)
        return False

    def _refuse_another(self, seen: Seen) -> None:
        """Who answers is the router that was changed, if it holds the very entries that were seen there. Once it is, they go."""
        if not self._is_known and not set(self._armed) <= set(seen.undos):
            raise TunnelLost(
                f"What answers at {self._config.ip} doesn't hold the undo that the router was armed with: it is another router, or this one took "
                "the change back already, which it does within 5 minutes."
            )
        self._is_known = True

    async def _tidy(self, api: Api) -> None:
        seen = await reading.look(api, self._config)
        if seen.tidying:
            answers = await api.run_all([step.command for step in seen.tidying])
            self._traps += [answer for answer in answers if isinstance(answer, Trap)]
            seen = await reading.look(api, self._config)
        if seen.steps:
            raise refused(seen.steps, self._traps)


def _told(answers: Sequence[Result | Trap]) -> str:
    return "; ".join(dict.fromkeys(str(answer) for answer in answers if isinstance(answer, Trap)))
