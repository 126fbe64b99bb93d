"""A change of the tunnel, from arming the router's undo to disarming it. Its steps go out together: the first may cut off the rest."""

from collections.abc import Sequence
from typing import Final

from attrs import define, field
import trio

from opendesk.network.routeros.errors import TimedOut, TooMuch, Trap, Unreachable
from opendesk.network.routers.link import DIAL_FAILURES, Api
from opendesk.network.setup import reading, undo
from opendesk.network.setup.errors import RouterRefused, TunnelLost, UndoPending, refused
from opendesk.network.setup.probe import Dial
from opendesk.network.setup.reading import Seen
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.steps import Step
from opendesk.network.setup.undo import UNDO_S

# How long the tunnel may take until it is seen alive: a router that dials another endpoint does so at its next keepalive. Well before the
# router takes the change back by itself.
PROVE_S: Final = 120.0
# Until a router that didn't let us in is dialled again.
AGAIN_S: Final = 2.0
# Steps are sent only as long after arming: then the time to prove them isn't over before they are done.
ARMED_S: Final = 30.0
# What was sent and isn't there is sent again once, in case that it was lost on the way.
ROUNDS: Final = 2


@define(eq=False)
class Change:
    """`begin` on the connection that there is, `finish` on new ones."""

    _dial: Dial
    _prove: Dial
    _config: Tunnel
    _prove_s: float = PROVE_S
    _steps: tuple[Step, ...] = ()
    _undo: Step | None = None
    _is_unproven: bool = False
    _is_done: bool = False
    _traps: list[Trap] = field(factory=list)

    async def begin(self, api: Api) -> None:
        seen = await self._without_leftovers(api, await reading.look(api, self._config))
        self._steps, self._is_unproven = seen.changes, bool(seen.armed)
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
        async with self._dial() as api:
            await self._tidy(api)

    async def _without_leftovers(self, api: Api, seen: Seen) -> Seen:
        """One that will run is left to it, unless what it takes back isn't done, or all is well and only wants to be proven."""
        if seen.changes and not all(undo.is_of(it, seen.changes) for it in seen.armed):
            raise UndoPending(retry_after_s=UNDO_S)
        stale = seen.undos if seen.changes else [it for it in seen.undos if not it.armed]
        if not stale:
            return seen
        await api.run_all([undo.disarm(it).command for it in stale])
        return await reading.look(api, self._config)

    async def _arm(self, api: Api, seen: Seen) -> None:
        """Nothing that cuts is sent before the entry was seen."""
        self._undo = undo.arm(self._steps, [it.name for it in seen.undos])
        since_s = trio.current_time()
        [answer] = await api.run_all((self._undo.command,))
        seen = await reading.look(api, self._config)
        if seen.changes != self._steps or not any(undo.is_as_told(it, self._undo) for it in seen.armed):
            await api.run_all([undo.disarm(it).command for it in seen.undos])
            why = str(answer) if isinstance(answer, Trap) else "its rows changed meanwhile, or it didn't keep the entry"
            raise RouterRefused(f"The router can't be made to take the change back by itself: {why}")
        if trio.current_time() - since_s > ARMED_S:
            raise RouterRefused("The router is too slow to be changed safely.")

    async def _send(self, api: Api, steps: Sequence[Step]) -> None:
        """A connection that is gone over it is to be expected: whether it did what was asked is seen on another."""
        if not steps:
            return
        try:
            answers = await api.run_all([step.command for step in steps])
        except (Unreachable, TimedOut):
            if not self._is_unproven:
                raise
            return
        self._traps = [answer for answer in answers if isinstance(answer, Trap)]

    async def _come_through(self) -> None:
        why, rounds = "nobody answered", ROUNDS
        with trio.move_on_after(self._prove_s):
            while True:
                try:
                    async with self._prove() as api:
                        if await self._is_disarmed(api, is_last=not rounds):
                            return
                    why, rounds = "it answers, and isn't done yet", rounds - 1
                except (Trap, TooMuch):
                    raise
                except DIAL_FAILURES as error:
                    why = str(error) or why
                await trio.sleep(AGAIN_S)
        raise TunnelLost(f"{TunnelLost.title()} ({why})")

    async def _is_disarmed(self, api: Api, *, is_last: bool) -> bool:
        """All is held, and still is once nothing takes it back any more."""
        seen = await reading.look(api, self._config)
        if not seen.changes:
            await api.run_all([undo.disarm(it).command for it in seen.undos])
            seen = await reading.look(api, self._config)
            if not seen.changes:
                return not seen.undos
        if not seen.armed:
            raise TunnelLost("The tunnel wasn't seen alive in time: the router took the change back.")
        if is_last or not all(step in self._steps for step in seen.changes):
            raise refused(seen.changes, self._traps, "the router takes back the rest within 5 minutes")
        await self._send(api, seen.changes)
        return False

    async def _tidy(self, api: Api) -> None:
        seen = await reading.look(api, self._config)
        if seen.tidying:
            answers = await api.run_all([step.command for step in seen.tidying])
            self._traps += [answer for answer in answers if isinstance(answer, Trap)]
            seen = await reading.look(api, self._config)
        if seen.steps:
            raise refused(seen.steps, self._traps)
