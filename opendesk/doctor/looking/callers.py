"""Who answers: the daemon here, and the backend elsewhere."""

from email.utils import parsedate_to_datetime
import ssl
import time
from typing import Final

from attrs import frozen
import httpx

from opendesk.doctor.judging.daemon import Daemon
from opendesk.settings import Settings

# The daemon is on this machine, or nearly; it waits for the database for 2 s itself.
_DAEMON_S: Final = 5.0
_BACKEND_S: Final = 8.0
# Of what it says when it isn't ready.
_DETAIL_CHARS: Final = 300
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not listened at


async def daemon(settings: Settings) -> Daemon:
    address = settings.listen_address
    if not address.startswith("unix:") and not settings.port:
        return Daemon(address=address, fault="PORT is 0, so which port it took isn't known here")
    try:
        async with _client(settings) as client:
            await client.get("/health/live")
            ready = await client.get("/health/ready")
    except (httpx.HTTPError, OSError) as error:
        return Daemon(address=address, fault=_said(error))
    return Daemon(
        address=address,
        is_ready=ready.is_success,
        detail=_detail(ready),
    )


def _client(settings: Settings) -> httpx.AsyncClient:
    bind = settings.bind
    path = bind.removeprefix("unix:") if bind.startswith("unix:") else None
    host = "localhost" if path else _ANY.get(bind, bind)
    host = f"[{host}]" if ":" in host else host
    scheme = "http" if settings.tls_cert is None else "https"
    # It is asked whether it lives; whose its certificate is, is another look's question.
    transport = httpx.AsyncHTTPTransport(uds=path, verify=_unverified())
    base = f"{scheme}://{host}" if path else f"{scheme}://{host}:{settings.port}"
    return httpx.AsyncClient(transport=transport, base_url=base, timeout=_DAEMON_S, trust_env=False)


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail", response.status_code))[:_DETAIL_CHARS]
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
    except (httpx.HTTPError, OSError) as error:
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
