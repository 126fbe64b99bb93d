"""Changes, put on the interface: one that `wg` refuses doesn't keep back the others."""

from collections.abc import Sequence
from typing import Final

from attrs import define
import structlog

from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.wg import Refused

log = structlog.get_logger()

# Of one pass. To find one among ten thousand takes some 14 calls more; where nearly all are refused it isn't the changes' fault.
REFUSED_MAX: Final = 10


@define(eq=False)
class Applying:
    _sight: Sight
    _refused: int = 0

    async def all_of(self, changes: Sequence[Change]) -> None:
        """In their order. Raise WgError where it isn't one of them that is bad."""
        try:
            await self._sight.apply(changes)
        except Refused as error:
            await self._sight.read()  # raises if there is no interface
            if len(changes) == 1:
                self._refuse(changes[0], error)
                return
            for half in (changes[: len(changes) // 2], changes[len(changes) // 2 :]):
                await self.all_of(half)

    def _refuse(self, change: Change, error: Refused) -> None:
        log.warning("tunnel.change_refused", public_key=change.public_key, error=str(error))
        self._refused += 1
        if self._refused >= REFUSED_MAX:
            raise error
