"""What a worker needs of the driver: how to dial, what a failure is, and one look at who is there."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from attrs import evolve, frozen
import trio

from opendesk.network.routeros.errors import (
    Fatal,
    LoginRefused,
    ProtocolError,
    RouterOsError,
    TimedOut,
    Trap,
    Unreachable,
)
from opendesk.network.routeros.session import Command, Result, Row
from opendesk.network.routeros.transport import Target
from opendesk.network.routeros.words import Words
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.routers.uptime import parse_uptime
from opendesk.settings.secret import Secret

# The router failed us. A trap is an answer, and a limit of our own (TooMuch) says nothing of the router.
FAILURES: Final = (Unreachable, TimedOut, LoginRefused, Fatal, ProtocolError)
# Before there is a connection, the network may fail us too.
DIAL_FAILURES: Final[tuple[type[Exception], ...]] = (RouterOsError, OSError, trio.TooSlowError)

_LOOK: Final = (
    Command("/system/resource/print", proplist=("uptime", "version")),
    Command("/system/identity/print", proplist=("name",)),
)


class Api(Protocol):
    """An open connection: `routeros.client.Client`, or a test's fake."""

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Result: ...
    async def run_all(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Result | Trap]: ...
    async def wait_closed(self) -> None: ...


Connect = Callable[[Target], AbstractAsyncContextManager[Api]]


@frozen
class Look:
    """What a router says of itself; None is what it doesn't tell."""

    uptime_s: float | None
    version: str | None
    identity: str | None

    def without(self, password: Secret[str]) -> "Look":
        """It may be told back as anything."""
        words = Words((password.reveal_bytes(),))
        return evolve(self, version=_shown(self.version, words), identity=_shown(self.identity, words))


def _shown(text: str | None, words: Words) -> str | None:
    return None if text is None else words.shown(text.encode("utf-8", "surrogateescape"))


async def look(api: Api) -> Look:
    """One round trip. A user who may not read these still gets an answer out of the router, and that is what counts."""
    resource, identity = await api.run_all(_LOOK)
    first, second = _first(resource), _first(identity)
    return Look(parse_uptime(first.get("uptime", "")), first.get("version"), second.get("name"))


async def is_gone_within(api: Api, limit_s: float) -> bool:
    with trio.move_on_after(limit_s):
        await api.wait_closed()
        return True
    return False


def _first(outcome: Result | Trap) -> Row:
    return {} if isinstance(outcome, Trap) or not outcome.rows else outcome.rows[0]


def target_of(spec: RouterSpec) -> Target:
    return Target(
        host=spec.host,
        port=spec.port,
        user=spec.user,
        password=spec.password,
        tls=spec.tls,
        tls_sha256=spec.tls_sha256,
        timeout_s=spec.timeout_s,
        interface=spec.interface,
    )
