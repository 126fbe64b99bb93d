"""Settings that name a place: networks, hosts, URLs, origins, where to listen."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from opendesk.settings.values import Kind, integer, items, joined

Network = IPv4Network | IPv6Network

# macOS holds 103 bytes of a Unix socket's path, Linux 107: the shorter, so that one file of settings serves both.
UNIX_PATH_MAX_BYTES: Final = 103
# A check walks all of them on each request.
NETWORKS_MAX: Final = 256

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)

_IPV4_LIKE: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        hint = " (bits are set right of its mask)" if _is_loose_network(text) else ""
        raise ValueError(f"is not an address or a CIDR{hint}") from None


def _is_loose_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _networks(text: str) -> tuple[Network, ...]:
    found: list[Network] = []
    for part in items(text, NETWORKS_MAX):
        try:
            found.append(_network(part))
        except ValueError as exc:
            raise ValueError(f"has a part {part[:50]!r} that {exc}") from None
    return tuple(found)


NETWORK: Kind[Network] = Kind(_network, "one CIDR, such as 10.200.0.0/16")
NETWORKS: Kind[tuple[Network, ...]] = Kind(_networks, "addresses and CIDRs, comma-separated", joined)


def split_url(text: str) -> SplitResult:
    """Part a URL, refusing what `urlsplit` lets through: blanks, user names, ports out of range."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("has blanks or characters that are not ASCII")
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # looked at for its error: it is checked only when it is read
    except ValueError:
        raise ValueError("is not a URL") from None
    if not url.hostname:
        raise ValueError("has no host")
    if "@" in url.netloc:
        raise ValueError("has a user name or password in it")
    if "[" in url.netloc or _IPV4_LIKE.fullmatch(url.hostname):
        _must_be_address(url.hostname)
    else:
        must_be_askable(url.hostname)
    return url


def _must_be_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("has a host that is not an address") from None


def must_be_askable(name: str) -> None:
    """Of a host name that can't be put into a question to a name server, only the asking tells, and by no OSError."""
    try:
        name.encode("idna")
    except UnicodeError:
        raise ValueError("has a host name with nothing between two dots, or more than 63 characters") from None


def _http_url(text: str) -> str:
    url = split_url(text)
    if url.scheme not in {"http", "https"}:
        raise ValueError("does not begin with http:// or https://")
    if url.fragment:
        raise ValueError("has a fragment (#…)")
    return text


def _public_url(text: str) -> str:
    if "?" in _http_url(text):
        raise ValueError("has a query (?…)")
    return text.rstrip("/")


def _without_query(url: str) -> str:
    head, mark, _query = url.partition("?")
    return f"{head}?…" if mark else head


HTTP_URL = Kind(_http_url, "http://… or https://…, without user and password", _without_query, quotable=False)
PUBLIC_URL = Kind(_public_url, "http://… or https://…, without user, password and query", quotable=False)


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(part) for part in items(text, NETWORKS_MAX))


def _origin(text: str) -> str:
    """As a browser writes it: lower case, no default port."""
    if "*" in text or text == "null":
        raise ValueError("has a wildcard or null, which would let in everybody with the user's credentials")
    url = split_url(text)
    if url.path or url.query or url.fragment:
        raise ValueError("has an origin with something after host and port")
    default_port = {"http": 80, "https": 443}.get(url.scheme)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port not in {None, default_port} else "")


ORIGINS = Kind(_origins, "origins such as https://app.example.com, comma-separated", joined, quotable=False)


def host(text: str) -> str:
    """An address in its canonical text, or a host name."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        if not _HOST_NAME.fullmatch(text):
            raise ValueError("is not an address or a host name") from None
        return text.lower()


def _bind(text: str) -> str:
    if text.startswith("unix:"):
        return _unix_bind(text)
    try:
        return host(text)
    except ValueError:
        if re.search(r"[^:]:[0-9]+\Z", text):
            raise ValueError("has a port, which goes into PORT") from None
        raise


def _unix_bind(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path.startswith("/"):
        raise ValueError("has no absolute path after unix:")
    if len(path.encode()) > UNIX_PATH_MAX_BYTES:
        raise ValueError(f"is longer than the {UNIX_PATH_MAX_BYTES} bytes that a socket's path may have")
    return text


BIND = Kind(_bind, "an IPv4 or IPv6 address, a host name, or unix:/path")


def _endpoint(text: str) -> str:
    name, _colon, port = text.rpartition(":")
    if not name or (":" in name and not name.startswith("[")):
        raise ValueError("is not host:port")
    integer(1, 65535).parse(port)
    bare = host(name)
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


ENDPOINT = Kind(_endpoint, "host:port, an IPv6 address in brackets")
