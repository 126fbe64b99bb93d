"""Makes a router hold its end of the tunnel and the technical user, and doesn't lock it out over that.

The tunnel first: before steps that may cut it the router itself is armed to take them back (`undo`), and a new connection has to come through
before it is disarmed. The user last: until then it may be the one that we are logged in as.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from opendesk.network.routeros.errors import TooMuch, Trap
from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.routers.link import DIAL_FAILURES, Api
from opendesk.network.setup import reading
from opendesk.network.setup.errors import RouterRefused, refused
from opendesk.network.setup.probe import Dial
from opendesk.network.setup.proving import PROVE_S, Change
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.steps import PlannedStep, Step
from opendesk.network.setup.user import TechnicalUser

# What the technical user needs is done in one round; the second is for what another changed meanwhile.
USER_ROUNDS: Final = 2


@frozen
class Applied:
    """`plan` is what was to do: with `dry_run` nothing of it was done."""

    plan: tuple[PlannedStep, ...]
    changed: bool
    dry_run: bool


async def apply(
    dial: Dial,
    *,
    config: Tunnel | None,
    user: TechnicalUser | None,
    dry_run: bool,
    prove: Dial | None = None,
    prove_s: float = PROVE_S,
) -> Applied:
    """`dial` connects as somebody who may change all this; `prove` connects through the tunnel (the same way, if none is said).

    Raise RouterUnavailable, RouterRefused, RowInTheWay, NotHeld, UndoPending, or TunnelLost. Wherever it ends or is cancelled, the router holds
    all of the new tunnel, or in UNDO_S at the latest what it held before.
    """
    with _as_told():
        change = None if config is None else Change(dial, prove or dial, config, prove_s)
        async with dial() as api:
            planned = await _planned(api, config, user)
            if not dry_run and change is not None:
                await change.begin(api)
        if not dry_run and change is not None:
            await change.finish()
        if not dry_run and user is not None:
            async with dial() as api:
                await _make_user(api, user)
    return _applied(planned, dry_run=dry_run)


def pretended(config: Tunnel | None, user: TechnicalUser | None) -> Applied:
    """As on a router that holds nothing yet, and without one."""
    return _applied(reading.from_nothing(config, user), dry_run=True)


def _applied(steps: Sequence[Step], *, dry_run: bool) -> Applied:
    return Applied(tuple(step.shown for step in steps), bool(steps) and not dry_run, dry_run)


async def _planned(api: Api, config: Tunnel | None, user: TechnicalUser | None) -> tuple[Step, ...]:
    steps = () if config is None else (await reading.look(api, config)).steps
    return (*steps, *(() if user is None else await reading.look_at_user(api, user)))


async def _make_user(api: Api, user: TechnicalUser) -> None:
    """What is there then counts, not what the router says of it."""
    traps: list[Trap] = []
    for _ in range(USER_ROUNDS):
        steps = await reading.look_at_user(api, user)
        if not steps:
            return
        answers = await api.run_all([step.command for step in steps])
        traps = [answer for answer in answers if isinstance(answer, Trap)]
    if left := await reading.look_at_user(api, user):
        raise refused(left, traps)


@contextmanager
def _as_told() -> Iterator[None]:
    try:
        yield
    except (Trap, TooMuch) as error:
        raise RouterRefused(str(error)) from error
    except DIAL_FAILURES as error:
        raise RouterUnavailable(str(error) or None) from error
