"""A router's rows brought to what was granted: look, do, look again, until there is nothing left to do.

The first look is at all that matters to the places; those after steps only at the menus that these touch. Of the others what was seen
before goes on to count, some round trips old: what somebody else changes there within the same attempt is seen by the next one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from attrs import frozen
import trio

from opendesk.network.hotspots.errors import InTheWay, NotHeld
from opendesk.network.hotspots.found import Actual, queries, understood, widened
from opendesk.network.hotspots.place import Grant, Place, aged
from opendesk.network.hotspots.plan import conflicts, plan
from opendesk.network.hotspots.steps import Step
from opendesk.network.routeros.errors import Trap
from opendesk.network.routeros.session import Command, Result, Row

# Rounds of doing and looking. The longest way is four; the rest is for rows that others change meanwhile, and for devices that
# come back faster than they are looked at.
MAX_ROUNDS: Final = 8

RunAll = Callable[[Sequence[Command]], Awaitable[Sequence[Result | Trap]]]
Begin = Callable[[Actual, Sequence[Grant]], Awaitable[Sequence[Grant]]]
Opening = Callable[[Sequence[Grant]], Awaitable[None]]


@frozen
class Outcome:
    """What the router was seen to hold is what was granted; `steps` is what was done for that."""

    steps: tuple[Step, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.steps)


async def converge(
    run_all: RunAll,
    grants: Sequence[Grant],
    places: Sequence[Place],
    *,
    begin: Begin | None = None,
    opening: Opening | None = None,
) -> Outcome:
    """`grants` are all that are live with an IP or MAC of `places`. Before anything is done, `begin` is shown what is there and the
    grants whose rows are looked at, and returns these as they are to be held. Before steps are sent that open the way of some,
    `opening` is told of these.

    Steps and the look at what they did go out together: of n rounds of steps that is n + 1 round trips. A trap of a step is no
    error by itself: what counts is what is there then, and after one all is looked at again. Raise Trap if rows can't be read; NotHeld; InTheWay.
    """
    since_s, done = trio.current_time(), list[Step]()
    places, looks, actual = await _look(run_all, grants, places)
    if begin is not None:
        theirs = [grant for grant in grants if _is_of(grant, places)]
        grants = [*(grant for grant in grants if not _is_of(grant, places)), *await begin(actual, theirs)]
        since_s = trio.current_time()
    traps: list[Trap] = []
    for rounds_left in reversed(range(MAX_ROUNDS + 1)):
        live = aged(grants, trio.current_time() - since_s)
        steps = plan(live, places, actual)
        if not steps:
            if found := conflicts(live, places, actual):
                raise InTheWay(found, actual)
            return Outcome(tuple(done))
        if not rounds_left:
            break
        if opening is not None and (opened := [step.opens for step in steps if step.opens is not None]):
            await opening(opened)
        menus = looks.keys() if traps else frozenset[str]().union(*(step.touched for step in steps))
        answers, actual = await _do_and_look(
            run_all,
            [step.command for step in steps],
            {menu: look for menu, look in looks.items() if menu in menus},
            actual,
        )
        traps = [answer for answer in answers if isinstance(answer, Trap)]
        done += [step for step, answer in zip(steps, answers, strict=True) if not isinstance(answer, Trap)]
    if traps and (found := conflicts(live, places, actual)):
        raise InTheWay(found, actual)
    raise NotHeld(steps, traps, actual)


async def _look(
    run_all: RunAll, grants: Sequence[Grant], asked: Sequence[Place]
) -> tuple[Sequence[Place], Mapping[str, Command], Actual]:
    """With all devices that the places stand for: some are known only once rows of the others were seen. And how to look again."""
    places = tuple(dict.fromkeys([*asked, *(grant.place for grant in grants if _is_of(grant, asked))]))
    looks = queries(places)
    _, actual = await _do_and_look(run_all, (), looks)
    if (all_places := widened(places, actual)) != places:
        looks = queries(all_places)
        _, actual = await _do_and_look(run_all, (), looks)
    return all_places, looks, actual


async def _do_and_look(
    run_all: RunAll, commands: Sequence[Command], looks: Mapping[str, Command], before: Actual | None = None
) -> tuple[Sequence[Result | Trap], Actual]:
    began_s = trio.current_time()
    answers = await run_all([*commands, *looks.values()])
    tables: dict[str, Sequence[Row]] = {}
    for menu, answer in zip(looks, answers[len(commands) :], strict=True):
        if isinstance(answer, Trap):
            raise answer
        tables[menu] = answer.rows
    kept = Actual() if before is None else before.later(trio.current_time() - began_s)
    return answers[: len(commands)], understood(tables, kept)


def _is_of(grant: Grant, places: Sequence[Place]) -> bool:
    return any(place.covers(grant.ip, grant.mac) for place in places)
