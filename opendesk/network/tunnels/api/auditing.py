"""Each change is audited: that it was asked for, and what came of it. No secret is among the facts."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import trio

from opendesk.errors import OpenDeskError
from opendesk.network.removing import Removed
from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.tunnels.errors import WireguardUnavailable
from opendesk.network.tunnels.registry.device import Registered
from opendesk.ops.audit import Audit

DEVICE_PUT: Final = "TUNNEL_DEVICE_PUT"
DEVICE_REMOVE: Final = "TUNNEL_DEVICE_REMOVE"
DEVICE_SYNC: Final = "TUNNEL_DEVICE_SYNC"
ROUTER_REGISTER: Final = "TUNNEL_ROUTER_REGISTER"
ROUTER_REMOVE: Final = "TUNNEL_ROUTER_REMOVE"
MANAGER_REGISTER: Final = "TUNNEL_MANAGER_REGISTER"
BOOTSTRAP: Final = "TUNNEL_BOOTSTRAP"
PEER_BIND: Final = "TUNNEL_PEER_BIND"
PEER_REMOVE: Final = "TUNNEL_PEER_REMOVE"
ROUTER_PROBE: Final = "TUNNEL_ROUTER_PROBE"
ROUTER_APPLY: Final = "TUNNEL_ROUTER_APPLY"

# Of a router or an interface that is away, and of what is missing here (a key, a setting) and takes an operator.
AWAY_RETRY_S: Final = 5
_MISSING_RETRY_S: Final = 300


def became(registered: Registered) -> dict[str, str]:
    """What a registration did, to which device."""
    return {"device": registered.device.id, "became": registered.outcome.value}


def went(removed: Removed | None) -> dict[str, int]:
    """What went with a router."""
    return {} if removed is None else {"jobs": removed.jobs, "grants": removed.grants}


@contextmanager
def audited(audit: Audit, action: str, trace_id: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Facts that are known only afterwards are added to what is yielded.

    Of what isn't meant to go wrong, only the kind is told: a text of the database may quote a row.
    """
    audit.attempt(action, trace_id, **facts)
    try:
        yield facts
    except OpenDeskError as error:
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE and error.retry_after_s is None:
            is_away = isinstance(error, (RouterUnavailable, WireguardUnavailable))
            error.retry_after_s = AWAY_RETRY_S if is_away else _MISSING_RETRY_S
        audit.failure(action, trace_id, error=f"{error.code}: {error}", **facts)
        raise
    except Exception as error:
        audit.failure(action, trace_id, error=type(error).__name__, **facts)
        raise
    except trio.Cancelled:  # this daemon ends, or the call took too long: what was begun may be done or not
        audit.failure(action, trace_id, error="cancelled", **facts)
        raise
    audit.success(action, trace_id, **facts)
