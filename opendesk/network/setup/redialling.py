"""A peer that dials afresh, and from its own rows alone.

WireGuard goes on with where the other end was last heard from: whatever endpoint a router is told, the VPS' next packet brings it back, and a wrong
one shows at the next reboot only. So a peer that is to dial elsewhere is switched off, which makes the router forget, and on again by the router
itself. In between the VPS forgets, too: then the tunnel comes only if the router's own endpoint is right.
"""

from collections.abc import Collection, Iterable
from typing import Final

from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Row
from opendesk.network.setup.script import COMMENT, PEERS
from opendesk.network.setup.steps import Step

SCHEDULERS: Final = "/system/scheduler"
# What an entry of ours may do: no more than it takes, since a user who has less than all rights couldn't make it otherwise.
POLICY: Final = ("read", "write")
NAME: Final = "opendesk-redial"
# Until the router switches its peer on again: the change has been sent by then, also over a slow line, and the VPS has forgotten.
REDIAL_S: Final = 20

# By these a router finds the VPS.
ENDPOINT: Final = frozenset({"endpoint-address", "endpoint-port"})
_DIALS: Final = ENDPOINT | {"public-key"}
_GOES: Final = f"/system scheduler remove [find name={quoted(NAME)} comment={quoted(COMMENT)}]"


def is_due(menu: str, differences: Collection[str]) -> bool:
    return menu == PEERS and not _DIALS.isdisjoint(differences)


def redial(row: Row) -> Step:
    """Before the step that switches it off."""
    switched_on = f":do {{{PEERS} set {identifier(row['.id'])} disabled=no}} on-error={{}}"
    attributes = {
        "name": NAME,
        "interval": f"{REDIAL_S}s",
        "on-event": f"{switched_on}; {_GOES}",
        "policy": ",".join(POLICY),
        "comment": COMMENT,
    }
    why = "the router dials the VPS afresh, and has forgotten where it was heard from"
    return Step(SCHEDULERS, "add", why, attributes=attributes, cuts=True, revert=_GOES)


def is_of(step: Step) -> bool:
    """The entry, or what it is for."""
    return step.attributes.get("name") == NAME or (
        is_due(step.menu, step.attributes) and step.attributes.get("disabled") == "yes"
    )


def is_taken_back_by(program: str) -> bool:
    """Of an undo: that it was armed for a peer that dials afresh."""
    return _GOES in " ".join(program.split())


def changes_endpoint(steps: Iterable[Step]) -> bool:
    """Of a peer that works by another."""
    return any(is_of(step) and not ENDPOINT.isdisjoint(step.attributes) for step in steps)


def is_foreign_namesake(row: Row) -> bool:
    return row.get("name") == NAME and row.get("comment") != COMMENT


def pending(rows: Iterable[Row]) -> tuple[Step, ...]:
    """What takes off the entries that haven't run yet, or can't; of rows of ours."""
    found = []
    for row in rows:
        try:
            row_id = identifier(row.get(".id", ""))
        except ValueError:
            continue
        if row.get("name") == NAME:
            found.append(Step(SCHEDULERS, "remove", "of an earlier change", row_id))
    return tuple(found)
