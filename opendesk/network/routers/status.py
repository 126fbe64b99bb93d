"""How a router is, for people: no secrets."""

from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from attrs import evolve, frozen
import trio

from opendesk.network.routers.health import Health
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.routers.states import StoredState, within
from opendesk.network.routers.worker import MAX_AT_ONCE, Worker

Circuit = Literal["closed", "open", "half-open"]
MikStatus = Literal["ONLINE", "UNREACHABLE", "AUTH_FAILED", "UNKNOWN"]
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"
UNKNOWN: Final = "UNKNOWN"


@frozen(kw_only=True)
class BreakerStatus:
    """`half-open`: its time is over, and one probe decides."""

    state: Circuit
    failures: int
    open_until: datetime | None


@frozen(kw_only=True)
class LaneStatus:
    """What this daemon does with the router; nothing where another drives it."""

    connected: bool
    running: int
    room: int


@frozen(kw_only=True)
class RouterStatus:
    id: str
    host: str
    port: int
    tls: bool
    source: str
    fault: str | None
    node: UUID | None  # which daemon drives it
    breaker: BreakerStatus
    lane: LaneStatus | None
    mik_status: MikStatus
    last_contact_at: datetime | None
    booted_at: datetime | None
    identity: str | None
    version: str | None
    last_error: str | None
    last_error_at: datetime | None


def status_of(spec: RouterSpec, stored: StoredState | None, worker: Worker | None) -> RouterStatus:
    """What this daemon drives is told as it is; the rest as it was written."""
    stored = stored or StoredState(router_id=spec.id)
    seen = stored if worker is None else _as_of_now(stored, worker.health)
    return RouterStatus(
        id=spec.id,
        host=spec.host,
        port=spec.port,
        tls=spec.tls,
        source=spec.source,
        fault=spec.fault,
        node=stored.node,
        breaker=BreakerStatus(state=_circuit(seen), failures=seen.failures, open_until=seen.open_until),
        lane=None if worker is None else _lane(worker),
        mik_status=_mik_status(seen),
        last_contact_at=seen.last_contact_at,
        booted_at=seen.booted_at,
        identity=seen.identity,
        version=seen.version,
        last_error=seen.last_error,
        last_error_at=seen.last_error_at,
    )


def _circuit(state: StoredState) -> Circuit:
    if state.open_until is None:
        return CLOSED
    return HALF_OPEN if state.is_due else OPEN


def _mik_status(state: StoredState) -> MikStatus:
    """By what came of the last try."""
    if state.refused:
        return "AUTH_FAILED"
    if state.failures or state.open_until is not None:
        return "UNREACHABLE"
    return UNKNOWN if state.last_contact_at is None else "ONLINE"


def _lane(worker: Worker) -> LaneStatus:
    running = min(worker.places.holders, MAX_AT_ONCE)
    return LaneStatus(connected=worker.is_connected, running=running, room=worker.room)


def _as_of_now(stored: StoredState, health: Health) -> StoredState:
    """Its times by the database's clock, which `stored` was read at."""
    now_s = trio.current_time()

    def at(moment_s: float | None) -> datetime | None:
        return (
            None if moment_s is None or stored.now is None else stored.now + timedelta(seconds=within(moment_s - now_s))
        )

    open_until_s = health.breaker.open_until_s
    return evolve(
        stored,
        failures=health.breaker.failures,
        open_until=at(open_until_s),
        is_due=open_until_s is not None and open_until_s <= now_s,
        last_contact_at=at(health.contact_s),
        booted_at=at(health.booted_s),
        identity=health.identity,
        version=health.version,
        refused=health.refused,
        last_error=health.error,
        last_error_at=at(health.error_s),
    )
