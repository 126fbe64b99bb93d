"""What hotspots refuse, and why."""

from collections.abc import Sequence

from opendesk.errors import NotFound, OpenDeskError
from opendesk.network.hotspots.found import Actual
from opendesk.network.hotspots.plan import Conflict
from opendesk.network.hotspots.steps import Step
from opendesk.network.routeros.errors import Trap


class DeviceNotFound(NotFound):
    """There is no device with this token."""

    code = "DEVICE_NOT_FOUND"


class RouterMismatch(OpenDeskError):
    """The device is behind another router."""

    status, code = 409, "ROUTER_MISMATCH"


class GrantEnded(OpenDeskError):
    """The time of this order is over."""

    status, code = 409, "GRANT_ENDED"


class InTheWay(OpenDeskError):
    """A row on the router that isn't ours keeps the device out. `seen` is what the last look showed."""

    status, code = 409, "ROUTER_CONFLICT"

    def __init__(self, conflicts: Sequence[Conflict], seen: Actual | None = None) -> None:
        super().__init__("; ".join(map(str, conflicts)))
        self.conflicts = tuple(conflicts)
        self.seen = seen


class NotHeld(OpenDeskError):
    """The router doesn't hold what it was told. `seen` is what the last look showed."""

    status, code = 502, "ROUTER_DOES_NOT_HOLD"

    def __init__(self, left: Sequence[Step], traps: Sequence[Trap], seen: Actual | None = None) -> None:
        said = "; ".join(dict.fromkeys(str(trap) for trap in traps)) or "it said that it was done"
        steps = ", ".join(f"{step.menu}/{step.verb}" for step in left)
        super().__init__(f"still to do: {steps} ({said})")
        self.left = tuple(left)
        self.traps = tuple(traps)
        self.seen = seen


class ActionNotAllowed(OpenDeskError):
    """There is no such action here."""

    status, code = 403, "ACTION_NOT_ALLOWED"


class RouterConflict(OpenDeskError):
    """A row on the router that isn't ours keeps the device out."""

    status, code = 409, InTheWay.code


class RouterDoesNotHold(OpenDeskError):
    """The router doesn't hold what it was told."""

    status, code = 502, NotHeld.code


class RouterRefused(OpenDeskError):
    """The router refused what it was told."""

    status, code = 502, "ROUTER_REFUSED"


class Superseded(OpenDeskError):
    """Somebody asked for the contrary meanwhile."""

    status, code = 409, "SUPERSEDED"


class ActionFailed(OpenDeskError):
    """The action failed on the router."""

    status, code = 502, "ACTION_FAILED"
