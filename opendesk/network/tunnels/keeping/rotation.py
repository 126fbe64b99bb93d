"""A device's new key beside its old one: when it takes over, and when it has had its time.

While both are on the interface the old one has the allowed IPs and the new one none: a handshake works without. So what a router
sends goes through the old tunnel until the new one is proven.
"""

from typing import Final

from opendesk.network.wireguard.dump import Peer

# A router that is off for the night still gets its new key in the morning.
ROTATION_LASTS_S: Final = 24 * 3600.0


def proven(since_unix: float, peer: Peer | None) -> bool:
    """Whether the new key has shaken hands since. Handshakes are told in whole seconds: one of the same second counts."""
    return peer is not None and peer.handshake_unix >= max(1, int(since_unix))


def is_over(next_since_unix: float, now_unix: float) -> bool:
    return now_unix - next_since_unix > ROTATION_LASTS_S
