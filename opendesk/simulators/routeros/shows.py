"""Rows as `print` gives them: without what has no value or was left at its default, with what only the router writes."""

import base64
from datetime import UTC, datetime
from functools import lru_cache
import hashlib
from typing import Final

from opendesk.simulators.routeros import durations
from opendesk.simulators.routeros.menus import (
    ADDRESS_LIST,
    BINDING,
    MENUS,
    PEER,
    RESOURCE,
    SCHEDULER,
    USER,
    WIREGUARD,
)
from opendesk.simulators.routeros.state import State
from opendesk.simulators.routeros.tables import Row

# Who may not see these gets them left out.
SENSITIVE: Final = frozenset({"private-key", "preshared-key"})

# A peer's counters are among its values, under names that no argument has.
HANDSHAKE: Final = ".handshake"
RX: Final = ".rx"
TX: Final = ".tx"

_KIB: Final = 1024


def shown(state: State, path: str, row: Row, *, sensitive: bool = True) -> dict[str, str]:
    arguments = MENUS[path].arguments
    held = {
        name: value
        for name, value in row.values.items()
        if not name.startswith(".")
        and (name not in arguments or not (arguments[name].secret or arguments[name].left_out == value))
        and (sensitive or name not in SENSITIVE)
    }
    id_ = {} if MENUS[path].is_one else {".id": row.id}
    extra = _EXTRAS.get(path)
    return {**id_, **held, **(extra(state, row) if extra else {})}


# A list's rows are written at every print of it: most of what a print takes went into this.
@lru_cache(maxsize=4096)
def _wall(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _address(state: State, row: Row) -> dict[str, str]:
    extra = {"creation-time": _wall(row.made_s)}
    if row.due_s is not None:
        extra |= {"timeout": durations.written(max(int(row.due_s - state.clock()), 0)), "dynamic": "true"}
    return extra


def _binding(_state: State, row: Row) -> dict[str, str]:
    kind = row.values.get("type")
    return {"blocked": str(kind == "blocked").lower(), "bypassed": str(kind == "bypassed").lower()}


def _scheduler(state: State, row: Row) -> dict[str, str]:
    made = _wall(row.made_s).split(" ")
    began = zip(("start-date", "start-time"), made, strict=True)
    extra = {"owner": "admin", "run-count": str(row.runs)} | {
        name: text for name, text in began if name not in row.values
    }
    if row.due_s is not None and row.is_enabled and row.due_s >= state.booted_s:
        extra["next-run"] = _wall(row.due_s)
    return extra


def _resource(state: State, _row: Row) -> dict[str, str]:
    return {
        "uptime": durations.written(state.uptime_s),
        "version": f"{state.version.text} (stable)",
        "free-memory": "186122240",
        "total-memory": "268435456",
        "cpu": "MIPS 1004Kc V2.15",
        "cpu-count": "4",
        "cpu-load": "1",
        "architecture-name": "mmips",
        "board-name": "hEX",
        "platform": "MikroTik",
    }


def _wireguard(_state: State, row: Row) -> dict[str, str]:
    return {"public-key": public_key(row.values["private-key"]), "running": str(row.is_enabled).lower()}


def public_key(private_key: str) -> str:
    """Some key that depends on the private one: nothing here encrypts by it."""
    return base64.b64encode(hashlib.sha256(b"public:" + base64.b64decode(private_key)).digest()).decode()


def _peer(state: State, row: Row) -> dict[str, str]:
    extra = {"dynamic": "false"}
    for name, key in (("rx", RX), ("tx", TX)):
        extra[name] = _bytes(state, int(row.values.get(key, "0")))
    if HANDSHAKE in row.values:
        extra["last-handshake"] = durations.written(max(int(state.clock() - float(row.values[HANDSHAKE])), 0))
    return extra


def _bytes(state: State, count: int) -> str:
    if not state.version.writes_bytes_for_people or count < _KIB:
        return str(count)
    size, unit = count / _KIB, "KiB"
    for larger in ("MiB", "GiB"):
        if size >= _KIB:
            size, unit = size / _KIB, larger
    return f"{size:.1f}{unit}"


def _user(_state: State, _row: Row) -> dict[str, str]:
    return {"expired": "false"}


_EXTRAS: Final = {
    ADDRESS_LIST: _address,
    BINDING: _binding,
    SCHEDULER: _scheduler,
    RESOURCE: _resource,
    WIREGUARD: _wireguard,
    PEER: _peer,
    USER: _user,
}
