"""Makes a router hold its end of the tunnel and the technical user, and doesn't lock it out over that.

The tunnel first: before steps that may cut it the router itself is armed to take them back (`undo`), and a new connection has to come through
before it is disarmed. The user last: until then it may be the one that we are logged in as.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import math
from typing import Final

from attrs import frozen
import trio

from opendesk.network.routeros.errors import TooMuch, Trap
from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.routers.link import DIAL_FAILURES, Api
from opendesk.network.setup import reading
from opendesk.network.setup.errors import RouterRefused, refused
from opendesk.network.setup.probe import Dial
from opendesk.network.setup.proving import PROVE_S, Change, Forget
from opendesk.network.setup.script import Tunnel
from opendesk.network.setup.steps import PlannedStep, Step
from opendesk.network.setup.undo import UNDO_S
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
    forget: Forget | None = None,
    own_endpoint: tuple[str, int] | None = None,
    limit_s: float = math.inf,
) -> Applied:
    """`dial` connects as somebody who may change all this; `prove` connects through the tunnel (the same way, if none is said). `forget` has the
    VPS forget where the router is; where it can't, it is None, and a router whose tunnel works is told no endpoint but `own_endpoint`.

    Raise RouterUnavailable, RouterRefused, RowInTheWay, NotHeld, UndoPending, EndpointUnproven, OwnUser, or TunnelLost. Wherever it ends or is
    cancelled, the router holds all of the new tunnel, or in UNDO_S at the latest what it held before.
    """
    change = None if config is None else Change(dial, prove or dial, config, prove_s, forget, own_endpoint)
    try:
        with _as_told(limit_s):
            return await _applied_by(change, dial, prove or dial, user, dry_run=dry_run)
    except RouterUnavailable as error:
        if change is None or change.armed_until is None:
            raise
        until = f"unless the change is proven before, the router takes it back by itself at {change.armed_until:%H:%M:%S} UTC"
        raise RouterUnavailable(
            f"{error.detail.rstrip('.')}. An undo is armed on it: {until}.", retry_after_s=UNDO_S
        ) from error


async def _applied_by(
    change: Change | None, dial: Dial, prove: Dial, user: TechnicalUser | None, *, dry_run: bool
) -> Applied:
    async with dial() as api:
        planned = await _planned(api, change, user)
        if not dry_run and change is not None:
            await change.begin(api)
    if dry_run:
        return _applied(planned, dry_run=True)
    if change is not None:
        await change.finish()
    if user is not None:
        # Where it was dialled before it may be no more.
        is_through = change is not None and change.is_through
        async with (prove if is_through else dial)() as api:
            await _make_user(api, user.through_tunnel() if is_through else user)
    return _applied(planned, dry_run=False)


def pretended(config: Tunnel | None, user: TechnicalUser | None) -> Applied:
    """As on a router that holds nothing yet, and without one."""
    return _applied(reading.from_nothing(config, user), dry_run=True)


def _applied(steps: Sequence[Step], *, dry_run: bool) -> Applied:
    return Applied(tuple(step.shown for step in steps), bool(steps) and not dry_run, dry_run)


async def _planned(api: Api, change: Change | None, user: TechnicalUser | None) -> tuple[Step, ...]:
    steps = () if change is None else await change.plan(api)
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
def _as_told(limit_s: float) -> Iterator[None]:
    try:
        with trio.move_on_after(limit_s) as scope:
            yield
        if scope.cancelled_caught:
            raise RouterUnavailable(f"The router didn't take its configuration within {limit_s:g} s.")
    except (Trap, TooMuch) as error:
        raise RouterRefused(str(error)) from error
    except DIAL_FAILURES as error:
        raise RouterUnavailable(str(error) or None) from error
