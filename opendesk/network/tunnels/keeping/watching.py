"""Devices that fall silent and come back: told once, counted, and known to who would send them something."""

from collections import Counter
from collections.abc import Callable, Mapping
import math
from typing import Final

from attrs import define, field
import structlog
import trio

from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping import presence
from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.presence import Presence, Transition
from opendesk.network.wireguard.dump import Interface

log = structlog.get_logger()

# What was seen of devices is looked at every ten seconds. When it is older than some of these looks, nobody knows.
STALE_S: Final = 60.0
# Lines of one look. When the server itself was cut off, so were ten thousand devices, and one line says so.
LINES_MAX: Final = 100


@define(eq=False)
class Watch:
    """`came_back` is given tunnel IPs, all of a look at once. Silent is who was so for longer than `max_age_s`; 0: nobody ever is."""

    _figures: TunnelFigures
    _online_s: float
    _max_age_s: float
    came_back: Callable[[frozenset[str]], None]
    _presence: Presence = field(init=False)
    _silences_s: dict[str, float] = field(factory=dict)  # by tunnel IP
    _silent_peers_s: dict[str, float] = field(factory=dict)  # by public key
    _looked_s: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self._presence = Presence(self._online_s)

    async def look(self, interface: Interface, devices: Mapping[str, Known], now_unix: float) -> None:
        """In four steps, of ten milliseconds each where there are ten thousand devices. `now_unix`: when it was read."""
        devices = dict(devices)
        keys = {one.id: one.public_key for one in devices.values()}
        transitions = self._presence.look(interface.peers, keys, now_unix)
        await trio.lowlevel.checkpoint()
        self._figures.peers_are(presence.count(interface.peers.values(), now_unix, self._online_s))
        await trio.lowlevel.checkpoint()
        silences_s = self._silent(interface, devices, now_unix)
        await trio.lowlevel.checkpoint()
        self._silent_peers_s = self._silent_peers(interface, devices, now_unix)
        back = self._silences_s.keys() - silences_s.keys()
        self._silences_s, self._looked_s = silences_s, trio.current_time()
        self._tell(transitions)
        hosts = {devices[one.device_id].tunnel_ip for one in transitions if one.to == "ONLINE"}
        if found := frozenset(back) | {host for host in hosts if host is not None}:
            self.came_back(found)

    def _silent(self, interface: Interface, devices: Mapping[str, Known], now_unix: float) -> dict[str, float]:
        """Where no keepalive is asked for, silence says nothing."""
        found = {}
        for one in devices.values():
            peer = interface.peers.get(one.public_key)
            if not self._max_age_s or one.tunnel_ip is None or peer is None or not peer.keepalive:
                continue
            age_s = self._presence.silence_s(one.id, now_unix)
            if age_s is not None and age_s > self._max_age_s:
                found[one.tunnel_ip] = age_s
        return found

    def _silent_peers(self, interface: Interface, devices: Mapping[str, Known], now_unix: float) -> dict[str, float]:
        """Whoever put them there. A device is itself by the key that it had as well as by the one that it is to have."""
        of_key = {key: one for one in devices.values() for key in one.keys}
        found = {}
        for key, peer in interface.peers.items() if self._max_age_s else ():
            if not peer.keepalive:
                continue
            ages_s = [presence.age_of(peer.handshake_unix, now_unix)]
            if _longer(ages_s[0], self._max_age_s) and (one := of_key.get(key)) is not None:
                peers = [other for other in map(interface.peers.get, one.keys) if other is not None]
                ages_s += [presence.age_of(other.handshake_unix, now_unix) for other in peers]
                ages_s.append(self._presence.silence_s(one.id, now_unix))
            age_s = min((age_s for age_s in ages_s if age_s is not None), default=None)
            if _longer(age_s, self._max_age_s):
                found[key] = math.inf if age_s is None else age_s
        return found

    def _tell(self, transitions: list[Transition]) -> None:
        for to, count in Counter(one.to for one in transitions).items():
            self._figures.turned(to, count)
        for one in transitions[:LINES_MAX]:
            event = "tunnel.peer_back" if one.to == "ONLINE" else "tunnel.peer_offline"
            log.info(event, device=one.device_id, age_s=round(one.age_s), first=one.is_first)
        if len(transitions) > LINES_MAX:
            log.warning("tunnel.many_peers_turned", count=len(transitions) - LINES_MAX)

    def nothing_seen(self) -> None:
        """Nobody is said to be silent because nobody can look."""
        if self._silences_s and self._is_stale:
            back, self._silences_s = frozenset(self._silences_s), {}
            self.came_back(back)

    @property
    def _is_stale(self) -> bool:
        return trio.current_time() - self._looked_s > STALE_S

    def peer_silent_for(self, public_key: str) -> float | None:
        """For how many seconds this peer of the interface has been silent, if that is too long; infinite if nothing was ever heard of it."""
        return None if self._is_stale else self._silent_peers_s.get(public_key)

    def offline_for(self, host: str) -> float | None:
        """For how many seconds the device of this tunnel IP has been silent, if that is too long to send it anything."""
        return None if self._is_stale else self._silences_s.get(host)


def _longer(age_s: float | None, max_age_s: float) -> bool:
    """Than never heard of nothing is."""
    return age_s is None or age_s > max_age_s
