"""What to do so that a router holds its end of the tunnel: interface, peer, address and routes, and no more of ours on that interface.

Rows of ours have our comment. A row of somebody else is never touched: if it does what is wanted it counts, and if it is where ours should be
it is in the way. A peer of ours is never removed while it works, only changed: its preshared key, which we don't know, stays with it. What is
of no more use is disabled first, which can be taken back to the letter, and removed once the rest was seen to work.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from opendesk.network.hotspots.found import seconds
from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Command, Row
from opendesk.network.setup import redialling
from opendesk.network.setup.script import ADDRESSES, COMMENT, PEERS, ROUTES, WIREGUARD, Tunnel
from opendesk.network.setup.steps import Step

Tables = Mapping[str, Sequence[Row]]

# What is read of each menu, the id aside. No secrets.
_READ: Final[Mapping[str, tuple[str, ...]]] = {
    WIREGUARD: ("name", "comment", "disabled"),
    PEERS: (
        "interface", "public-key", "allowed-address", "endpoint-address", "endpoint-port", "persistent-keepalive", "comment", "disabled",
    ),
    ADDRESSES: ("interface", "address", "network", "comment", "disabled", "dynamic"),
    ROUTES: ("gateway", "dst-address", "comment", "disabled", "dynamic"),
}  # fmt: skip
# By what a row belongs to the interface.
_TIES: Final = {WIREGUARD: "name", PEERS: "interface", ADDRESSES: "interface", ROUTES: "gateway"}
# What a router doesn't print is that.
_UNSAID: Final = {"disabled": "no", "endpoint-port": "0", "persistent-keepalive": "0s"}


@frozen
class _Kind:
    """Rows of one menu, of which one should be as `wanted`. Two with the same `key` can't be."""

    menu: str
    key: str
    tie: Mapping[str, str]
    wanted: Mapping[str, str]
    why: str


@frozen
class Conflict:
    """A row that isn't ours is where ours should be."""

    menu: str
    row: str

    def __str__(self) -> str:
        return f"{self.menu} {self.row} isn't ours, and isn't as it should be"


def queries(tunnel: Tunnel) -> tuple[Command, ...]:
    return tuple(
        Command(f"{menu}/print", {}, (f"?{tie}={tunnel.interface}",), (".id", *_READ[menu]))
        for menu, tie in _TIES.items()
    )


def plan(tunnel: Tunnel, tables: Tables) -> tuple[Step, ...]:
    """What cuts nothing, what may, what does for sure, and last what is only tidied up."""
    steps = [step for step in _walked(tunnel, tables) if isinstance(step, Step)]
    return tuple(sorted(steps, key=_turn))


def conflicts(tunnel: Tunnel, tables: Tables) -> tuple[Conflict, ...]:
    return tuple(found for found in _walked(tunnel, tables) if isinstance(found, Conflict))


def is_tidying(step: Step) -> bool:
    """Of rows that do nothing: it need not be taken back."""
    return not step.revert


def _turn(step: Step) -> int:
    if is_tidying(step):
        return 3
    # The rest has arrived before the peer is off.
    return 2 if redialling.is_of(step) else int(step.cuts)


def _walked(tunnel: Tunnel, tables: Tables) -> Iterator[Step | Conflict]:
    rows = {menu: [row for row in tables.get(menu, ()) if _is_usable(row)] for menu in _TIES}
    # On an interface that isn't there yet nothing goes that could be cut.
    is_new = not rows[WIREGUARD]
    yield from _interface(tunnel, rows[WIREGUARD])
    yield from _one(_peer(tunnel), rows[PEERS], cuts=not is_new or bool(rows[PEERS]))
    yield from _one(_address(tunnel), rows[ADDRESSES], cuts=True)
    for network in tunnel.routed:
        to_it = [row for row in rows[ROUTES] if row.get("dst-address") == network]
        yield from _one(_route(tunnel, network), to_it, cuts=True)
    for row in rows[ROUTES]:
        if _is_own(row) and row.get("dst-address") not in tunnel.routed:
            yield _put_away(ROUTES, row)


def _interface(tunnel: Tunnel, rows: Sequence[Row]) -> Iterator[Step | Conflict]:
    """One that somebody else made may be used as it is."""
    name = {"name": tunnel.interface}
    kind = _Kind(
        WIREGUARD, "name", {}, name | {"disabled": "no"}, "the router's end of the tunnel; it makes its own key"
    )
    if not rows:
        yield _add(kind, cuts=False)
    elif differences := _differences(row := rows[0], kind.wanted):
        yield _set(WIREGUARD, row, kind.why, differences) if _is_own(row) else Conflict(WIREGUARD, row[".id"])


def _peer(tunnel: Tunnel) -> _Kind:
    wanted = {
        "public-key": tunnel.vps_public_key,
        "allowed-address": ",".join(tunnel.allowed_ips),
        "endpoint-address": tunnel.vps_host,
        "endpoint-port": str(tunnel.vps_port),
        "persistent-keepalive": f"{tunnel.keepalive}s",
        "disabled": "no",
    }
    return _Kind(PEERS, "public-key", {"interface": tunnel.interface}, wanted, "the VPS's end of the tunnel")


def _address(tunnel: Tunnel) -> _Kind:
    wanted = {"address": tunnel.address, "network": tunnel.network, "disabled": "no"}
    return _Kind(ADDRESSES, "address", {"interface": tunnel.interface}, wanted, "the router's address in the tunnel")


def _route(tunnel: Tunnel, network: str) -> _Kind:
    wanted = {"dst-address": network, "disabled": "no"}
    return _Kind(ROUTES, "dst-address", {"gateway": tunnel.interface}, wanted, "what is reached through the tunnel")


def _one(kind: _Kind, rows: Sequence[Row], *, cuts: bool) -> Iterator[Step | Conflict]:
    own = [row for row in rows if _is_own(row)]
    others = [row for row in rows if not _is_own(row) and row.get(kind.key) == kind.wanted[kind.key]]
    if others:
        if _differences(others[0], kind.wanted):
            yield Conflict(kind.menu, others[0][".id"])
            return
        kept = None
    else:
        kept = next((row for row in own if row.get(kind.key) == kind.wanted[kind.key]), None) or next(iter(own), None)
    # Before the one that stays: it may be changed into what another was.
    yield from (_put_away(kind.menu, row) for row in own if row is not kept)
    if kept is not None and (differences := _differences(kept, kind.wanted)):
        if redialling.is_due(kind.menu, differences) and not _is_disabled(kept):
            yield redialling.redial(kept)
            differences["disabled"] = "yes"
        yield _set(kind.menu, kept, kind.why, differences)
    elif kept is None and not others:
        yield _add(kind, cuts=cuts)


def _add(kind: _Kind, *, cuts: bool) -> Step:
    attributes = {**kind.tie, **kind.wanted, "comment": COMMENT}
    find = _written({**kind.tie, kind.key: kind.wanted[kind.key], "comment": COMMENT})
    revert = f"{kind.menu} remove [find {find}]"
    return Step(kind.menu, "add", kind.why, None, attributes, cuts=cuts, revert=revert)


def _put_away(menu: str, row: Row) -> Step:
    if _is_disabled(row):
        return Step(menu, "remove", "of no more use", row[".id"])
    return _set(menu, row, "of no more use: removed once the tunnel was seen alive", {"disabled": "yes"})


def _set(menu: str, row: Row, why: str, attributes: Mapping[str, str]) -> Step:
    before = {name: row.get(name) or _UNSAID.get(name, "") for name in attributes}
    if "disabled" in before:
        before["disabled"] = "yes" if _is_disabled(row) else "no"
    revert = f"{menu} set {identifier(row['.id'])} {_written(before)}"
    return Step(menu, "set", why, row[".id"], attributes, cuts=True, revert=revert)


def _written(attributes: Mapping[str, str]) -> str:
    return " ".join(f"{name}={quoted(text)}" for name, text in attributes.items())


def _differences(row: Row, wanted: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in wanted.items()
        if _read(name, row.get(name) or _UNSAID.get(name, "")) != _read(name, text)
    }


def _read(name: str, text: str) -> object:
    return _MEANINGS[name](text) if name in _MEANINGS else text


_MEANINGS: Final[Mapping[str, Callable[[str], object]]] = {
    "disabled": lambda text: text in {"yes", "true"},
    "persistent-keepalive": seconds,
    "allowed-address": lambda text: frozenset(text.split(",")),
}


def _is_own(row: Row) -> bool:
    return row.get("comment") == COMMENT


def _is_disabled(row: Row) -> bool:
    return row.get("disabled") in {"yes", "true"}


def _is_usable(row: Row) -> bool:
    """With an id that is one, and not the router's own doing."""
    try:
        identifier(row.get(".id", ""))
    except ValueError:
        return False
    return row.get("dynamic") not in {"yes", "true"}
