"""What comes and goes in an hour's churn, one act a function. Whoever is answered other than expected raises RuntimeError."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
import json
import re
import socket
import struct
import time
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field, frozen

from opendesk.stream.outgoing import BINARY
from scripts.benchmarks.relay_sockets import Picture, Reader, enter, knock
from scripts.benchmarks.routers_devices import Device
from scripts.benchmarks.tunnels_world import new_key

Ids = Mapping[str, str]

_PICTURE: Final = Picture(16 * 1024, count=4)
_PICTURES: Final = 4
# A relay's rate limit is by address, user and session; ours all come from one address, and its limit is out of reach.
ANSWER_S: Final = 30.0
# Closed at once and with a reset, as when the power goes.
_TORN: Final = struct.pack("ii", 1, 0)
_SHOWN_CHARS: Final = 300
_OK: Final = (200, 201, 202, 204)
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
# A daemon that has too much to do says so, and wants to be asked later.
_BUSY: Final = (429, 503)
_NO_ROOM: Final = "HTTP/1.1 503"
_BEATS_AT_MOST: Final = 20
_BEAT_AGAIN_S: Final = 0.5


class Refused(Exception):
    """Not now, the daemon said, or nothing in time; it may have been done all the same."""


@define(eq=False)
class Caller:
    """One connection to the API, kept. What isn't answered in time, or with "later", is Refused; other answers than expected RuntimeError."""

    port: int
    _http: HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._http = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)

    def ask(
        self, method: str, path: str, token: str | None = None, body: object = None, *, expected: tuple[int, ...] = _OK
    ) -> Any:
        """The body of the answer. Asked once more, where a kept connection was closed meanwhile."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        sent = None if body is None else json.dumps(body)
        try:
            self._http.request(method, path, sent, headers)
            answer = self._http.getresponse()
        except (HTTPException, ConnectionError):
            self._http.close()
            self._http.request(method, path, sent, headers)
            answer = self._http.getresponse()
        data = answer.read()
        if answer.status in _BUSY and answer.status not in expected:
            raise Refused(f"{method} {_template(path)}: {answer.status}")
        if answer.status not in expected:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:_SHOWN_CHARS]!r}")
        return json.loads(data) if "json" in (answer.headers["Content-Type"] or "") else None

    def close(self) -> None:
        self._http.close()


def _template(path: str) -> str:
    """Without who it is about: refusals are counted by this."""
    return re.sub(r"/[^/?]*\d[^/?]*", "/…", path.partition("?")[0])


@frozen
class Town:
    """Who is there, and where."""

    port: int
    network_token: str
    accounts: list[Ids]  # with passwords
    admins: list[Ids]  # the same, for the console
    routers: list[str]


# ---- rentals


def ended(caller: Caller, renter: Ids) -> None:
    session = _rented(caller, renter)
    with _streamed(caller, renter, session) as (host, client):
        _show(host, client)
    caller.ask("POST", f"/sessions/{session}/end", renter["token"])


def killed(caller: Caller, renter: Ids) -> None:
    session = _rented(caller, renter)
    with _streamed(caller, renter, session) as (host, client):
        _show(host, client)
        host.sendall(_PICTURE.frame[: len(_PICTURE.frame) // 3])
        for sock in (host, client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _TORN)
    caller.ask("POST", f"/sessions/{session}/end", renter["token"])


def expired(caller: Caller, renter: Ids) -> None:
    """All but its time's end."""
    session = _rented(caller, renter)
    with _streamed(caller, renter, session) as (host, client):
        _show(host, client)


def abandoned(caller: Caller, renter: Ids) -> None:
    _created(caller, renter)


def _created(caller: Caller, renter: Ids) -> str:
    """A host that was silent says that it is back: a beat never waits for a PC that somebody is busy with, so it may take several."""
    for _ in range(_BEATS_AT_MOST):
        caller.ask("POST", f"/hosts/{renter['host']}/heartbeat", renter["host_token"])
        asked = {"pcId": renter["pc"], "minutesPurchased": 60}
        made = caller.ask("POST", "/sessions", renter["token"], asked, expected=(*_OK, _CONFLICT))
        if "session" in made:
            return str(made["session"]["id"])
        if made["code"] != "PC_OFFLINE":
            raise RuntimeError(f"no session on a PC whose host is there: {made['code']}")
        time.sleep(_BEAT_AGAIN_S)
    raise Refused("POST /sessions: PC_OFFLINE, though its host beats")


def _rented(caller: Caller, renter: Ids) -> str:
    session = _created(caller, renter)
    caller.ask("POST", f"/sessions/{session}/start", renter["token"])
    return session


@contextmanager
def _streamed(caller: Caller, renter: Ids, session: str) -> Any:
    """Both sides' sockets, closed at the end without a word."""
    host = _entered(caller, session, "host", renter["host_user"], renter["host_token"])
    with host, _entered(caller, session, "client", renter["user"], renter["token"]) as client:
        yield host, client


def _entered(caller: Caller, session: str, role: str, user: str, token: str) -> socket.socket:
    told = caller.ask("POST", f"/sessions/{session}/stream/start", token)["transport"]["relay"]
    names = {"sessionId": told["sessionId"], "streamId": told["streamId"], "token": told["token"]}
    sock = knock(caller.port, urlencode({"role": role, "userId": user, **names}))
    try:
        enter(sock)
    except RuntimeError as error:
        sock.close()
        if _NO_ROOM in str(error):
            raise Refused(f"GET /stream/relay: {_BUSY[1]}") from None
        raise
    sock.settimeout(ANSWER_S)
    return sock


def _show(host: socket.socket, client: socket.socket) -> None:
    """Pictures all the way: the client has had so many."""
    reader, seen = Reader(), 0
    for _ in range(_PICTURES):
        host.sendall(_PICTURE.frame)
    while seen < _PICTURES * _PICTURE.count:
        seen += sum(opcode == BINARY for opcode, _ in reader.read(client))


# ---- what else happens


def look(caller: Caller, town: Town, number: int) -> None:
    account = town.accounts[number % len(town.accounts)]
    looks: tuple[Callable[[], Any], ...] = (
        lambda: caller.ask("GET", "/auth/me", account["token"]),
        lambda: caller.ask("GET", f"/wallets/{account['user']}", account["token"]),
        lambda: caller.ask("GET", "/sessions?limit=20", account["token"]),
        lambda: caller.ask("GET", "/pcs", account["token"]),
        lambda: caller.ask("GET", "/metrics", town.network_token),
        lambda: caller.ask("GET", f"/sessions/{number}", account["token"], expected=(400, 404)),
        lambda: caller.ask("GET", "/auth/me", f"nobody's-{number}", expected=(401,)),
        lambda: caller.ask("POST", "/sessions", account["token"], {"pcId": number}, expected=(400, 422)),
        lambda: caller.ask("GET", f"/nowhere/{number}", expected=(404,)),
    )
    looks[number % len(looks)]()


def log_in(caller: Caller, town: Town, number: int) -> None:
    account = town.accounts[number % len(town.accounts)]
    asked = {"email": account["email"], "password": account["password"]}
    token = caller.ask("POST", "/auth/login", body=asked)["token"]
    caller.ask("GET", "/auth/me", token)
    if number % 5 == 0:
        wrong = {"email": f"nobody-{number}@example.org", "password": "not the right one"}
        caller.ask("POST", "/auth/login", body=wrong, expected=(401,))


def refused(caller: Caller, number: int) -> None:
    """At the relay: it answers the handshake, and says in a frame that this is nobody's room."""
    names = {"sessionId": f"00000000-0000-4000-8000-{number:012d}", "streamId": f"str_{number}", "token": "nobody's"}
    with knock(caller.port, urlencode({"role": "client", "userId": names["sessionId"], **names})) as sock:
        try:
            enter(sock)
        except RuntimeError:
            return
    raise RuntimeError("the relay let in a stranger")


def cut(caller: Caller, number: int) -> None:
    """A request that ends in its midst; every other one at its head."""
    head = b"POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"
    with socket.create_connection(("127.0.0.1", caller.port), timeout=ANSWER_S) as sock:
        sock.sendall(head + (b"\r\n" + b"x" * 400) * (number % 2))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _TORN)


def authorized(caller: Caller, town: Town, number: int) -> None:
    device = Device(number)
    router = town.routers[device.router(len(town.routers))]
    asked = {"mikId": router, "pedidoId": device.pedido, "ipAtual": device.ip, "macAtual": device.mac}
    try:
        caller.ask("POST", "/relay/authorize-by-pedido", town.network_token, asked)
    finally:  # a router that is away is told when it is back
        asked = {"mikId": router, "ip": device.ip, "mac": device.mac}
        caller.ask("POST", "/relay/revoke", town.network_token, asked)


def tunnel(caller: Caller, town: Town, number: int) -> None:
    name = f"bus-{number}"
    asked = {
        "deviceId": name,
        "publicKey": new_key(),
        "allowedIps": [f"10.200.{number // 250 % 250}.{number % 250 + 2}/32"],
    }
    try:
        caller.ask("POST", "/devices", town.network_token, asked)
    finally:
        caller.ask("DELETE", f"/devices/{name}", town.network_token, expected=(*_OK, _NOT_FOUND))
