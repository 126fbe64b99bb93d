"""MIKROTIK_NODES: routers given by the environment, a JSON array that is read strictly."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
import json
import re
from typing import Any, Final, NoReturn

from attrs import frozen

from opendesk.settings.addresses import host
from opendesk.settings.secret import Secret
from opendesk.settings.values import Kind, integer

# One worker each; more belong in the database.
NODES_MAX: Final = 1000
API_PORT: Final = 8728
API_TLS_PORT: Final = 8729
TIMEOUT_MAX_MS: Final = 120_000

_REQUIRED: Final = frozenset({"id", "host", "user", "pass"})
_OPTIONAL: Final = frozenset({"port", "tls", "timeoutMs"})

ROUTER_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_HOST: Final = re.compile(r"[!-~]{1,253}")
USER: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,64}")
PASSWORD: Final = re.compile(r"[^\x00\ud800-\udfff]{0,128}")
_HALF: Final = re.compile(r"[\ud800-\udfff]")


@frozen
class RouterNode:
    """A router as MIKROTIK_NODES names it. `port` and `timeout_ms` are None where it leaves them out."""

    id: str
    host: str
    user: str
    password: Secret[str]
    port: int | None = None
    tls: bool = False
    timeout_ms: int | None = None

    def api_port(self, mikrotik_port: int | None) -> int:
        """Where to dial: the router's own port, else MIKROTIK_PORT, else RouterOS's own (8729 with TLS)."""
        return self.port or mikrotik_port or (API_TLS_PORT if self.tls else API_PORT)


def _nodes(text: str) -> tuple[RouterNode, ...]:
    try:
        data = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON (column {exc.pos + 1}: {exc.msg})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(data, list) or len(data) > NODES_MAX:
        raise ValueError(f"is not an array of at most {NODES_MAX} routers")
    faults: list[str] = []
    nodes = [node for index, item in enumerate(data) if (node := _node_or_faults(index, item, faults))]
    ids = [name for item in data if isinstance(item, dict) and isinstance(name := item.get("id"), str)]
    faults += [
        f"id {name!r} is there twice"
        for name, times in sorted(Counter(ids).items())
        if times > 1 and ROUTER_ID.fullmatch(name)
    ]
    if faults:
        raise ValueError("has faults: " + "; ".join(faults))
    return tuple(nodes)


def _node_or_faults(index: int, item: object, faults: list[str]) -> RouterNode | None:
    if not isinstance(item, dict):
        faults.append(f"router {index}: not an object")
        return None
    wrong = list(_wrong_members(item))
    members: dict[str, Any] = {}
    for key, parse in _MEMBERS.items():
        try:
            if key in item or key in _OPTIONAL:
                members[key] = parse(item, key)
        except ValueError as exc:
            wrong.append(str(exc))
    faults += [f"router {index}: {what}" for what in wrong]
    return None if wrong else RouterNode(**{_FIELDS.get(key, key): value for key, value in members.items()})


def _wrong_members(item: Mapping[str, object]) -> Iterator[str]:
    if missing := sorted(_REQUIRED - item.keys()):
        yield f"{', '.join(missing)} missing"
    # Not named: a slip of the keyboard may have put a password there.
    if item.keys() - _REQUIRED - _OPTIONAL:
        yield f"a member that is none of {', '.join(sorted(_REQUIRED | _OPTIONAL))}"


def _text(item: Mapping[str, object], key: str, regex: re.Pattern[str]) -> str:
    value = item[key]
    if isinstance(value, str) and _HALF.search(value):
        raise ValueError(f"{key} has half a character in it (\\ud800 to \\udfff without its other half)")
    if not isinstance(value, str) or not regex.fullmatch(value):
        raise ValueError(f"{key} is not text that fits")
    return value


def _host(item: Mapping[str, object], key: str) -> str:
    text = _text(item, key, _HOST)
    try:
        return host(text)
    except ValueError as exc:
        raise ValueError(f"{key} {exc}") from None


def _password(item: Mapping[str, object], key: str) -> Secret[str]:
    return Secret(_text(item, key, PASSWORD))


def _number(item: Mapping[str, object], key: str, high: int) -> int | None:
    if (value := item.get(key)) is None:
        return None
    # JSON's true is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is not a whole number")
    try:
        return integer(1, high).parse(str(value))
    except ValueError as exc:
        raise ValueError(f"{key} {exc}") from None


def _flag(item: Mapping[str, object], key: str) -> bool:
    value = item.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is neither true nor false")  # a fault of the text, not of the program
    return value


_MEMBERS: Final[Mapping[str, Callable[[Mapping[str, object], str], object]]] = {
    "id": partial(_text, regex=ROUTER_ID),
    "host": _host,
    "user": partial(_text, regex=USER),
    "pass": _password,
    "port": partial(_number, high=65_535),
    "tls": _flag,
    "timeoutMs": partial(_number, high=TIMEOUT_MAX_MS),
}
# Where a field is not named like its member.
_FIELDS: Final = {"pass": "password", "timeoutMs": "timeout_ms"}


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("has an object with a member twice")
    return found


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("has NaN or Infinity")


def _shown(nodes: tuple[RouterNode, ...]) -> str:
    return ", ".join(f"{node.id} ({node.host})" for node in nodes)


NODES: Final = Kind(_nodes, "a JSON array of {id, host, user, pass, port?, tls?, timeoutMs?}", _shown, secret=True)
