"""What the calls take: strict shapes, and their addresses in canonical spelling."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final

from attrs import frozen
from msgspec import Meta

from opendesk.errors import FieldFault
from opendesk.network.addresses import ip_address, mac_address
from opendesk.network.hotspots.place import Place
from opendesk.web.reading import refused

# As MIKROTIK_NODES has them.
MikId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$", title="a router's id", examples=["hotspot-1"])]
# It goes into a comment on the router, whatever is in it.
PedidoId = Annotated[str, Meta(min_length=1, max_length=128, examples=["10442"])]
# Ours have 22 characters; those of the system before had their own.
DeviceToken = Annotated[str, Meta(min_length=1, max_length=128)]
# As `addresses` reads them, for the published schema.
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FIRST_OCTET = r"([1-9]|[1-9][0-9]|1([01][0-9]|2[0-689]|[3-9][0-9])|2([01][0-9]|2[0-3]))"
_HEX, _FIRST_HEX = "[0-9A-Fa-f]{2}", "[0-9A-Fa-f][02468ACEace]"
Address = Annotated[
    str,
    Meta(
        pattern=rf"^{_FIRST_OCTET}(\.{_OCTET}){{3}}$",
        title="the IPv4 address of one device, such as 10.5.50.12",
        examples=["10.5.50.12"],
    ),
]
Mac = Annotated[
    str,
    Meta(
        pattern=rf"^(?!(00[:-]?){{6}}$|(0000\.){{2}}0000$){_FIRST_HEX}"
        rf"((:{_HEX}){{5}}|(-{_HEX}){{5}}|{_HEX}(\.{_HEX}{_HEX}){{2}}|({_HEX}){{5}})$",
        title="the MAC address of one device, such as AA:BB:CC:DD:EE:FF",
        examples=["AA:BB:CC:DD:EE:FF"],
    ),
]
UserAgent = Annotated[str, Meta(max_length=1000)]
# 240 days: RouterOS has no time-outs of more than 248.
MOST_MINUTES: Final = 345_600
Minutes = Annotated[int, Meta(ge=1, le=MOST_MINUTES, description="how long; without it, until it is revoked")]
TraceId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


def _given(*names: str) -> dict[str, Any]:
    """For the published schema: these are there, and not null."""
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


@frozen
class Hello:
    mik_id: MikId
    ip: Address
    mac: Mac
    device_token: DeviceToken | None = None
    user_agent: UserAgent | None = None


@frozen
class AuthorizeByPedido:
    """A device by its token, or by the address that it has now."""

    mik_id: MikId
    pedido_id: PedidoId
    device_token: DeviceToken | None = None
    ip_atual: Address | None = None
    mac_atual: Mac | None = None
    minutes: Minutes | None = None

    SCHEMA_EXTRA: ClassVar = {"anyOf": [_given("deviceToken"), _given("ipAtual", "macAtual")]}


@frozen
class ResyncDevice:
    mik_id: MikId
    pedido_id: PedidoId
    device_token: DeviceToken
    ip_atual: Address
    mac_atual: Mac


@frozen
class RevokeSession:
    """Of a device by its address, by its MAC, or by both together."""

    mik_id: MikId
    ip: Address | None = None
    mac: Mac | None = None

    SCHEMA_EXTRA: ClassVar = {"anyOf": [_given("ip"), _given("mac")]}


# The allowlist of `/relay/action`, and what each takes.
ACTIONS: Final[dict[str, type]] = {
    "AUTHORIZE_BY_PEDIDO": AuthorizeByPedido,
    "RESYNC_DEVICE": ResyncDevice,
    "REVOKE_SESSION": RevokeSession,
}


@frozen
class ActionCall:
    action: Annotated[str, Meta(min_length=1, max_length=64, examples=["AUTHORIZE_BY_PEDIDO"])]
    payload: dict[str, Any]
    source: Annotated[str, Meta(max_length=64)] | None = None
    trace_id: TraceId | None = None

    SCHEMA_EXTRA: ClassVar = {
        "anyOf": [
            {"properties": {"action": {"const": name}, "payload": {"$ref": f"#/components/schemas/{cls.__name__}"}}}
            for name, cls in ACTIONS.items()
        ]
    }


def place_of(ip: str | None, mac: str | None, ip_field: str = "ip", mac_field: str = "mac") -> Place:
    """At least one of them. Raise ValidationFailed with all that is wrong."""
    if ip is None and mac is None:
        raise refused([FieldFault(f"/{ip_field}", f"is missing, and so is {mac_field}")])
    faults = list[FieldFault]()
    place = Place(_read(ip_address, ip, ip_field, faults), _read(mac_address, mac, mac_field, faults))
    if faults:
        raise refused(faults)
    return place


def whole_place_of(ip: str | None, mac: str | None, ip_field: str = "ip", mac_field: str = "mac") -> Place:
    """Both of them."""
    missing = [name for name, value in ((ip_field, ip), (mac_field, mac)) if value is None]
    if missing:
        raise refused([FieldFault(f"/{name}", "is missing") for name in missing])
    return place_of(ip, mac, ip_field, mac_field)


def _read(parse: Callable[[str], str], value: str | None, name: str, faults: list[FieldFault]) -> str | None:
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        faults.append(FieldFault(f"/{name}", str(error)))
        return None
