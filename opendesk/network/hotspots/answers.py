"""What callers are told of what became of their action."""

from typing import Any, Final
from uuid import UUID

from attrs import frozen

from opendesk.errors import OpenDeskError
from opendesk.network.hotspots.errors import ActionFailed, RouterConflict, RouterDoesNotHold, RouterRefused, Superseded
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs.shapes import JobView
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable, TunnelSilent

# The circuit is tried again within a minute by default; a router that was just missed, sooner.
_SHUT_RETRY_S: Final = 30
_AWAY_RETRY_S: Final = 5

# By what the executor puts before the text of an error.
_KNOWN: Final[dict[str, type[OpenDeskError]]] = {
    kind.code: kind for kind in (RouterUnavailable, CircuitOpen, RouterRefused, RouterConflict, RouterDoesNotHold)
}


@frozen
class HelloAnswer:
    ok: bool
    device_token: str
    mik_id: str
    ip_atual: str
    mac_atual: str


@frozen
class Held:
    """What the router was seen to hold, or not to hold any more; `until` is null where there is no end."""

    ok: bool
    changed: bool
    mik_id: str
    pedido_id: str | None
    ip: str | None
    mac: str | None
    until: str | None
    dry_run: bool
    job_id: str


@frozen
class Pending:
    """The router is slow: the job goes on, and `GET /relay/jobs/{id}` tells of it."""

    ok: bool
    pending: bool
    job_id: str


Told = Held | Pending


def told(work: Work, view: JobView | None, job: UUID) -> Told:
    """Raise what went wrong. What can be tried again goes on by itself, and `jobId` says where."""
    if view is None or _only_waits(view):
        return Pending(ok=True, pending=True, job_id=str(job))
    if view.state != "done":
        raise _failure(view)
    result: dict[str, Any] = view.result
    if work.kind is not Kind.REVOKE and not result["online"]:
        raise Superseded(
            "it was revoked, or its time was over, before the router was asked", members={"jobId": str(job)}
        )
    place = work.places[0]
    return Held(
        ok=True,
        changed=result["changed"],
        mik_id=work.router,
        pedido_id=work.pedido_id,
        ip=place.ip,
        mac=place.mac,
        until=None if work.kind is Kind.REVOKE else result["until"],
        dry_run=result["dryRun"],
        job_id=str(job),
    )


def circuit_open(router: str, job: UUID) -> CircuitOpen:
    detail = f"router {router} failed too often and is tried again soon; the job waits for it"
    return CircuitOpen(detail, retry_after_s=_SHUT_RETRY_S, members={"jobId": str(job)})


def tunnel_silent(router: str, job: UUID) -> TunnelSilent:
    detail = f"nothing has been heard of the tunnel of router {router} for too long; the job waits for it"
    return TunnelSilent(detail, retry_after_s=_SHUT_RETRY_S, members={"jobId": str(job)})


def _only_waits(view: JobView) -> bool:
    """For something that is none of the router's: another daemon, or the database."""
    return view.state in {"due", "running"} and _said(view)[0] not in _KNOWN


def _said(view: JobView) -> tuple[str, str]:
    code, _, detail = (view.last_error or "").partition(": ")
    return code, detail


def _failure(view: JobView) -> OpenDeskError:
    code, detail = _said(view)
    kind = _KNOWN.get(code, ActionFailed)
    retry_after_s = {RouterUnavailable: _AWAY_RETRY_S, CircuitOpen: _SHUT_RETRY_S}.get(kind)
    return kind(detail or view.last_error, retry_after_s=retry_after_s, members={"jobId": str(view.id)})
