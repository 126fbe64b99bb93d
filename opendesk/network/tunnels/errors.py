"""What tunnels refuse, and why."""

from opendesk.errors import NotFound, OpenDeskError


class DeviceNotFound(NotFound):
    """There is no device of this id."""

    code = "DEVICE_NOT_FOUND"


class BindingNotFound(NotFound):
    """Nothing is bound to this public key."""

    code = "BINDING_NOT_FOUND"


class AllowedIpsTaken(OpenDeskError):
    """Another device holds one of these allowed IPs."""

    status, code = 409, "ALLOWED_IPS_TAKEN"


class TunnelIpTaken(OpenDeskError):
    """Another device has this tunnel IP, or another router is dialled there."""

    status, code = 409, "TUNNEL_IP_TAKEN"


class PublicKeyTaken(OpenDeskError):
    """Another device has this public key."""

    status, code = 409, "PUBLIC_KEY_TAKEN"


class RotationChangesMore(OpenDeskError):
    """With another public key something else is to change, too."""

    status, code = 409, "ROTATION_CHANGES_MORE"


class PoolExhausted(OpenDeskError):
    """No tunnel IP is free (WG_TUNNEL_POOL)."""

    status, code = 409, "TUNNEL_POOL_EXHAUSTED"


class TooManyDevices(OpenDeskError):
    """There are as many devices as one interface is meant for."""

    status, code = 409, "TOO_MANY_DEVICES"


class TooManyBindings(OpenDeskError):
    """There are as many bindings as one interface is meant for."""

    status, code = 409, "TOO_MANY_BINDINGS"


class TunnelsOff(OpenDeskError):
    """No tunnels are kept by this daemon (WG_INTERFACE)."""

    status, code = 503, "TUNNELS_OFF"


class WireguardUnavailable(OpenDeskError):
    """The tunnel's interface can't be read or changed at the moment."""

    status, code = 503, "WIREGUARD_UNAVAILABLE"


class VpsConfigMissing(OpenDeskError):
    """Routers can't be told where to dial (WG_VPS_PUBLIC_KEY, WG_VPS_ENDPOINT)."""

    status, code = 500, "VPS_CONFIG_MISSING"
