"""What was last read of the interface, and whether it can be read at all."""

from collections.abc import Callable, Sequence
import math

from attrs import define, field
import structlog
import trio

from opendesk.network.tunnels.keeping.rounds import Rounds
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.dump import Interface
from opendesk.network.wireguard.wg import Wg, WgError

log = structlog.get_logger()


@define(eq=False)
class Sight:
    """Whoever wants to read at the same time shares one reading. A failed one is no interface that is empty: what was read stays."""

    wg: Wg
    _now: Callable[[], float]
    interface: Interface | None = None
    read_unix: float = 0.0  # when that reading began
    _read_s: float = -math.inf  # the same, by Trio's clock
    _fault: str | None = None
    _has_key: bool = True
    _is_quiet: bool = False  # nothing was set while it was read
    _setting: int = 0  # just now
    _sets: int = 0  # begun
    _reads: Rounds[Interface | WgError] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._reads = Rounds(self._read)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Raise WgError."""
        self._setting, self._sets = self._setting + 1, self._sets + 1
        try:
            await self.wg.apply(changes)
        finally:
            self._setting -= 1

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
        was_quiet, sets = self._setting == 0, self._sets
        try:
            found = await self.wg.read()
        except WgError as error:
            self.failed(error)
            return error
        self.interface, self._read_s, self.read_unix = found, began_s, began_unix
        self._is_quiet = was_quiet and sets == self._sets
        if self._fault is not None:
            log.warning("tunnel.interface_back", interface=self.wg.interface, peers=len(found.peers))
            self._fault = None
        if self._has_key and found.public_key is None:
            log.warning("tunnel.interface_without_key", interface=self.wg.interface, hint="opendesk tunnel init")
        self._has_key = found.public_key is not None
        return found

    def failed(self, error: WgError) -> None:
        """Said once, until it works again or fails in another way."""
        if (fault := str(error)) != self._fault:
            self._fault = fault
            log.warning(
                "tunnel.interface_unreadable", interface=self.wg.interface, kind=type(error).__name__, error=fault
            )
