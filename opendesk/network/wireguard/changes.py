"""What is done to a peer of the interface."""

from attrs import field, frozen


@frozen
class Put:
    """Make the peer, or make it so. It gets exactly these allowed IPs; another peer that had one loses it.

    `keepalive` in seconds, 0 is off. Of `endpoint` and `preshared_key` None leaves what is there; an empty preshared key takes it off.
    """

    public_key: str
    allowed_ips: tuple[str, ...]
    keepalive: int
    endpoint: str | None = None
    preshared_key: str | None = field(default=None, repr=False)


@frozen
class Remove:
    """Take the peer off the interface. One that isn't there is no fault."""

    public_key: str


Change = Put | Remove
