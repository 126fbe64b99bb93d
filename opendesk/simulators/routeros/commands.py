"""What each command does to a router's rows."""

from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from opendesk.simulators.routeros import refusals
from opendesk.simulators.routeros.fillings import completed
from opendesk.simulators.routeros.menus import LATER, MENUS, PRINT, PRINT_EARLIER, PRINT_LATER, Argument, Menu
from opendesk.simulators.routeros.query import matching
from opendesk.simulators.routeros.refusals import Refused
from opendesk.simulators.routeros.shows import shown
from opendesk.simulators.routeros.state import State
from opendesk.simulators.routeros.tables import Row, Table


@frozen
class Request:
    path: str  # "/ip/hotspot/ip-binding"
    verb: str  # "print"
    attributes: Mapping[str, str] = {}
    queries: tuple[str, ...] = ()
    policies: frozenset[str] = frozenset({"read", "write", "policy", "sensitive", "reboot"})

    @property
    def command(self) -> str:
        return f"{self.path}/{self.verb}"


@frozen
class Answer:
    rows: tuple[dict[str, str], ...] = ()
    ret: str | None = None
    is_print: bool = False


def execute(state: State, request: Request) -> Answer:
    menu = MENUS.get(request.path)
    if menu is None or request.verb not in menu.verbs:
        raise refusals.no_such_command()
    permit(menu, request)
    return _VERBS[request.verb](state, menu, request)


def permit(menu: Menu, request: Request) -> None:
    needed = "read" if request.verb in _READING else menu.writing
    if needed not in request.policies:
        raise refusals.not_permitted()


def known(menu: Menu, state: State) -> dict[str, Argument]:
    return {
        name: argument
        for name, argument in menu.arguments.items()
        if argument.since <= state.version.number < argument.until
    }


def check_print(state: State, attributes: Mapping[str, str]) -> None:
    known_words = PRINT | (PRINT_LATER if state.version.number >= LATER else PRINT_EARLIER) | {".proplist"}
    for name in attributes:
        if name not in known_words:
            raise refusals.unknown_parameter(name)


def picked(row: Mapping[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
    names = attributes.get(".proplist") or attributes.get("proplist")
    if not names:
        return dict(row)
    return {name: row[name] for name in names.split(",") if name in row}


def _print(state: State, menu: Menu, request: Request) -> Answer:
    check_print(state, request.attributes)
    test, table = matching(request.queries), state.tables[menu.path]
    if "from" in request.attributes:
        rows = _rows(state, table, request.attributes["from"])
    else:
        rows = table.among(test.numbers(table))
    seen = [shown(state, menu.path, row, sensitive="sensitive" in request.policies) for row in rows]
    found = [picked(row, request.attributes) for row in seen if test.fits(row)]
    if "count-only" in request.attributes:
        return Answer(ret=str(len(found)))
    return Answer(tuple(found), is_print=True)


def _get(state: State, menu: Menu, request: Request) -> Answer:
    given = _only(request, {"number", ".id", "value-name", "as-string"})
    table = state.tables[menu.path]
    reference = given.get("number") or given.get(".id")
    (row, *_) = list(table) if menu.is_one else _rows(state, table, _needed(reference, "number"))
    name = _needed(given.get("value-name"), "value-name")
    seen = shown(state, menu.path, row)
    if name not in seen and name not in menu.arguments:
        raise refusals.no_match("value-name")
    return Answer(ret=seen.get(name, ""))


def _add(state: State, menu: Menu, request: Request) -> Answer:
    table = state.tables[menu.path]
    given = dict(request.attributes)
    before = given.pop("place-before", None) if "move" in menu.verbs else None
    target = None if before is None else _rows(state, table, before)[0]
    if target is not None and target.values.get("dynamic") == "true":
        raise Refused(None, "failure: can not insert before a dynamic entry")
    copied = _rows(state, table, given.pop("copy-from"))[0].values if "copy-from" in given else {}
    held = completed(state, menu, {**copied, **_read(state, menu, given)}, known(menu, state))
    table.check_free(held)
    return Answer(ret=state.add(menu.path, held, target).id)


def _set(state: State, menu: Menu, request: Request) -> Answer:
    given = dict(request.attributes)
    table = state.tables[menu.path]
    rows = list(table) if menu.is_one else _taken(state, table, given)
    read = _read(state, menu, given)
    changes = [(row, completed(state, menu, {**row.values, **read}, known(menu, state))) for row in rows]
    for row, held in changes:
        table.check_free(held, but=row)
        state.change(menu.path, row, held)
    return Answer()


def _switch(to: str) -> Callable[[State, Menu, Request], Answer]:
    def switch(state: State, menu: Menu, request: Request) -> Answer:
        given = dict(request.attributes)
        rows = _taken(state, state.tables[menu.path], given)
        _refuse_rest(given)
        for row in rows:
            state.change(menu.path, row, {**row.values, "disabled": to})
        return Answer()

    return switch


def _comment(state: State, menu: Menu, request: Request) -> Answer:
    given = dict(request.attributes)
    rows = _taken(state, state.tables[menu.path], given)
    text = given.pop("comment", "")
    _refuse_rest(given)
    for row in rows:
        state.change(menu.path, row, _without_empty({**row.values, "comment": text}))
    return Answer()


def _reset(state: State, menu: Menu, request: Request) -> Answer:
    """Each argument that is named, whatever its value, is as if it had never been set."""
    given = dict(request.attributes)
    rows = _taken(state, state.tables[menu.path], given)
    names = [*given.pop("value-name").split(",")] if request.verb == "unset" and "value-name" in given else list(given)
    for name in names:
        if name not in known(menu, state):
            raise refusals.unknown_parameter(name)
    for row in rows:
        kept = {name: value for name, value in row.values.items() if name not in names}
        if "timeout" in names:
            kept["timeout"] = "0s"
        state.change(menu.path, row, completed(state, menu, kept, known(menu, state)))
    return Answer()


def _remove(state: State, menu: Menu, request: Request) -> Answer:
    given = dict(request.attributes)
    rows = _taken(state, state.tables[menu.path], given)
    _refuse_rest(given)
    for row in rows:
        if row in state.tables[menu.path]:
            state.remove(menu.path, row)
    return Answer()


def _move(state: State, menu: Menu, request: Request) -> Answer:
    given = dict(request.attributes)
    table = state.tables[menu.path]
    rows = _taken(state, table, given)
    destination = given.pop("destination", None)
    _refuse_rest(given)
    table.move(rows, None if destination is None else _rows(state, table, destination)[0])
    return Answer()


def _taken(state: State, table: Table, given: dict[str, str]) -> list[Row]:
    """Takes the ids out of the arguments."""
    numbers = given.pop("numbers", None)
    return _rows(state, table, _needed(given.pop(".id", numbers), ".id"))


def _rows(state: State, table: Table, references: str) -> list[Row]:
    """One that is gone refuses all."""
    found = [table.find(reference) for reference in references.split(",")]
    rows = [row for row in found if row is not None]
    if len(rows) < len(found):
        raise Refused(refusals.MISSING, state.version.item_gone)
    return rows


def _read(state: State, menu: Menu, given: Mapping[str, str]) -> dict[str, str]:
    """As they are kept. An empty text takes a value away."""
    arguments = known(menu, state)
    for name in given:
        if name not in arguments:
            raise refusals.unknown_parameter(name)
    return {
        name: arguments[name].kind(name, text) if text or arguments[name].required else ""
        for name, text in given.items()
    }


def _without_empty(held: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in held.items() if value}


def _only(request: Request, names: set[str]) -> Mapping[str, str]:
    for name in request.attributes:
        if name not in names:
            raise refusals.unknown_parameter(name)
    return request.attributes


def _refuse_rest(given: Mapping[str, str]) -> None:
    for name in given:
        raise refusals.unknown_parameter(name)


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise refusals.missing(name)
    return value


_READING: Final = frozenset({"print", "getall", "listen", "get"})
_VERBS: Final[Mapping[str, Callable[[State, Menu, Request], Answer]]] = {
    "print": _print,
    "getall": _print,
    "get": _get,
    "add": _add,
    "set": _set,
    "enable": _switch("false"),
    "disable": _switch("true"),
    "comment": _comment,
    "reset": _reset,
    "unset": _reset,
    "remove": _remove,
    "move": _move,
}
