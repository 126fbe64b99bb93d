"""What is read of a router before and after it is changed, and what that leaves to do."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from opendesk.network.routeros.errors import LoginRefused, Trap
from opendesk.network.routeros.session import Command, Row
from opendesk.network.routers.link import Api
from opendesk.network.setup import minimal, redialling, undo, user
from opendesk.network.setup.errors import OwnUser, RowInTheWay
from opendesk.network.setup.minimal import Conflict
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.steps import Step
from opendesk.network.setup.undo import Undo
from opendesk.network.setup.user import TechnicalUser

# A router has a dozen rows of ours at most: whoever says more is up to no good, or somebody copied them. And so many a client sends at once.
MAX_STEPS: Final = 60


@frozen
class Seen:
    """What is to do for the tunnel, the undos of earlier changes, and what takes off a redial that is yet to come."""

    steps: tuple[Step, ...]
    undos: tuple[Undo, ...]
    redials: tuple[Step, ...] = ()
    names: frozenset[str] = frozenset()  # that entries of its scheduler have

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not minimal.is_tidying(step))

    @property
    def tidying(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if minimal.is_tidying(step))

    @property
    def cuts(self) -> bool:
        return any(step.cuts for step in self.steps)

    @property
    def armed(self) -> tuple[Undo, ...]:
        return tuple(found for found in self.undos if found.armed)


async def look(api: Api, config: Tunnel) -> Seen:
    """Raise Trap if it may not be read, RowInTheWay."""
    looks = minimal.queries(config)
    *answers, schedulers, all_named = await rows(api, (*looks, undo.QUERY, undo.NAMES))
    tables = {query.path.removesuffix("/print"): found for query, found in zip(looks, answers, strict=True)}
    steps = _few(minimal.plan(config, tables))
    refuse_conflicts((*minimal.conflicts(config, tables), *_taken_names(steps, all_named)))
    names = frozenset(row.get("name", "") for row in all_named)
    return Seen(steps, undo.understood(schedulers), redialling.pending(schedulers), names)


def _taken_names(steps: Sequence[Step], schedulers: Sequence[Row]) -> Iterator[Conflict]:
    """The router would refuse the entry that switches its peer on again, and take the step that switches it off."""
    if any(map(redialling.is_of, steps)):
        yield from (
            Conflict(redialling.SCHEDULERS, row[".id"]) for row in schedulers if redialling.is_foreign_namesake(row)
        )


async def look_at_user(api: Api, technical: TechnicalUser) -> tuple[Step, ...]:
    """Raise as `look` does. An attempt to log in is made only where there is such a user."""
    groups, users = await rows(api, user.queries(technical))
    logs_in = bool(users) and users[0].get("disabled") not in {"yes", "true"} and await _logs_in(technical)
    refuse_conflicts(user.conflicts(technical, groups, users, logs_in=logs_in))
    steps = user.plan(technical, groups, users, logs_in=logs_in)
    if technical.is_own and user.changes_log_in(steps):
        raise OwnUser(
            f"{technical.name} is the user that this router is driven as: log in as another to change its password or its group"
        )
    return steps


def from_nothing(config: Tunnel | None, technical: TechnicalUser | None) -> tuple[Step, ...]:
    """What a router wants that holds nothing yet."""
    steps = () if config is None else minimal.plan(config, {})
    return (*steps, *(() if technical is None else user.plan(technical, (), (), logs_in=False)))


async def rows(api: Api, queries: Sequence[Command]) -> list[Sequence[Row]]:
    answers = await api.run_all(queries)
    for answer in answers:
        if isinstance(answer, Trap):
            raise answer
    return [answer.rows for answer in answers if not isinstance(answer, Trap)]


def refuse_conflicts(found: Sequence[Conflict]) -> None:
    if found:
        raise RowInTheWay("; ".join(map(str, found[:MAX_STEPS])))


def _few(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    if len(steps) > MAX_STEPS:
        raise RowInTheWay(f"There are more than {MAX_STEPS} rows of ours on the tunnel's interface.")
    return steps


async def _logs_in(technical: TechnicalUser) -> bool:
    try:
        async with technical.log_in():
            return True
    except LoginRefused:
        return False
