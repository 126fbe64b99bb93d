"""Settings that are each right, and together wrong."""

from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
import re
from typing import Final
from urllib.parse import urlsplit

from opendesk.doctor.finding import Finding, bad, ok, warn
from opendesk.settings import DECLARED, Settings

_WHERE: Final = "`opendesk settings` shows each with where it came from"
# Settings that open something to networks: with one that holds every address they open it to all.
_NETWORKS: Final = {
    "trusted_proxies": "anybody can pretend to be another address",
    "relay_internal_whitelist": "everybody gets in at /internal without a token",
    "metrics_allow": "everybody may read the metrics",
}


def judge_faults(faults: Sequence[str]) -> Iterator[Finding]:
    for fault in faults:
        yield bad("settings.valid", fault, f"set it right: the daemon doesn't start so; {_WHERE}")


def faulty(faults: Sequence[str]) -> frozenset[str]:
    """The names of settings of which it isn't known what they are meant to be: all, where a whole file can't be read."""
    names = [declared.name for declared in DECLARED]
    told = [{name for name in names if re.search(rf"\b{name}\b", fault)} for fault in faults]
    return frozenset(names) if set() in told else frozenset().union(*told)


def judge(settings: Settings, unknown: Collection[str] = (), listens: Sequence[str] = ()) -> Iterator[Finding]:
    """Nothing is said of `unknown` ones: they have their defaults here, which nobody meant. `listens` is where systemd has it called instead of BIND."""
    all_ = [*_doubts(settings), *_public(settings, listens), *_open(settings), *_backend(settings), *_tunnels(settings)]
    found = [finding for finding in all_ if not _is_about(finding, unknown)]
    yield from found
    if not found and not unknown:
        yield ok("settings.consistent", f"{len(settings.sources)} are set, and go together")


def _is_about(finding: Finding, names: Collection[str]) -> bool:
    return any(re.search(rf"\b{name}\b", f"{finding.what} {finding.do}") for name in names)


def is_public(host: str) -> bool:
    """Whether others than this machine reach it there without a proxy."""
    if host.startswith("unix:") or host == "localhost":
        return False
    try:
        return not ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def _doubts(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield warn("settings.doubtful", warning, f"change it, or take it away; {_WHERE}")
    if settings.relay_dry_run:
        yield warn(
            "settings.dry_run",
            "RELAY_DRY_RUN is on: no router and no tunnel is touched",
            "take RELAY_DRY_RUN away when this serves customers",
        )
    if settings.log_level == "debug":
        yield warn("settings.log_level", "LOG_LEVEL is debug: the log grows fast", "set LOG_LEVEL=info")


def _host(address: str) -> str:
    return address if address.startswith("unix:") else address.rpartition(":")[0]


def _public(settings: Settings, listens: Sequence[str]) -> Iterator[Finding]:
    places = {f"{address} (systemd's socket)": _host(address) for address in listens}
    places = places or {f"BIND={settings.bind}": settings.bind}
    where = next((place for place, host in places.items() if is_public(host)), None)
    if where is None:
        is_proxied = settings.tls_cert is None and any(not host.startswith("unix:") for host in places.values())
        if is_proxied and settings.public_url is not None and not settings.trusted_proxies:
            yield warn(
                "settings.trusted_proxies",
                "it listens to this machine only and TRUSTED_PROXIES is empty: behind a proxy all callers count as one address",
                "set TRUSTED_PROXIES to the proxy's address, such as 127.0.0.1",
            )
        return
    if settings.tls_cert is None:
        yield warn(
            "settings.plain_http",
            f"{where} is open to others, without TLS: passwords and tokens can be read on the way",
            "set TLS_CERT and TLS_KEY, or listen at 127.0.0.1 (BIND, or ListenStream= of opendesk.socket) behind a proxy with TLS",
        )
    if not settings.relay_strict_security:
        yield warn(
            "settings.strict_security",
            f"{where} is open to others, and RELAY_STRICT_SECURITY is off",
            "set RELAY_STRICT_SECURITY=1, which refuses short secrets and signatures that can be replayed",
        )
    if settings.public_url is None:
        yield warn(
            "settings.public_url",
            "PUBLIC_URL is not set: URLs given out are made of whatever Host each caller sends",
            "set PUBLIC_URL to the address that clients use, such as https://desk.example.org",
        )


def _open(settings: Settings) -> Iterator[Finding]:
    for name, so in _NETWORKS.items():
        if any(network.prefixlen == 0 for network in getattr(settings, name)):
            yield bad(f"settings.{name}", f"{name.upper()} holds every address: {so}", "name the few networks meant")
    if settings.relay_token and not settings.relay_api_secret:
        yield warn(
            "settings.relay_api_secret",
            "RELAY_API_SECRET is not set: whoever has RELAY_TOKEN may change things without a signature",
            "set RELAY_API_SECRET here and at the backend",
        )
    if settings.public_url is not None and _is_plain(settings.public_url):
        yield warn(
            "settings.public_url",
            f"PUBLIC_URL {settings.public_url} is without TLS",
            "make it https:// (docs/operations.md)",
        )


def _backend(settings: Settings) -> Iterator[Finding]:
    if settings.backend_events_url is None:
        return
    if not settings.backend_hmac_secret:
        yield bad(
            "settings.backend_hmac_secret",
            "events are taken without a signature: whoever answers at BACKEND_EVENTS_URL opens the internet to phones",
            "set BACKEND_HMAC_SECRET here and at the backend",
        )
    if settings.backend_ack_url is None:
        yield warn(
            "settings.backend_ack_url", "the backend hears of no event's end", "set BACKEND_ACK_URL, if it takes ACKs"
        )
    for name in ("backend_events_url", "backend_ack_url"):
        url = getattr(settings, name)
        if url is not None and _is_plain(url):
            yield warn(f"settings.{name}", f"{name.upper()} crosses the network without TLS", "make it https://")


def _tunnels(settings: Settings) -> Iterator[Finding]:
    if settings.wg_interface is None:
        return
    for name in ("wg_vps_public_key", "wg_vps_endpoint"):
        if getattr(settings, name) is None:
            yield warn(
                f"settings.{name}",
                f"{name.upper()} is not set: no router's script can be made",
                "`opendesk tunnel init --show` tells what it is",
            )
    if not settings.relay_master_key:
        yield warn(
            "settings.relay_master_key",
            "RELAY_MASTER_KEY is not set: no password or preshared key can be kept",
            "set it to the base64 of 32 random bytes",
        )


def _is_plain(url: str) -> bool:
    """Whether its words leave this machine without TLS."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"
