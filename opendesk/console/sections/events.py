"""Events of the backend, and the ACKs that it is told by."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from opendesk.console.shapes import Figure, Plot, Row, Section, State, Table
from opendesk.console.texts import NOTHING, clock, cut, number
from opendesk.network.events.looking import COUNT_AT_MOST, EventView
from opendesk.network.glance import EventsToday, Lanes

EVENTS_SHOWN: Final = 50

_STATES: Final = {"waiting": State.QUIET, "done": State.OK, "refused": State.WARN, "failed": State.BAD}


@frozen(kw_only=True)
class EventFacts:
    waiting: int | None = None
    today: EventsToday | None = None
    lanes: Lanes | None = None
    last: Sequence[EventView] = ()


def events(facts: EventFacts, plot: Plot, now: datetime) -> Section:
    today, lanes = facts.today, facts.lanes
    failing = 0 if lanes is None else lanes.acks_failing
    figures = (
        Figure("waiting", "Not decided yet", number(facts.waiting, most=COUNT_AT_MOST)),
        Figure("done", "Done today (UTC)", _up_to(today.done, is_more=today.is_more) if today else NOTHING),
        _bad("refused", "Refused today", today.refused if today else None, today, State.WARN),
        _bad("failed", "Failed today", today.failed if today else None, today, State.BAD),
        Figure(
            "acks",
            "ACKs waiting",
            number(lanes.acks if lanes else None),
            State.WARN if failing else State.OK,
            f"{number(failing)} failed before" if failing else "",
        ),
        Figure("last", "Last received", clock(today.last_at, now) if today else NOTHING),
    )
    table = Table(
        "events",
        "Last events",
        ("Event", "State", "Type", "Router", "Order", "Received", "Executed", "ACK", "Reason"),
        tuple(_event(one, now) for one in facts.last[:EVENTS_SHOWN]),
        "No event was ever received.",
        order="the last first",
    )
    return Section("events", "Events", figures, (plot,), (table,))


def _bad(key: str, label: str, count: int | None, today: EventsToday | None, state: State) -> Figure:
    is_more = today is not None and today.is_more_wrong
    return Figure(key, label, _up_to(count, is_more=is_more), state if count else State.OK)


def _up_to(count: int | None, *, is_more: bool) -> str:
    return number(count, most=count if is_more else None)


def _event(one: EventView, now: datetime) -> Row:
    acked = "not wanted" if not one.wants_ack else "waiting" if one.acked_at is None else clock(one.acked_at, now)
    cells = (
        cut(one.name or one.id_hash),
        one.state,
        cut(one.type or NOTHING),
        cut(one.router_id or NOTHING),
        cut(one.pedido_id or NOTHING),
        clock(one.received_at, now),
        clock(one.executed_at, now),
        acked,
        cut(one.reason or ""),
    )
    # An id may have any characters: the hash is fit for a key.
    key = f"{one.id_hash[:32]}{'-dry' if one.dry_run else ''}"
    return Row(key, cells, _STATES[one.state], why=one.event_id)
