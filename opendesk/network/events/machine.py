"""What is to be done about an event, by what is known when it comes. Pure: who asks does it, and nothing else."""

from attrs import frozen

from opendesk.network.events.types import Event, Invalid, Reason, Type


@frozen
class Known:
    """`peer_silent_s` is None while the peer is heard of, or nobody knows it; `is_over`: the order had its time, or its trial."""

    router_known: bool
    circuit_open: bool = False
    peer_silent_s: float | None = None
    is_over: bool = False


@frozen
class Open:
    """Grant it, and let its job open the way."""

    trial: bool


@frozen
class Close:
    """Take away what is granted there, and let its job close the way."""


@frozen
class Wait:
    """`then` is written down as if nothing were in the way; its job waits, without using up attempts, until that is over."""

    reason: Reason
    then: Open | Close


@frozen
class Refuse:
    """It is decided: it never takes effect."""

    reason: Reason
    error: str


Action = Open | Close | Wait | Refuse


def decide(event: Event | Invalid, known: Known) -> Action:
    if isinstance(event, Invalid):
        return Refuse(event.reason, event.error)
    if not known.router_known:
        return Refuse(Reason.VALIDATION, f"there is no router {event.router}")
    if known.is_over and event.type is not Type.REVOKE_REQUESTED:
        return Refuse(Reason.GRANT_ENDED, _over(event))
    then = _wanted(event)
    reason = waits_for(event, known)
    return then if reason is None else Wait(reason, then)


def waits_for(event: Event, known: Known) -> Reason | None:
    """The circuit is asked first: who doesn't answer at all is silent for that."""
    if known.circuit_open:
        return Reason.CIRCUIT_OPEN
    if event.peer is not None and known.peer_silent_s is not None:
        return Reason.PEER_OFFLINE
    return None


def _wanted(event: Event) -> Open | Close:
    if event.type is Type.REVOKE_REQUESTED:
        return Close()
    return Open(trial=event.type is Type.TRIAL_REQUESTED)


def _over(event: Event) -> str:
    if event.type is Type.TRIAL_REQUESTED:
        return f"the order {event.pedido} had its trial, or its time, on {event.router}"
    return f"the time of the order {event.pedido} is over on {event.router}"
