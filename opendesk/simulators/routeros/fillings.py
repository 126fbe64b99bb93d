"""What a router adds to what it is told of a row, and refuses because of other rows."""

import base64
from collections.abc import Callable, Mapping
import secrets
from typing import Final

from opendesk.simulators.routeros import refusals
from opendesk.simulators.routeros.menus import GROUP, PEER, SCHEDULER, USER, WIREGUARD, Argument, Menu
from opendesk.simulators.routeros.state import State
from opendesk.simulators.routeros.values import KEY_BYTES
from opendesk.simulators.routeros.versions import PEER_NAMES_SINCE


def completed(state: State, menu: Menu, told: Mapping[str, str], known: Mapping[str, Argument]) -> dict[str, str]:
    held = {name: value for name, value in told.items() if value or (name in known and known[name].secret)}
    for name, argument in known.items():
        if argument.required and not held.get(name):
            raise refusals.missing(name)
        if argument.default is not None:
            held.setdefault(name, argument.default)
        if argument.left_out is not None and held.get(name) == argument.left_out and name != "timeout":
            del held[name]
    fill = _FILLINGS.get(menu.path)
    if fill is not None:
        fill(state, held)
    return held


def _wireguard(state: State, held: dict[str, str]) -> None:
    held.setdefault("private-key", base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    held.setdefault("listen-port", "13231")
    held.setdefault("name", _free_name(state, WIREGUARD, "wireguard"))


def _peer(state: State, held: dict[str, str]) -> None:
    if not any(row.values["name"] == held["interface"] for row in state.tables[WIREGUARD]):
        raise refusals.no_match("interface")
    if state.version.number >= PEER_NAMES_SINCE:
        held.setdefault("name", _free_name(state, PEER, "peer"))


def _user(state: State, held: dict[str, str]) -> None:
    if not any(row.values["name"] == held["group"] for row in state.tables[GROUP]):
        raise refusals.no_match("group")


def _scheduler(state: State, held: dict[str, str]) -> None:
    if "name" not in held:
        held["name"] = _free_name(state, SCHEDULER, "schedule")


def _free_name(state: State, path: str, stem: str) -> str:
    names = {row.values.get("name") for row in state.tables[path]}
    return next(name for count in range(1, len(names) + 2) if (name := f"{stem}{count}") not in names)


_FILLINGS: Final[Mapping[str, Callable[[State, dict[str, str]], None]]] = {
    WIREGUARD: _wireguard,
    PEER: _peer,
    USER: _user,
    SCHEDULER: _scheduler,
}
