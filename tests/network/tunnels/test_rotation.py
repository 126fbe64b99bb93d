"""A new key takes over when it has shaken hands, and not before."""

import pytest

from opendesk.network.tunnels.keeping.rotation import ROTATION_LASTS_S, is_over, proven
from opendesk.network.wireguard.dump import Peer

SINCE = 1_790_000_000.7


def peer(handshake: int) -> Peer:
    return Peer("k", None, None, (), handshake, 0, 0, 25)


@pytest.mark.parametrize(
    ("handshake", "is_proven"),
    [(0, False), (1_789_999_999, False), (1_790_000_000, True), (1_790_000_001, True)],
)
def test_a_handshake_since_the_rotation_began_proves_the_key(handshake: int, is_proven: object) -> None:
    assert proven(SINCE, peer(handshake)) is is_proven


def test_no_peer_and_no_handshake_prove_nothing() -> None:
    assert not proven(SINCE, None)
    assert not proven(0.0, peer(0))


def test_a_rotation_is_over_after_a_day() -> None:
    assert not is_over(SINCE, SINCE + ROTATION_LASTS_S)
    assert is_over(SINCE, SINCE + ROTATION_LASTS_S + 1)
