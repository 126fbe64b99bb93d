"""What callers are told of routers."""

from opendesk.errors import NotFound, OpenDeskError


class RouterNotFound(NotFound):
    """There is no router of this id."""

    code = "ROUTER_NOT_FOUND"


class RouterUnavailable(OpenDeskError):
    """The router can't be reached."""

    status, code = 503, "ROUTER_UNAVAILABLE"


class TunnelSilent(RouterUnavailable):
    """The tunnel to the router has been silent for too long."""


class CircuitOpen(OpenDeskError):
    """The router failed too often; it is tried again soon."""

    status, code = 503, "CIRCUIT_OPEN"


class SealingUnavailable(OpenDeskError):
    """RELAY_MASTER_KEY is not set: nothing can be sealed or opened."""

    status, code = 503, "SEALING_UNAVAILABLE"


class CannotOpen(OpenDeskError):
    """What is sealed can't be opened."""

    status, code = 500, "SEAL_NOT_OPENED"
