"""The fields of an imported entry: each in the spellings it has had, and how it is read."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field, frozen

from opendesk.errors import Misfit
from opendesk.network.addresses import ip_address, mac_address
from opendesk.network.tunnels.registry.device import checked_meta
from opendesk.network.wireguard import keys, prefixes
from opendesk.settings.addresses import host
from opendesk.settings.routers import PASSWORD, ROUTER_ID, USER
from opendesk.settings.secret import Secret
from opendesk.settings.values import integer

# Objects whose members count as the entry's own.
GROUPS: Final = ("wireguard", "mikrotik")

# As the API takes them.
TOKEN_MAX: Final = 128
DEVICE_NAME_MAX: Final = 128


@frozen
class Token:
    """A device behind a hotspot. Only the hash of its token is kept."""

    token: Secret[str]
    router_id: str
    ip: str
    mac: str


@frozen
class Field:
    """`parse` raises ValueError that goes on after the field's name."""

    names: tuple[str, ...]
    parse: Callable[[Any], Any]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text")
    return value


def _of_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: parse(_text(value).strip())


# As `wg` says it, and as files say it that were filled in from forms.
_NONE: Final = ("", "(none)")


def _or_none(parse: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda text: None if text.strip() in _NONE else parse(text)


def _secret(parse: Callable[[str], str | None]) -> Callable[[Any], Secret[str] | None]:
    return lambda value: None if (text := parse(_text(value))) is None else Secret(text)


def _router_id(text: str) -> str:
    if not ROUTER_ID.fullmatch(text):
        raise ValueError(f"does not fit {ROUTER_ID.pattern}")
    return text


def _user(text: str) -> str:
    if not USER.fullmatch(text):
        raise ValueError("is empty, too long, or has a control character")
    return text


def _password(text: str) -> str:
    if not PASSWORD.fullmatch(text):
        raise ValueError("is too long, or has a NUL or half a character in it")
    return text


def _allowed_ips(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else [part for part in _text(value).split(",") if part.strip()]
    for number, part in enumerate(parts, 1):
        try:
            prefixes.prefix(_text(part).strip())
        except ValueError as error:
            raise ValueError(f"has a part (number {number}) that {error}") from None
    return prefixes.allowed_ips(part.strip() for part in parts)


def _address(text: str) -> str:
    """`10.200.0.7/32` is how some tools write a host."""
    bare, slash, bits = text.partition("/")
    if slash and bits != ("128" if ":" in bare else "32"):
        raise ValueError("is a network, not an address")
    return prefixes.tunnel_ip(bare)


def _number(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("is not a whole number")
        return integer(low, high).parse(str(value))

    return parse


def _keepalive(value: object) -> int:
    return 0 if value == "off" else _number(0, prefixes.KEEPALIVE_MAX_S)(value)


def _meta(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    try:
        checked_meta(value)
    except Misfit as error:
        raise ValueError(error.detail.removeprefix("meta ")) from None
    return value


def _device_name(text: str) -> str:
    if not 1 <= len(text) <= DEVICE_NAME_MAX:
        raise ValueError(f"is empty, or longer than {DEVICE_NAME_MAX} characters")
    _meta({"deviceName": text})
    return text


def _token(text: str) -> str:
    if not 1 <= len(text) <= TOKEN_MAX:
        raise ValueError(f"is empty, or longer than {TOKEN_MAX} characters")
    return text


FIELDS: Final[Mapping[str, Field]] = {
    "device_id": Field(("deviceId", "id", "device_id"), _of_text(_router_id)),
    "public_key": Field(
        ("publicKey", "mikrotikPublicKey", "peerPublicKey", "public_key", "wireguard.peerPublicKey", "wireguard.publicKey"),
        _of_text(keys.public_key),
    ),
    "allowed_ips": Field(
        ("allowedIps", "allowedIPs", "allowed_ips", "wireguard.allowedIps", "wireguard.allowedIPs"), _allowed_ips
    ),
    "tunnel_ip": Field(("tunnelIp", "tunnelIP", "tunnel_ip", "wireguard.tunnelIp"), _of_text(_address)),
    "endpoint": Field(("endpoint", "wireguard.endpoint"), _of_text(_or_none(prefixes.endpoint))),
    "keepalive": Field(
        ("keepalive", "keepAlive", "persistentKeepalive", "wireguard.keepalive", "wireguard.persistentKeepalive"), _keepalive
    ),
    "preshared_key": Field(
        ("presharedKey", "preshared_key", "wireguard.presharedKey"), _secret(_or_none(keys.preshared_key))
    ),
    "meta": Field(("meta",), _meta),
    "device_name": Field(("deviceName",), _of_text(_device_name)),
    "public_ip": Field(("mikrotik.publicIp", "publicIp"), _of_text(host)),
    "mikrotik_ip": Field(("mikrotikIp", "mikrotik_ip", "mikrotik.ip"), _of_text(_address)),
    "user": Field(("mikrotik.apiUser", "apiUser"), _of_text(_user)),
    "password": Field(("mikrotik.apiPassword", "apiPassword"), _secret(_password)),
    "port": Field(("mikrotik.apiPort", "apiPort"), _number(1, 65_535)),
}  # fmt: skip
TOKEN_FIELDS: Final[Mapping[str, Field]] = {
    "token": Field(("deviceToken", "token"), _secret(_token)),
    "router_id": Field(("mikId", "routerId", "router_id", "mikrotikId"), _of_text(_router_id)),
    "ip": Field(("ip", "ipAtual"), _of_text(ip_address)),
    "mac": Field(("mac", "macAtual"), _of_text(mac_address)),
}


@define
class Reader:
    """Takes fields out of an entry; what nobody asked for is `left`."""

    _given: dict[str, Any] = field(repr=False)
    left: list[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = list(self._given)

    def read(self, wanted: Mapping[str, Field]) -> dict[str, Any]:
        """Raise ValueError that names the field, and nothing of its value."""
        return {name: value for name, known in wanted.items() if (value := self._one(known)) is not None}

    def _one(self, known: Field) -> Any:
        found: list[Any] = []
        for name in known.names:
            if name in self.left:
                self.left.remove(name)
                try:
                    found.append(known.parse(self._given[name]))
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from None
        if any(value != found[0] for value in found):
            raise ValueError(f"{known.names[0]} is there twice, and differs")
        return found[0] if found else None

    def tokens(self, device_id: str | None) -> tuple[Token, ...]:
        """The entry's own, and those of its `tokens`; behind this device, unless they say which router."""
        found = []
        if set(TOKEN_FIELDS["token"].names) & set(self.left):
            found.append(_token_of(self.read(TOKEN_FIELDS), device_id))
        for given in self._inner():
            inner = Reader({name: value for name, value in given.items() if value is not None})
            found.append(_token_of(inner.read(TOKEN_FIELDS), device_id))
            self.left += [f"tokens.{name}" for name in inner.left]
        return tuple(found)

    def _inner(self) -> list[dict[str, Any]]:
        if "tokens" not in self.left:
            return []
        self.left.remove("tokens")
        given = self._given["tokens"]
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise ValueError("tokens is not an array of objects")
        return given


def _token_of(values: Mapping[str, Any], device_id: str | None) -> Token:
    complete = ({} if device_id is None else {"router_id": device_id}) | dict(values)
    if missing := [known.names[0] for name, known in TOKEN_FIELDS.items() if name not in complete]:
        raise ValueError(f"a token has no {', '.join(missing)}")
    return Token(**complete)
