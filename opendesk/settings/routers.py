"""MIKROTIK_NODES: routers given by the environment, a JSON array that is read strictly."""

from collections.abc import Mapping
import json
import re
from typing import Final, NoReturn

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
    nodes = [node for index, item in enumerate(data) if (node := _node_or_fault(index, item, faults))]
    ids = [node.id for node in nodes]
    faults += [f"id {name!r} is there twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
    if faults:
        raise ValueError("has faults: " + "; ".join(faults))
    return tuple(nodes)


def _node_or_fault(index: int, item: object, faults: list[str]) -> RouterNode | None:
    try:
        return _node(item)
    except ValueError as exc:
        faults.append(f"router {index}: {exc}")
        return None


def _node(item: object) -> RouterNode:
    if not isinstance(item, dict):
        raise ValueError("not an object")
    if missing := sorted(_REQUIRED - item.keys()):
        raise ValueError(f"{', '.join(missing)} missing")
    # Not named: a slip of the keyboard may have put a password there.
    if item.keys() - _REQUIRED - _OPTIONAL:
        raise ValueError(f"a member that is none of {', '.join(sorted(_REQUIRED | _OPTIONAL))}")
    return RouterNode(
        id=_text(item, "id", r"[A-Za-z0-9._:-]{1,64}"),
        host=host(_text(item, "host", r"[!-~]{1,253}")),
        user=_text(item, "user", r"[^\x00-\x1f\x7f]{1,64}"),
        password=Secret(_text(item, "pass", r"[^\x00]{0,128}")),
        port=_number(item, "port", 65_535),
        tls=_flag(item, "tls"),
        timeout_ms=_number(item, "timeoutMs", TIMEOUT_MAX_MS),
    )


def _text(item: Mapping[str, object], key: str, regex: str) -> str:
    value = item[key]
    if not isinstance(value, str) or not re.fullmatch(regex, value):
        raise ValueError(f"{key} is not text that fits")
    return value


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
