"""What callers are told when a router can't be set up."""

from collections.abc import Sequence

from opendesk.errors import OpenDeskError
from opendesk.network.routeros.errors import Trap
from opendesk.network.setup.steps import Step


class RouterRefused(OpenDeskError):
    """The router refused what it was told."""

    status, code = 502, "ROUTER_REFUSED"


class NotHeld(OpenDeskError):
    """The router doesn't hold what it was told."""

    status, code = 502, "ROUTER_DOES_NOT_HOLD"


class RowInTheWay(OpenDeskError):
    """A row on the router that isn't ours is in the way."""

    status, code = 409, "ROUTER_CONFLICT"


class TunnelLost(OpenDeskError):
    """The tunnel wasn't seen alive after the change; the router takes it back by itself within 5 minutes."""

    status, code = 502, "TUNNEL_LOST"


class UndoPending(OpenDeskError):
    """An earlier change wasn't proven, and the router is about to take it back by itself."""

    status, code = 409, "UNDO_PENDING"


class EndpointUnproven(OpenDeskError):
    """The router's tunnel works by another endpoint, and a wrong one couldn't be told from a right one here."""

    status, code = 409, "ENDPOINT_NOT_PROVABLE"


class OwnUser(OpenDeskError):
    """The technical user is the one that the router is driven as."""

    status, code = 409, "TECHNICAL_USER_IN_USE"


class ProbeFailed(OpenDeskError):
    """The router couldn't be asked who it is."""

    status, code = 502, "PROBE_ERROR"


class ProbeUnreachable(ProbeFailed):
    """The router can't be reached."""

    code = "UNREACHABLE"


class ProbeAuthFailed(ProbeFailed):
    """The router doesn't accept this user and password."""

    code = "AUTH_FAILED"


class ProbeTimeout(ProbeFailed):
    """The router didn't answer in time."""

    code = "TIMEOUT"


def refused(left: Sequence[Step], traps: Sequence[Trap], then: str = "") -> RouterRefused | NotHeld:
    """What wasn't done in spite of all, and what the router said of it."""
    told = "still to do: " + ", ".join(dict.fromkeys(f"{step.menu}/{step.verb}" for step in left))
    then = f"; {then}" if then else ""
    if traps:
        return RouterRefused(f"{told} ({'; '.join(dict.fromkeys(map(str, traps)))}){then}")
    return NotHeld(f"{told} (it said that it was done){then}")
