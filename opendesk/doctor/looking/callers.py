"""Who answers: the daemon here, and the backend elsewhere."""

from contextlib import suppress
from email.utils import parsedate_to_datetime
import json
import ssl
import time
from typing import Final

from attrs import evolve, frozen
import httpx
import trio

from opendesk.doctor.judging.daemon import Daemon

# The daemon is on this machine, or nearly; it waits for the database for 2 s itself.
_DAEMON_S: Final = 5.0
_BACKEND_S: Final = 8.0
# Of what it says when it isn't ready.
_DETAIL_CHARS: Final = 300
# Of what may be anybody's; ours has some hundred.
_ANSWER_BYTES: Final = 16 * 1024
_ALIVE: Final = b'{"ok":true}'
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not listened at


async def daemon(address: str, *, has_tls: bool) -> Daemon:
    """Of one that speaks the other way than it is set to: that it does."""
    if address.endswith(":0"):
        return Daemon(address=address, fault="PORT is 0, so which port it took isn't known here")
    try:
        return await _asked(address, has_tls=has_tls)
    except httpx.TimeoutException:
        return Daemon(address=address, fault=f"no answer within {_DAEMON_S:.0f} s")
    except (httpx.HTTPError, OSError) as error:
        fault = _said(error)
    with suppress(httpx.HTTPError, OSError):
        found = await _asked(address, has_tls=not has_tls)
        told = (
            "it speaks no TLS there, and TLS_CERT is set" if has_tls else "it speaks TLS there, and TLS_CERT is not set"
        )
        return evolve(found, tls_fault=told)
    return Daemon(address=address, fault=fault)


async def _asked(address: str, *, has_tls: bool) -> Daemon:
    async with _client(address, "https" if has_tls else "http") as client:
        if not _is_ours(*await _got(client, "/health/live")):
            return Daemon(address=address, is_ours=False)
        ready, said = await _got(client, "/health/ready")
    return Daemon(address=address, is_ready=ready.is_success, detail=_detail(ready, said))


async def _got(client: httpx.AsyncClient, path: str) -> tuple[httpx.Response, bytes]:
    """The answer, and of its body no more than it takes to see that it is too long."""
    body = b""
    async with client.stream("GET", path) as response:
        # Who is cancelled within httpx's generators closes them; who leaves the loop leaves them open.
        with trio.CancelScope() as scope:
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > _ANSWER_BYTES:
                    scope.cancel()
    return response, body


def _is_ours(live: httpx.Response, body: bytes) -> bool:
    """By the body, and by the header that each answer of ours has."""
    return live.is_success and body == _ALIVE and "x-request-id" in live.headers


def _client(address: str, scheme: str) -> httpx.AsyncClient:
    path = address.removeprefix("unix:") if address.startswith("unix:") else None
    host, _, port = ("localhost", "", "") if path else address.rpartition(":")
    host = host.strip("[]")
    host = _ANY.get(host, host)
    # It is asked whether it lives; whose its certificate is, is another look's question.
    transport = httpx.AsyncHTTPTransport(uds=path, verify=_unverified())
    base = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
    return httpx.AsyncClient(
        transport=transport,
        base_url=f"{base}:{port}" if port else base,
        timeout=_DAEMON_S,
        trust_env=False,
        headers={"accept-encoding": "identity"},
    )


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _detail(response: httpx.Response, body: bytes) -> str:
    try:
        return str(json.loads(body).get("detail", response.status_code))[:_DETAIL_CHARS]
    except (ValueError, AttributeError):
        return f"it answered {response.status_code}"


@frozen
class Called:
    """`ahead_s` is how far its clock is ahead of ours, by its Date."""

    fault: str | None
    ahead_s: float | None = None


async def backend(url: str) -> Called:
    """OPTIONS, which promises to change nothing: a GET would be given events, that the daemon then lacks."""
    try:
        async with httpx.AsyncClient(timeout=_BACKEND_S, trust_env=False, follow_redirects=False) as client:
            before = time.time()
            async with client.stream("OPTIONS", url) as response:
                return Called(None, _ahead(response.headers.get("date"), (before + time.time()) / 2))
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
        return Called(_said(error))


def _ahead(date: str | None, now: float) -> float | None:
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return None


def _said(error: Exception) -> str:
    """What httpx says is least where it wraps most."""
    found: BaseException = error
    while found.__cause__ is not None:
        found = found.__cause__
    return str(found)[:_DETAIL_CHARS] or type(found).__name__
