"""Tunnels with the ages of their handshakes."""

from collections.abc import Iterator
import heapq
from typing import Final

from attrs import frozen

from opendesk.console.shapes import Figure, Row, Section, State, Table
from opendesk.console.texts import NOTHING, age, cut, number, size
from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.presence import age_of, status_of
from opendesk.network.tunnels.keeping.reconcile import Glance
from opendesk.network.wireguard.dump import Peer

TUNNELS_SHOWN: Final = 200

_STATES: Final = {"OFFLINE": State.BAD, "NEVER_CONNECTED": State.QUIET, "ONLINE": State.OK, "MISSING": State.WARN}
_ORDER: Final = {State.BAD: 0, State.WARN: 1, State.OK: 2, State.QUIET: 3}


@frozen
class _Tunnel:
    device: Known
    peer: Peer | None
    status: str
    age_s: float | None

    @property
    def state(self) -> State:
        """The worse of how its tunnel is and whether it has a fault."""
        states = [_STATES[self.status], *([State.WARN] if self.device.fault else [])]
        return min(states, key=lambda state: _ORDER[state])


def tunnels(seen: Glance | None) -> Section:
    if seen is None:
        return _section((), 0, State.QUIET, "off: WG_INTERFACE isn't set")
    if seen.interface is None:
        faulty = sum(device.fault is not None for device in seen.devices.values())
        return _section((), len(seen.devices), State.BAD, "the interface can't be read", faulty=faulty)
    found = list(_found(seen))
    shown = heapq.nsmallest(TUNNELS_SHOWN, found, key=lambda one: (_ORDER[one.state], one.device.id))
    online = sum(one.status == "ONLINE" for one in found)
    offline = sum(one.status == "OFFLINE" for one in found)
    faulty = sum(one.device.fault is not None for one in found)
    rows = tuple(map(_row, shown))
    note = f"of {number(len(found))} devices"
    state = State.WARN if offline else State.OK
    return _section(rows, len(found), state, note, online=online, offline=offline, faulty=faulty)


def _section(
    rows: tuple[Row, ...],
    total: int,
    state: State,
    note: str,
    *,
    online: int | None = None,
    offline: int | None = None,
    faulty: int | None = None,
) -> Section:
    figures = (
        Figure("online", "Tunnels online", number(online), state, note),
        Figure("offline", "Silent", number(offline), State.BAD if offline else State.QUIET if total == 0 else State.OK),
        Figure(
            "faulty", "With a fault", number(faulty), State.WARN if faulty else State.QUIET if total == 0 else State.OK
        ),
    )
    table = Table(
        "tunnels",
        "Devices behind tunnels",
        ("Device", "State", "Last handshake", "Tunnel IP", "Heard from", "Received", "Sent", "Fault"),
        rows,
        "No device is behind a tunnel.",
        max(0, total - len(rows)),
    )
    return Section("tunnels", "Tunnels", figures, (), (table,))


def _found(seen: Glance) -> Iterator[_Tunnel]:
    assert seen.interface is not None
    for device in seen.devices.values():
        peer = seen.interface.peers.get(device.public_key)
        handshake = 0 if peer is None else peer.handshake_unix
        status = "MISSING" if peer is None else status_of(handshake, seen.read_unix, seen.online_s)
        yield _Tunnel(device, peer, status, age_of(handshake, seen.read_unix))


def _row(one: _Tunnel) -> Row:
    device, peer = one.device, one.peer
    cells = (
        device.id,
        _word(one),
        age(one.age_s),
        device.tunnel_ip or NOTHING,
        (peer and peer.endpoint) or NOTHING,
        size(peer.rx if peer else None),
        size(peer.tx if peer else None),
        cut(device.fault or ""),
    )
    return Row(device.id, cells, one.state)


def _word(one: _Tunnel) -> str:
    rotating = "" if one.device.next_public_key is None else ", key changes"
    words = {"MISSING": "not on the interface", "NEVER_CONNECTED": "never connected"}
    return words.get(one.status, one.status.lower()) + rotating
