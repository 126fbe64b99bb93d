"""Rooms of the relay with their rates."""

from typing import Final

from opendesk.console.sections.kept import Kept
from opendesk.console.shapes import Figure, Plot, Row, Section, State, Table
from opendesk.console.texts import NOTHING, number, size
from opendesk.stream.glance import Elsewhere, RelaySeen, RoomSeen

ROOMS_SHOWN: Final = 500

_ORDER: Final = {State.BAD: 0, State.WARN: 1, State.OK: 2, State.QUIET: 3}


def relay(seen: RelaySeen, elsewhere: Elsewhere | None, plot: Plot, kept: Kept[RoomSeen]) -> Section:
    rows = sorted(kept.rows((str(room.session), room) for room in seen.rooms), key=lambda row: _ORDER[row.state])
    figures = (
        Figure("rooms", "Rooms", number(len(seen.rooms)), note=_elsewhere(elsewhere)),
        Figure("sockets", "Sockets", number(seen.sockets)),
        Figure("rate", "From hosts", size(seen.bytes_per_s, per_s=True)),
        Figure("dropped", "Dropped in open rooms", number(sum(room.dropped for room in seen.rooms))),
        Figure("refused", "Sockets refused since the start", number(seen.refused)),
    )
    table = Table(
        "rooms",
        "Rooms of this daemon",
        ("Session", "State", "Host", "Clients", "Rate", "Messages/s", "Passed on", "Waiting", "Dropped"),
        tuple(rows[:ROOMS_SHOWN]),
        "Nobody streams through the relay here.",
        max(0, len(rows) - ROOMS_SHOWN),
    )
    return Section("relay", "Relay", figures, (plot,), (table,))


def room_row(key: str, room: RoomSeen) -> Row:
    state, word = _state(room)
    cells = (
        key,
        word,
        "here" if room.has_host else "gone",
        number(room.clients),
        size(room.bytes_per_s, per_s=True),
        number(room.messages_per_s),
        size(room.relayed_bytes),
        size(room.queued),
        number(room.dropped),
    )
    return Row(key, cells, state, why=key)


def _state(room: RoomSeen) -> tuple[State, str]:
    if not room.is_active:
        return State.QUIET, "not started"
    if not room.has_host:
        return State.WARN, "without its host"
    if room.is_slow:
        return State.WARN, "a client is too slow"
    return State.OK, "streaming" if room.clients else "nobody watches"


def _elsewhere(others: Elsewhere | None) -> str:
    if others is None:
        return f"{NOTHING} at other daemons"
    return f"{number(others.rooms)} more at {others.nodes} other daemons" if others.rooms else ""
