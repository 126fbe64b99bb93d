"""What a row of the registry asks of the interface."""

from attrs import evolve, field, frozen

from opendesk.network.routers.errors import CannotOpen, SealingUnavailable
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.keeping.plan import Left, Wanted
from opendesk.network.tunnels.registry.device import Device, preshared_key_of
from opendesk.network.wireguard.endpoints import is_name


@frozen
class Known:
    """A device, as far as the interface is concerned. With a `fault` its peers are left as they are.

    `name` is where it is dialled, if that has to be looked up. A rotation is proven by a handshake since `proves_since_unix`: when it
    began by the database's clock, or when it was first seen by ours.
    """

    id: str
    public_key: str
    next_public_key: str | None
    next_since_unix: float | None
    proves_since_unix: float | None
    tunnel_ip: str | None
    allowed_ips: tuple[str, ...]  # which are its own with a fault, too
    peers: tuple[Wanted, ...]  # by the present key, and the next one
    name: str | None
    undialled: tuple[Wanted, ...]  # the same peers where there is a name, without it
    fault: str | None
    sealed: tuple[bytes | None, bytes | None] = field(repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.public_key,) if self.next_public_key is None else (self.public_key, self.next_public_key)


def known_of(row: Device, sealer: Sealer, before: Known | None, now_unix: float) -> Known:
    """`before` itself where nothing has changed. What was opened before isn't opened again."""
    sealed = (row.preshared_key_sealed, row.next_preshared_key_sealed)
    fault: str | None = None
    peers: tuple[Wanted, ...] = ()
    try:
        peers = _peers(row, _opened(row, sealed, sealer, before))
    except (CannotOpen, SealingUnavailable) as error:
        fault = f"its preshared key can't be opened: {error.detail}"
    since = None if row.next_since is None else row.next_since.timestamp()
    proves = _proves_since(row.next_public_key, since, before, now_unix)
    name = row.endpoint if is_name(row.endpoint) else None
    undialled = () if name is None else tuple(evolve(peer, endpoint=None) for peer in peers)
    made = Known(
        row.id, row.public_key, row.next_public_key, since, proves, row.tunnel_ip, row.allowed_ips, peers, name, undialled, fault, sealed
    )  # fmt: skip
    return before if before is not None and made == before else made


def _proves_since(
    next_key: str | None, since_unix: float | None, before: Known | None, now_unix: float
) -> float | None:
    """Handshakes are told by this machine's clock, which may be behind the database's."""
    if since_unix is None:
        return None
    if before is not None and (before.next_public_key, before.next_since_unix) == (next_key, since_unix):
        return before.proves_since_unix
    return min(since_unix, now_unix)


def _opened(
    row: Device, sealed: tuple[bytes | None, bytes | None], sealer: Sealer, before: Known | None
) -> tuple[str | None, str | None]:
    """Of the present key and of the next, which takes over the present one's if it has none of its own."""
    opened: dict[bytes | None, str | None] = {None: None}
    if before is not None:
        opened |= dict(zip(before.sealed, (peer.preshared_key for peer in before.peers), strict=False))
        opened[None] = None
    for one in sealed:
        if one is not None and one not in opened:
            opened[one] = sealer.open(one, about=preshared_key_of(row.id)).reveal()
    present, following = sealed
    return opened[present], opened[present if following is None else following]


def _peers(row: Device, preshared_keys: tuple[str | None, str | None]) -> tuple[Wanted, ...]:
    present = Wanted(row.public_key, row.allowed_ips, row.keepalive, row.endpoint, preshared_keys[0], row.id)
    if row.next_public_key is None:
        return (present,)
    # Its allowed IPs come when it has proven itself.
    return present, Wanted(row.next_public_key, (), row.keepalive, row.endpoint, preshared_keys[1], row.id)


def left_of(one: Known) -> tuple[Left, ...]:
    """Its peers, which can't be put: the present key has its addresses."""
    return tuple(Left(key, one.allowed_ips if key == one.public_key else (), one.id) for key in one.keys)


def redialled(one: Known, before: Known | None) -> set[str]:
    """Its keys if it is to be dialled elsewhere than before."""
    if before is None or not one.peers or not before.peers or before.peers[0].endpoint == one.peers[0].endpoint:
        return set()
    return {one.public_key}
