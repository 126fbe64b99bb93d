"""DATABASE_URL: what libpq can read and connect by, told without a word of it, since any part may be a password's."""

from collections.abc import Iterator
import difflib
import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from opendesk.settings.addresses import must_be_askable
from opendesk.settings.secret import MASK, Secret
from opendesk.settings.values import Kind

_BARE_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_WHOLE: Final = re.compile("-?[0-9]{1,9}")
_PORT_MAX: Final = 65_535

# libpq looks at these only when it connects; a fault would be told then, and with the value.
_NUMBERS: Final = (
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
)  # fmt: skip
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _database_url(text: str) -> Secret[str]:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("does not begin with postgresql:// or postgres://")
    if _BARE_PERCENT.search(text):
        raise ValueError("has a '%' that begins no escape; in a password it must be written %25")
    url = _parted(text)
    if url.fragment or "@" in url.path or url.netloc.count("@") > 1:
        raise ValueError("has a '/', '#' or '@' in the password or name, which must be written %2F, %23 or %40")
    if faults := [*_unknown_parameters(url), *_value_faults(_read_by_libpq(text, url))]:
        raise ValueError("; it ".join(faults))
    return Secret(text)


def _parted(text: str) -> SplitResult:
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("has a blank, which must be written %20, or a control character")
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("has a '[' or ']' that is no IPv6 address's, which must be written %5B or %5D") from None


def _unknown_parameters(url: SplitResult) -> Iterator[str]:
    """Told by their places: a name may be a part of a password that was not escaped."""
    known = {option.keyword.decode() for option in Conninfo.parse(b"")} | {"ssl"}
    names = [unquote(part.partition("=")[0]) for part in url.query.split("&")] if url.query else []
    for place, name in enumerate(names, start=1):
        if name not in known and "@" not in url.query:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", is {near[0]} meant?" if near else ""
            yield f"has a parameter behind '?' that libpq does not know (number {place}{hint})"


def _read_by_libpq(text: str, url: SplitResult) -> dict[str, str]:
    """What libpq makes of it; nothing, where the reason why it makes nothing of it has another's fault."""
    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except UnicodeDecodeError:
        raise ValueError("has %-escapes that are not UTF-8") from None
    except psycopg.ProgrammingError:  # its message quotes what it was given
        if any(_unknown_parameters(url)):
            return {}
        raise ValueError("is none that libpq can read (a '%00', a '=' too many or too few, a bad host)") from None


def _value_faults(given: dict[str, str]) -> Iterator[str]:
    if given and not given.get("dbname"):
        yield "names no database"
    yield from _port_faults(given)
    yield from _host_faults(given)
    for name in _NUMBERS:
        if name in given and not _WHOLE.fullmatch(given[name]):
            yield f"has a {name} that is not a whole number"
    if given.get("sslmode", "prefer") not in _SSL_MODES:
        yield f"has an sslmode that is none of {', '.join(_SSL_MODES)}"


def _port_faults(given: dict[str, str]) -> Iterator[str]:
    """One for all hosts, or one for each; an empty one is the usual one."""
    ports = given.get("port", "").split(",")
    if not all(port == "" or (_WHOLE.fullmatch(port) and 1 <= int(port) <= _PORT_MAX) for port in ports):
        yield f"has a port that is not a whole number, 1 to {_PORT_MAX}"
    hosts = given.get("hostaddr", given.get("host", "")).split(",")
    if len(ports) not in {1, len(hosts)}:
        yield "has more or fewer ports than hosts"


def _host_faults(given: dict[str, str]) -> Iterator[str]:
    """Folders of sockets, and abstract ones, are no names."""
    for host in given.get("host", "").split(","):
        if not host.startswith(("/", "@")):
            try:
                must_be_askable(host)
            except ValueError as error:
                yield str(error)


def _shown_database(secret: Secret[str]) -> str:
    """Where it is, without who asks."""
    url = urlsplit(secret.reveal())
    user, at, place = url.netloc.rpartition("@")
    # An '@' further on may be what a password's '?' cut off.
    if not at and "@" in url.query:
        return MASK
    return f"{url.scheme}://{MASK + at if user else ''}{place}{url.path}{'?…' if url.query else ''}"


DATABASE_URL = Kind(_database_url, "postgresql://user:password@host:port/database", _shown_database, secret=True)


def sslmode(url: Secret[str], *, asked: bool | None) -> str | None:
    """Return libpq's `sslmode` for a database; None where the URL has one, or to leave a local server to libpq."""
    parts = urlsplit(url.reveal())
    query = parse_qs(parts.query)
    if "sslmode" in query:
        return None
    if asked is not None:
        return "require" if asked else "disable"
    hosts = ",".join(query.get("host", [parts.netloc.rpartition("@")[2]])).split(",")
    return None if all(map(_is_local, hosts)) else "require"


def _is_local(place: str) -> bool:
    """Whether it is a socket's folder (written /… or %2F…), nothing, or the loopback."""
    bare = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    return bare.startswith(("/", "%2F", "%2f", "127.")) or bare in {"", "localhost", "::1"}
