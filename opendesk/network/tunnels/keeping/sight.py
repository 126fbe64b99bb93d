"""What was last read of the interface, and whether it can be read at all; and the turn of whoever changes it."""

from collections.abc import Callable, Sequence
import math

from attrs import define, field
import structlog
import trio

from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.rounds import Rounds
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.dump import Interface
from opendesk.network.wireguard.wg import Refused, Wg, WgError

log = structlog.get_logger()


@define(eq=False)
class Sight:
    """Whoever wants to read at the same time shares one reading. A failed one is no interface that is empty: what was read stays.

    `expected_key` is the public key that routers know the interface by; where nobody says so, the first that it is seen with.
    """

    wg: Wg
    _now: Callable[[], float]
    _figures: TunnelFigures
    expected_key: str | None = None
    turn: trio.Lock = field(factory=trio.Lock)  # to set something
    interface: Interface | None = None
    read_unix: float = 0.0  # when that reading began
    _read_s: float = -math.inf  # the same, by Trio's clock
    _fault: str | None = None
    _has_key: bool = True
    _other_key: str | None = None  # that was told of
    _is_quiet: bool = False  # nothing was set while it was read
    _sets: int = 0  # begun
    _reads: Rounds[Interface | WgError] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reads = Rounds(self._read)

    async def apply(self, changes: Sequence[Change]) -> None:
        """When nobody else sets anything. Raise WgError."""
        async with self.turn:
            await self.set(changes)

    async def set(self, changes: Sequence[Change]) -> None:
        """For who has the turn."""
        self._sets += 1
        await self.wg.apply(changes)

    def was_quiet(self, interface: Interface) -> bool:
        """Whether this is the last reading and nothing was set meanwhile: what isn't in it isn't there."""
        return self._is_quiet and interface is self.interface

    async def read(self) -> Interface:
        """The interface as it is now. Raise WgError."""
        found = await self._reads.ask()
        if isinstance(found, WgError):
            raise type(found)(*found.args)  # one for each: an exception gathers where it came by
        return found

    async def look(self, max_age_s: float) -> Interface:
        """The same, or what was read so short a time ago."""
        if self.interface is not None and self._fault is None and self.age_s <= max_age_s:
            await trio.lowlevel.checkpoint()
            return self.interface
        return await self.read()

    @property
    def age_s(self) -> float:
        return trio.current_time() - self._read_s

    async def _read(self) -> Interface | WgError:
        began_s, began_unix = trio.current_time(), self._now()
        was_quiet, sets = not self.turn.locked(), self._sets
        try:
            found = await self.wg.read()
        except WgError as error:
            failure = hinted(error)
            self._failed(failure)
            return failure
        self.interface, self._read_s, self.read_unix = found, began_s, began_unix
        self._is_quiet = was_quiet and not self.turn.locked() and sets == self._sets
        self._figures.interface_is(up=True)
        if self._fault is not None:
            log.warning("tunnel.interface_back", interface=self.wg.interface, peers=len(found.peers))
            self._fault = None
        self._look_at_key(found.public_key)
        return found

    def _look_at_key(self, key: str | None) -> None:
        """Each fault is said once. With another key than routers know, none of them reaches the interface."""
        if self._has_key and key is None:
            log.warning("tunnel.interface_without_key", interface=self.wg.interface, hint="opendesk tunnel init")
        self._has_key = key is not None
        if key is None:
            return
        self.expected_key = self.expected_key or key
        other = None if key == self.expected_key else key
        if other not in {None, self._other_key}:
            log.error("tunnel.key_differs", interface=self.wg.interface, public_key=key, routers_know=self.expected_key)
        self._other_key = other
        self._figures.key_is(other=other is not None)

    def _failed(self, error: WgError) -> None:
        """Said once, until it works again or fails in another way."""
        self._figures.interface_is(up=False)
        if (fault := str(error)) != self._fault:
            self._fault = fault
            log.warning(
                "tunnel.interface_unreadable", interface=self.wg.interface, kind=type(error).__name__, error=fault
            )


def hinted(error: WgError) -> WgError:
    """With what to do about it, where that is known: an interface that can't be read mostly isn't there."""
    if not isinstance(error, Refused):
        return error
    return Refused(f"{error} (where there is no such interface, `opendesk tunnel init` makes it)")
