"""One look at a router with a user and a password: who it is, or why it won't say."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from attrs import frozen
import trio

from opendesk.network.routeros.errors import LoginRefused, RouterOsError, TimedOut, Trap, Unreachable
from opendesk.network.routeros.session import Command, Result, Row
from opendesk.network.routeros.words import Words
from opendesk.network.routers.link import Api
from opendesk.network.setup.errors import ProbeAuthFailed, ProbeFailed, ProbeTimeout, ProbeUnreachable
from opendesk.settings.secret import Secret

Dial = Callable[[], AbstractAsyncContextManager[Api]]

_LOOK: Final = (
    Command("/system/identity/print", proplist=("name",)),
    Command("/system/resource/print", proplist=("version", "board-name")),
)


@frozen
class Probed:
    """None is what the router doesn't tell."""

    identity: str | None
    version: str | None
    board: str | None


async def probe(dial: Dial, *, password: Secret[str] | None = None) -> Probed:
    """Raise ProbeFailed. The router may say back the password it was told: that is struck out."""
    try:
        async with dial() as api:
            identity, resource = map(_row, await api.run_all(_LOOK))
    except LoginRefused as error:
        raise ProbeAuthFailed(str(error)) from error
    except (TimedOut, trio.TooSlowError) as error:
        raise ProbeTimeout(str(error) or None) from error
    except (Unreachable, OSError) as error:
        raise ProbeUnreachable(str(error) or None) from error
    except RouterOsError as error:
        raise ProbeFailed(str(error)) from error
    words = Words(() if password is None else (password.reveal_bytes(),))
    told = (identity.get("name"), resource.get("version"), resource.get("board-name"))
    return Probed(*(None if text is None else words.shown(text.encode("utf-8", "surrogateescape")) for text in told))


def _row(outcome: Result | Trap) -> Row:
    """A router that refuses this user a look hasn't said who it is."""
    if isinstance(outcome, Trap):
        raise outcome
    return outcome.rows[0] if outcome.rows else {}
