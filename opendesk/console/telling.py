"""A chain, told to somebody who asks why: each event with the job that does it and its ACKs, each grant with its end. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from opendesk.console.told import Told, Tone, when
from opendesk.network.events.acks import ACK_EVENT
from opendesk.network.events.chain import Chain, DeviceView, GrantView, RouterView
from opendesk.network.events.looking import EventView
from opendesk.network.hotspots.work import Kind, end_key
from opendesk.network.jobs import JobView
from opendesk.network.routers.lanes import router_of

_STATES: Final[Mapping[str, Tone]] = {"done": "good", "failed": "bad", "refused": "warn", "waiting": "wait"}
_ENDED: Final = {
    "revoked": "revoked",
    "moved": "moved on with its device",
    "expired": "its time was over",
    "removed": "its router was removed",
    "released": "the trial gave way to a paid order",
    "failed": "its way could not be opened",
}
# A job's end and what it says of its event are one statement's.
_ONE_TIME: Final = timedelta(seconds=1)


def chain_told(chain: Chain) -> Iterator[Told]:
    for device in (*([chain.device] if chain.device else []), *chain.devices):
        yield _device_tree(device)
    told = set()
    for event in chain.events:
        mine = [job for job in chain.jobs if job.id == event.job_id or _is_ack_of(job, event)]
        told |= {job.id for job in mine}
        yield _event_tree(event, mine, chain)
    for job in chain.jobs:
        if job.id not in told and job.type not in {Kind.END, ACK_EVENT}:
            told.add(job.id)
            yield job_tree(Told(job_title(job), ids=(router_of(job.lane),)), job, chain)
    for grant in chain.grants:
        ends = [job for job in chain.jobs if job.key == end_key(grant.id)]
        told |= {job.id for job in ends}
        yield _grant_tree(grant, ends, chain)
    for job in chain.jobs:  # whose grant or event is no longer there
        if job.id not in told:
            yield job_tree(Told(job_title(job), ids=(router_of(job.lane),)), job, chain)


def cut_lines(chain: Chain) -> list[str]:
    return [f"… there are more {kind} than are told here" for kind in chain.cut]


def _device_tree(device: DeviceView) -> Told:
    tree = Told(f"device {device.mac} {device.ip} on {device.router_id}", ids=(device.ip, device.router_id))
    tree.add(f"first seen {when(device.created_at)}, last {when(device.seen_at)}")
    for ip, mac in device.addresses:
        tree.add(f"was at {ip} {mac}")
    return tree


# ---- events


def _event_tree(event: EventView, jobs: Sequence[JobView], chain: Chain) -> Told:
    who = event.name or f"with the hash {event.id_hash}"
    pretended = " (dry run)" if event.dry_run else ""
    tree = Told(f"event {who}: {event.state}{pretended}", _STATES[event.state], ids=(event.name,) if event.name else ())
    if event.details_gone:
        tree.add("its details have been deleted by age (EVENTS_RETENTION_DAYS); it never runs again")
    else:
        order = "" if event.pedido_id is None else f", order {event.pedido_id}"
        tree.add(
            f"{event.type or 'of no type'}: device {event.mac or '-'} {event.ip or '-'} on router {event.router_id or '-'}{order}",
            ids=(event.ip, event.router_id, event.pedido_id),
        )
    tree.add(f"received {when(event.received_at)}" + ("" if event.source is None else f" from the {event.source}"))
    if event.validated_at is not None:
        tree.add(f"validated {when(event.validated_at)}")
    if event.routed_at is not None:
        tree.add(f"router checked {when(event.routed_at)}: it is known")
    for job in jobs:
        if job.type != ACK_EVENT:
            job_tree(tree.add(job_title(job), ids=(router_of(job.lane),)), job, chain)
    if event.job_id is not None and not any(job.id == event.job_id for job in jobs):
        tree.add(f"job {event.job_id}: deleted by age")
    tree.add(_decision(event), _STATES[event.state])
    _tell_ack(tree, event, [job for job in jobs if job.type == ACK_EVENT], chain)
    return tree


def _decision(event: EventView) -> str:
    if event.ok is None:
        return "executed: not yet"
    error = event.result.get("error") if isinstance(event.result, dict) else None
    how = "done" if event.ok else event.state
    return f"executed {when(event.executed_at)}: " + "; ".join(str(part) for part in (how, event.reason, error) if part)


def _tell_ack(tree: Told, event: EventView, acks: Sequence[JobView], chain: Chain) -> None:
    if event.acked_at is not None:
        before = min(
            (job.finished_at for job in acks if job.state == "done" and job.finished_at), default=event.acked_at
        )
        first = f", the first time {when(before)}" if before < event.acked_at - _ONE_TIME else ""
        acked = tree.add(f"acked {when(event.acked_at)}: the backend took it{first}", "good")
    elif not acks:
        wants = event.wants_ack and not event.details_gone
        tree.add("acked: when it is decided" if wants and event.ok is None else "acked: no ACK is waiting")
        return
    else:
        acked = tree.add("acked: not yet", "warn")
    for job in acks:
        job_tree(acked.add(job_title(job)), job, chain)


def _is_ack_of(job: JobView, event: EventView) -> bool:
    return job.type == ACK_EVENT and job.key == event.id_hash and job.lane.startswith("/") != event.dry_run


# ---- jobs


def job_title(job: JobView) -> str:
    tried = f"{job.outcomes} tries ended" if job.outcomes != 1 else "1 try ended"
    return f"job {job.id} {job.type} on {router_of(job.lane)}: {job.state}, {tried}"


def job_tree(tree: Told, job: JobView, chain: Chain) -> Told:
    tree.add(f"added {when(job.created_at)}" + ("" if job.finished_at is None else f", over {when(job.finished_at)}"))
    if job.state in {"due", "running"}:
        tree.add(waiting_for(job, chain), "wait")
    if job.last_error is not None:
        tree.add(f"last error: {job.last_error}", "bad" if job.state == "dead" else "warn")
    if isinstance(job.result, dict):
        _tell_result(tree, job.result)
    if job.state == "dead":
        tree.add(f"it can be tried again: opendesk jobs replay {job.id}")
    return tree


def _tell_result(tree: Told, result: Mapping[str, Any]) -> None:
    facts = {name: value for name, value in result.items() if name != "steps"}
    if facts:
        tree.add("result: " + ", ".join(f"{name} {'-' if value is None else value}" for name, value in facts.items()))
    steps = result.get("steps")
    if not isinstance(steps, list):
        return
    commands = tree.add(f"commands: {len(steps)}" if steps else "commands: none, the router held it already")
    for step in steps:
        commands.add(_step(step))


def _step(step: Mapping[str, Any]) -> str:
    row = f" {step['row']}" if step.get("row") else ""
    attributes = "".join(f" {name}={value}" for name, value in (step.get("attributes") or {}).items())
    return f"{step.get('menu')} {step.get('verb')}{row}{attributes} ({step.get('why')})"


def waiting_for(job: JobView, chain: Chain) -> str:
    """What has to happen before it is tried."""
    if job.state == "running":
        return "a daemon is at it now"
    earlier = [
        other.id
        for other in chain.jobs
        if (other.lane, other.key) == (job.lane, job.key) and other.id < job.id and other.state in {"due", "running"}
    ]
    if earlier:
        return f"waits for job {earlier[0]}, which came before it"
    router = next((router for router in chain.routers if router.router_id == router_of(job.lane)), None)
    if job.type != ACK_EVENT and (held_up := _held_up(router)) is not None:
        return held_up
    if job.run_at > chain.now:
        return f"waits for its time, {when(job.run_at)}"
    return "waits for a daemon that sends ACKs (BACKEND_ACK_URL)" if job.type == ACK_EVENT else "waits for its turn"


def _held_up(router: RouterView | None) -> str | None:
    if router is None or not router.is_driven:
        return "waits for a daemon that drives its router"
    if router.open_until is None:
        return None
    error = "" if router.last_error is None else f" ({router.last_error}, {when(router.last_error_at)})"
    return f"waits for its router, whose circuit is open until a probe goes well, next {when(router.open_until)}{error}"


# ---- grants


def _grant_tree(grant: GrantView, ends: Sequence[JobView], chain: Chain) -> Told:
    kind = "trial" if grant.trial else "grant"
    state = "live" if grant.ended_at is None else "over"
    pretended = " (dry run)" if grant.dry_run else ""
    title = f"{kind} of order {grant.pedido_id} for {grant.mac} {grant.ip} on {grant.router_id}: {state}{pretended}"
    tree = Told(title, ids=(grant.pedido_id, grant.ip, grant.router_id))
    time = "until it is revoked" if grant.duration_s is None else f"for {grant.duration_s} s"
    tree.add(f"given {when(grant.created_at)}, {time}")
    if grant.begun_at is not None:
        tree.add(f"its time began {when(grant.begun_at)}, until {when(grant.until)}")
    elif grant.duration_s is not None and grant.ended_at is None:
        tree.add("its time hasn't begun: the router doesn't hold it yet", "wait")
    if grant.opening_at is not None:
        tree.add(f"opening sent {when(grant.opening_at)}")
    tree.add(
        "never seen on the router"
        if grant.observed_at is None
        else f"first seen on the router {when(grant.observed_at)}",
    )
    if grant.ended_at is not None:
        tree.add(f"ended {when(grant.ended_at)}: {_ENDED.get(grant.end_reason or '', grant.end_reason)}")
    for job in ends:
        job_tree(tree.add(f"its end: {job_title(job)}"), job, chain)
    return tree
