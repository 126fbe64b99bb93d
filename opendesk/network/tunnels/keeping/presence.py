"""Which devices are there, by how long ago their tunnels shook hands; and who went, or came back."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from attrs import define, field, frozen

from opendesk.network.wireguard.dump import Peer

Status = Literal["ONLINE", "OFFLINE", "NEVER_CONNECTED"]
STATUSES: Final[tuple[Status, ...]] = ("ONLINE", "OFFLINE", "NEVER_CONNECTED")


@frozen
class Transition:
    """`age_s` is how long ago the last handshake was; `is_first`: there had been none before."""

    device_id: str
    public_key: str
    to: Status
    age_s: float
    is_first: bool = False


def age_of(handshake_unix: int, now_unix: float) -> float | None:
    """None: there was none. One that is still to come (the clock was set back) was just now."""
    return max(0.0, now_unix - handshake_unix) if handshake_unix else None


def status_of(handshake_unix: int, now_unix: float, online_s: float) -> Status:
    age_s = age_of(handshake_unix, now_unix)
    if age_s is None:
        return "NEVER_CONNECTED"
    return "ONLINE" if age_s <= online_s else "OFFLINE"


def count(peers: Iterable[Peer], now_unix: float, online_s: float) -> dict[Status, int]:
    """Of every peer of the interface, whoever asked for it."""
    found = dict.fromkeys(STATUSES, 0)
    for peer in peers:
        found[status_of(peer.handshake_unix, now_unix, online_s)] += 1
    return found


@define
class Presence:
    """A device is told of by its id: it stays itself when its key changes.

    An interface that was made anew knows of no handshake. What was last seen of one still counts then, so that this alone is no
    transition. Where no keepalive is asked for, silence says nothing, and so there is none either.
    """

    online_s: float
    _handshakes: dict[str, int] = field(factory=dict)  # by device, of those seen
    _statuses: dict[str, Status] = field(factory=dict)

    def look(self, peers: Mapping[str, Peer], devices: Mapping[str, str], now_unix: float) -> list[Transition]:
        """`devices`: their keys by their ids. The first sight of a device is no transition; those that are no more are forgotten."""
        for device_id in self._statuses.keys() - devices.keys():
            del self._statuses[device_id], self._handshakes[device_id]
        return list(self._transitions(peers, devices, now_unix))

    def _transitions(
        self, peers: Mapping[str, Peer], devices: Mapping[str, str], now_unix: float
    ) -> Iterator[Transition]:
        for device_id, public_key in devices.items():
            peer, before = peers.get(public_key), self._statuses.get(device_id)
            if peer is None and before is None:
                continue
            handshake = peer.handshake_unix if peer is not None else 0
            self._handshakes[device_id] = handshake = handshake or self._handshakes.get(device_id, 0)
            status = status_of(handshake, now_unix, self.online_s)
            if status == "OFFLINE" and before == "ONLINE" and (peer is None or not peer.keepalive):
                continue
            self._statuses[device_id] = status
            if before not in {None, status}:
                age_s = age_of(handshake, now_unix) or 0.0
                yield Transition(device_id, public_key, status, age_s, is_first=before == "NEVER_CONNECTED")

    def silence_s(self, device_id: str, now_unix: float) -> float | None:
        """For how long it has been silent; None where it isn't known, or there never was a handshake."""
        return age_of(self._handshakes.get(device_id, 0), now_unix)
