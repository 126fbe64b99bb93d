"""What client and host are told of a stream: the ways to it, and the tokens that go with them. Nothing is done here."""

from datetime import datetime
from enum import StrEnum
from ipaddress import IPv6Address
import re
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from attrs import field, frozen

from opendesk.errors import OpenDeskError
from opendesk.rental.lifecycle import NetworkProvider, Status
from opendesk.stream import tokens
from opendesk.stream.tokens import Role

# The contract's: where hosts send from, if a host says nothing else, and where they take input, always.
VIDEO_PORT: Final = 5004
INPUT_PORT: Final = 5505

STREAMABLE: Final = (Status.PENDING, Status.ACTIVE)
RELAY_PATH: Final = "/stream/relay"

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NAME_AND_PORT: Final = re.compile(rf"({_NAME.pattern})(?::([0-9]{{1,5}}))?")
_BRACKETS_AND_PORT: Final = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_LARGEST_PORT: Final = 65535


class SessionNotStreamable(OpenDeskError):
    """The session is over."""

    status, code = 409, "SESSION_NOT_STREAMABLE"


class MissingHostAddress(OpenDeskError):
    """The host has not said where its PC is reached."""

    status, code = 409, "MISSING_HOST_ADDRESS"


class NoRelayUrl(Exception):
    """What the caller's request says of its way here makes no URL."""


class TransportMode(StrEnum):
    """A way from host to client."""

    UDP_LAN = "UDP_LAN"
    RELAY_WS = "RELAY_WS"


class StreamState(StrEnum):
    """STARTING until the client has started the session."""

    ACTIVE = "ACTIVE"
    STARTING = "STARTING"


@frozen
class PcAddress:
    """How a PC is reached, in its host's words."""

    network_provider: str
    connect_address: str | None
    connection_host: str | None
    connection_port: int | None


@frozen
class Granted:
    """What was written of a stream: until when its tokens admit, and where."""

    status: str
    stream_expires_at: datetime
    stream_url: str


@frozen
class RelayWay:
    """Over the relay. `token` is the caller's own."""

    mode: TransportMode
    url: str
    role_client: str
    role_host: str
    session_id: UUID
    stream_id: str
    token: str = field(repr=False)
    token_expires_at: datetime


@frozen
class LanWay:
    """Directly. An IPv6 `host` stands without brackets."""

    mode: TransportMode
    host: str
    video_port: int
    input_port: int


@frozen
class Transport:
    """`lan` is null for a PC that is reached through the relay only."""

    recommended: TransportMode
    relay: RelayWay
    lan: LanWay | None


@frozen
class StreamStarted:
    """The outer `token` is the same for client and host: by it they know each other on a direct way. `connectAddress` is `host:videoPort`, an IPv6 host in brackets."""

    session_id: UUID
    session_status: Status
    stream_state: StreamState
    host: str | None
    video_port: int | None
    input_port: int | None
    stream_id: str
    token: str = field(repr=False)
    token_expires_at: datetime
    connect_address: str | None
    transport: Transport


def direct_way(pc: PcAddress) -> LanWay | None:
    """None for a PC behind the relay. Raise MissingHostAddress if its host told none that can be read."""
    if pc.network_provider == NetworkProvider.RELAY:
        return None
    told = [_parted(text) for text in (pc.connection_host, pc.connect_address) if text]
    host = next((host for host, _ in told if host), None)
    if host is None:
        raise MissingHostAddress
    ports = (pc.connection_port, *(port for _, port in told))
    return LanWay(TransportMode.UDP_LAN, host, next((port for port in ports if port), VIDEO_PORT), INPUT_PORT)


def _parted(text: str) -> tuple[str | None, int | None]:
    """Host and port of what a host wrote, where a bare IPv6 address will do, too; the host without brackets, None if it is none."""
    if text.count(":") > 1 and _is_ipv6(text):
        return text, None
    return _authority(text) or (None, None)


def _authority(text: str) -> tuple[str, int | None] | None:
    """Host and port of `name`, `name:port`, `[IPv6 address]` or `[IPv6 address]:port`, as in a URL."""
    match = _NAME_AND_PORT.fullmatch(text) or _BRACKETS_AND_PORT.fullmatch(text)
    if match is None or (text.startswith("[") and not _is_ipv6(match[1])):
        return None
    port = int(match[2]) if match[2] else None
    return (match[1], port) if port is None or 0 < port <= _LARGEST_PORT else None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def relay_url(public_url: str | None, scheme: str, host: str) -> str:
    """The relay's URL: under PUBLIC_URL, else where the caller's request went. Raise NoRelayUrl if that has no host, or one that can't be."""
    if public_url is not None:
        url = urlsplit(public_url)
        return f"{_ws(url.scheme)}://{url.netloc}{url.path.rstrip('/')}{RELAY_PATH}"
    if _authority(host) is None:
        raise NoRelayUrl
    return f"{_ws(scheme)}://{host}{RELAY_PATH}"


def _ws(scheme: str) -> str:
    return {"http": "ws", "https": "wss"}[scheme]


def answer(key: bytes, session: UUID, role: Role, user: UUID, *, lan: LanWay | None, granted: Granted) -> StreamStarted:
    """What this user, who is `role` in the session, is told."""
    shared, own = tokens.shared_token(key, session), tokens.own_token(key, session, role, user)
    relay = RelayWay(
        mode=TransportMode.RELAY_WS,
        url=granted.stream_url,
        role_client=Role.CLIENT,
        role_host=Role.HOST,
        session_id=session,
        stream_id=tokens.stream_id(own),
        token=own,
        token_expires_at=granted.stream_expires_at,
    )
    recommended = TransportMode.RELAY_WS if lan is None else TransportMode.UDP_LAN
    return StreamStarted(
        session_id=session,
        session_status=Status(granted.status),
        stream_state=StreamState.ACTIVE if granted.status == Status.ACTIVE else StreamState.STARTING,
        host=None if lan is None else lan.host,
        video_port=None if lan is None else lan.video_port,
        input_port=None if lan is None else lan.input_port,
        stream_id=tokens.stream_id(shared),
        token=shared,
        token_expires_at=granted.stream_expires_at,
        connect_address=None if lan is None else _joined(lan),
        transport=Transport(recommended, relay, lan),
    )


def _joined(lan: LanWay) -> str:
    return f"[{lan.host}]:{lan.video_port}" if ":" in lan.host else f"{lan.host}:{lan.video_port}"
