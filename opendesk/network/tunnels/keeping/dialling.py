"""Where peers are dialled: endpoints that are names, at their addresses as far as these are known."""

from collections.abc import Collection, Iterable

from attrs import define, field

from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.plan import Wanted
from opendesk.network.wireguard.endpoints import Names


@define(eq=False)
class Dialling:
    """Without `names`, as in a dry run, endpoints stay as they were asked for."""

    _names: Names | None = None
    _made: dict[str, tuple[Wanted, Wanted]] = field(factory=dict)  # by key: without the address, and with it

    def peers(self, known: Collection[Known]) -> dict[str, Wanted]:
        """By key; of ten thousand only a few are made anew. Where no address is known yet, nowhere."""
        peers = {peer.public_key: peer for one in known if one.name is None for peer in one.peers}
        named = [one for one in known if one.name is not None]
        if self._names is None:
            return peers | {peer.public_key: peer for one in named for peer in one.peers}
        addresses = self._names.addresses
        for one in named:
            address = addresses.get(one.name or "")
            for peer in one.undialled:
                peers[peer.public_key] = peer if address is None else self._at(peer, address)
        return peers

    def _at(self, peer: Wanted, address: str) -> Wanted:
        had = self._made.get(peer.public_key)
        if had is None or had[0] is not peer or had[1].endpoint != address:
            # `evolve` takes three times as long.
            made = Wanted(
                peer.public_key, peer.allowed_ips, peer.keepalive, address, peer.preshared_key, peer.device_id
            )
            had = self._made[peer.public_key] = peer, made
        return had[1]

    def are(self, known: Iterable[Known], stirred: Iterable[Known]) -> None:
        """All that there are now, and those of them or of before that have changed."""
        changed = list(stirred)
        for key in [key for one in changed for key in one.keys]:
            self._made.pop(key, None)
        if self._names is not None and any(one.name is not None for one in changed):
            self._names.want({one.name for one in known if one.name is not None})
