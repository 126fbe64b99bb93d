"""What was right and no longer is: counted, and told in the log. What a call has just asked for is none of it."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from attrs import define
import structlog

from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.plan import Desired, Drift, Kind, Plan, Wanted
from opendesk.network.wireguard.changes import Put

log = structlog.get_logger()

# Lines of one pass. When an interface was made anew ten thousand peers are missing, and one line says so.
LINES_MAX: Final = 20
# Keys that a line names.
NAMED_MAX: Final = 5


@define(eq=False)
class Drifts:
    """What it remembers of a pass is no more than the pass had."""

    _figures: TunnelFigures
    _right: Mapping[str, Wanted] = {}  # replaced, never changed
    _wrong: frozenset[str] = frozenset()  # of those
    _removed: frozenset[str] = frozenset()
    _unknown: frozenset[str] = frozenset()
    _held_back: int = 0

    def found(self, desired: Desired, plan: Plan, *, stirred: AbstractSet[str], removes_unknown: bool) -> None:
        """What a pass has found before it changed anything. Of keys that the registry has `stirred` meanwhile, calls may have put anything."""
        drift = [one for one in plan.drift if one.public_key not in stirred and self._is_news(one, desired)]
        for kind, count in Counter(one.kind for one in drift).items():
            self._figures.drifted(kind, count)
        told = [one for one in drift if one.kind is not Kind.UNKNOWN]
        for one in told[:LINES_MAX]:
            log.warning(
                "tunnel.drift", kind=one.kind.value, public_key=one.public_key, device=one.device_id, detail=one.detail
            )
        if len(told) > LINES_MAX:
            log.warning("tunnel.more_drift", count=len(told) - LINES_MAX)
        self._tell_unknown(plan, removes_unknown=removes_unknown)
        self._tell_taken(desired, plan)

    def _is_news(self, drift: Drift, desired: Desired) -> bool:
        key = drift.public_key
        if drift.kind is Kind.UNKNOWN:
            return key not in self._unknown
        if drift.kind is Kind.REMOVED:
            return key in self._removed
        want = desired.peers.get(key)  # none of a device that is left as it is: of that it isn't known what was right
        return key not in self._wrong and want is not None and self._right.get(key) == want

    def _tell_unknown(self, plan: Plan, *, removes_unknown: bool) -> None:
        self._figures.unknown_are(len(plan.unknown))
        if (unknown := frozenset(plan.unknown)) != self._unknown:
            self._unknown = unknown
            log.warning("tunnel.unknown_peers", count=len(unknown), some=plan.unknown[:NAMED_MAX])
        if not removes_unknown:
            return
        if plan.held_back and plan.held_back != self._held_back:
            log.warning("tunnel.mass_removal_held_back", count=plan.held_back, removed=len(unknown) - plan.held_back)
        self._held_back = plan.held_back

    @staticmethod
    def _tell_taken(desired: Desired, plan: Plan) -> None:
        """Of peers that aren't registered: whoever set them up should know, also if the device that owns the address came later."""
        taken = [one.public_key for one in plan.changes if isinstance(one, Put) and one.public_key not in desired.peers]
        if taken:
            log.warning("tunnel.overlap_taken_off", count=len(taken), some=taken[:NAMED_MAX])

    def left(self, desired: Desired, plan: Plan) -> None:
        """What a pass has left: all others are right now, or gone."""
        self._right, self._removed = desired.peers, desired.removed
        drift = (one.public_key for one in plan.drift if one.kind is not Kind.UNKNOWN)
        self._wrong = frozenset(drift) | {change.public_key for change in plan.changes}
