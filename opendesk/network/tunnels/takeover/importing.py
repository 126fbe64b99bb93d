"""What the system before kept in files (`devices.json`, `peers.meta.json`), read: no I/O, and nothing is guessed.

The shape of these files isn't written down anywhere. Arrays are taken, objects by id or by public key, and these in `devices`, `peers` and
`tokens`; fields in every spelling that the API has known. What isn't understood is named, and no value is repeated: it may be a secret.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import math
import re
from typing import Any, Final, NoReturn

from attrs import Attribute, evolve, field, fields, frozen

from opendesk.network.tunnels.takeover.fields import FIELDS, GROUPS, TOKEN_FIELDS, Reader, Token
from opendesk.network.wireguard import keys
from opendesk.settings.routers import ROUTER_ID
from opendesk.settings.secret import Secret

_SECTIONS: Final = ("devices", "peers", "bindings", "routers", "tokens")
_TOKENS: Final = "tokens"

# Names that nobody knows, to be told; a file whose ids are taken for names would have thousands.
UNKNOWN_MAX: Final = 50
_NAME_MAX: Final = 40

_KEY: Final = re.compile(keys.PATTERN)

# Of a whole number, with its sign: all that fits 64 bits. Python refuses to read one of some thousand in its own words.
_DIGITS_MAX: Final = 20
# A number that is larger than that: none to whoever reads a field, and says which.
_BEYOND: Final = object()


@frozen(kw_only=True)
class Entry:
    """What is said of one device, wherever: by its id, by its key, or only by hotspot tokens."""

    where: str
    device_id: str | None = None
    public_key: str | None = None
    allowed_ips: tuple[str, ...] | None = None
    tunnel_ip: str | None = None
    endpoint: str | None = None
    keepalive: int | None = None
    preshared_key: Secret[str] | None = None
    meta: Mapping[str, Any] | None = None
    device_name: str | None = None
    public_ip: str | None = None
    mikrotik_ip: str | None = None
    user: str | None = None
    password: Secret[str] | None = None
    port: int | None = None
    tokens: tuple[Token, ...] = field(default=(), repr=False)


@frozen
class Fault:
    """Why something isn't taken over."""

    where: str
    why: str


@frozen
class Found:
    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    unknown: tuple[str, ...]


def read(files: Iterable[tuple[str, bytes]]) -> Found:
    """Everything that the files say, put together: one entry a device."""
    entries: list[Entry] = []
    faults: list[Fault] = []
    unknown: dict[str, None] = {}
    for name, data in files:
        try:
            document = json.loads(
                data,
                object_pairs_hook=_without_repeats,
                parse_constant=_refuse_constant,
                parse_int=_integer,
                parse_float=_fraction,
            )
            parts = list(_parts(document, unknown))
        except RecursionError:
            faults.append(Fault(name, "is nested too deeply"))
            continue
        except ValueError as error:
            faults.append(Fault(name, _why(error)))
            continue
        for label, given in parts:
            found = _entry(f"{name}: {label}", given, unknown)
            (faults if isinstance(found, Fault) else entries).append(found)  # type: ignore[arg-type]  # each into its own
    merged, more = _merged(entries)
    return Found(tuple(merged), (*faults, *more), tuple(unknown)[:UNKNOWN_MAX])


def _why(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON (line {error.lineno}, column {error.colno})"
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _parts(document: object, unknown: dict[str, None]) -> Iterator[tuple[str, object]]:
    """Each entry, and how to call it."""
    if isinstance(document, dict) and any(isinstance(document.get(name), dict | list) for name in _SECTIONS):
        for name, given in document.items():
            if name in _SECTIONS:
                yield from _members(given, name)
            else:
                _note(unknown, name)
    elif isinstance(document, dict) and document.keys() & {"publicKey", "deviceId", "deviceToken"}:
        yield "entry 1", document
    else:
        yield from _members(document, None)


def _members(given: object, section: str | None) -> Iterator[tuple[str, object]]:
    label = section or "entry"
    if isinstance(given, list):
        for number, value in enumerate(given, 1):
            yield f"{label} {number}", _as_token(value) if section == _TOKENS else value
    elif isinstance(given, dict):
        for number, (name, value) in enumerate(given.items(), 1):
            yield _named(name, value, section, f"{label} {number}")
    elif given is not None:
        raise ValueError("is neither an array nor an object" if section is None else f"has {section} that are none")


def _named(name: str, value: object, section: str | None, label: str) -> tuple[str, object]:
    """The name is the id, the key or the token, unless the entry has that itself. A token is nothing to be shown."""
    if section == _TOKENS:
        return label, _as_token(value, name)
    if _KEY.fullmatch(name):
        return name, _with(value, "public_key", name)
    return (name if ROUTER_ID.fullmatch(name) else label), _with(value, "device_id", name)


def _as_token(value: object, name: str | None = None) -> object:
    given = value if name is None else _with(value, "token", name)
    return {_TOKENS: [given]} if isinstance(given, dict) else given


def _with(value: object, what: str, name: str) -> object:
    spellings = TOKEN_FIELDS[what].names if what == "token" else FIELDS[what].names
    if not isinstance(value, dict) or any(spelling in value for spelling in spellings):
        return value
    return {spellings[0]: name, **value}


def _entry(where: str, given: object, unknown: dict[str, None]) -> Entry | Fault:
    if not isinstance(given, dict):
        return Fault(where, "is not an object")
    reader = Reader(_flat(given))
    try:
        values = reader.read(FIELDS)
        tokens = reader.tokens(values.get("device_id"))
    except ValueError as error:
        return Fault(where, str(error))
    for name in reader.left:
        _note(unknown, name)
    return Entry(where=where, tokens=tokens, **values)


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """With `wireguard.peerPublicKey` for what is in an object of its own; without what is null."""
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if name in GROUPS and isinstance(value, dict):
            flat |= {f"{name}.{inner}": held for inner, held in value.items() if held is not None}
        elif value is not None:
            flat[name] = value
    return flat


def _note(unknown: dict[str, None], name: str) -> None:
    if len(unknown) < UNKNOWN_MAX:
        unknown[name[:_NAME_MAX]] = None


def _merged(entries: Sequence[Entry]) -> tuple[list[Entry], list[Fault]]:
    """One entry a device, whichever files and sections speak of it. Where they contradict each other, none of it is taken."""
    id_of = {entry.public_key: entry.device_id for entry in entries if entry.public_key and entry.device_id}
    merged: dict[object, Entry] = {}
    faults: dict[object, Fault] = {}
    for entry in entries:
        device_id = entry.device_id or id_of.get(entry.public_key or "")
        name = device_id or entry.public_key or object()
        if name in faults:
            continue
        known = merged.setdefault(name, entry)
        if known is entry:
            continue
        if differing := [column.name for column in fields(Entry) if _differ(column, known, entry)]:
            faults[name] = Fault(known.where, f"{entry.where} says something else of its {', '.join(differing)}")
            del merged[name]
        else:
            merged[name] = _both(known, entry)
    return list(merged.values()), list(faults.values())


def _differ(column: "Attribute[Any]", one: Entry, other: Entry) -> bool:
    this, that = getattr(one, column.name), getattr(other, column.name)
    return column.name not in {"where", _TOKENS} and this is not None and that is not None and this != that


def _both(one: Entry, other: Entry) -> Entry:
    missing = {
        column.name: getattr(other, column.name) for column in fields(Entry) if getattr(one, column.name) is None
    }
    return evolve(one, tokens=(*one.tokens, *other.tokens), **missing)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("has an object with a member twice")
    return found


def _integer(text: str) -> object:
    return int(text) if len(text) <= _DIGITS_MAX else _BEYOND


def _fraction(text: str) -> object:
    return number if math.isfinite(number := float(text)) else _BEYOND


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("has NaN or Infinity")
