"""The technical user that this daemon logs in as: one of its own, that may do what is needed and no more."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, field, frozen

from opendesk.network.routeros.session import Command, Row
from opendesk.network.setup.minimal import Conflict
from opendesk.network.setup.probe import Dial
from opendesk.network.setup.script import COMMENT
from opendesk.network.setup.steps import Step
from opendesk.settings.secret import Secret

USERS: Final = "/user"
GROUPS: Final = "/user/group"
GROUP: Final = "opendesk"
NAME: Final = "relay-tech"

# To log in by the API, to look and to change.
GRANTED: Final = ("api", "read", "write")
# No other way in; no users to be made (`policy`), no passwords and keys to be read (`sensitive`, `password`), and nothing that stops the router
# or looks into what passes through it.
DENIED: Final = (
    "local", "telnet", "ssh", "ftp", "reboot", "policy", "test", "winbox", "password", "web", "sniff", "sensitive", "romon", "rest-api",
)  # fmt: skip
_POLICY: Final = ",".join([*GRANTED, *(f"!{name}" for name in DENIED)])


@frozen
class TechnicalUser:
    """`log_in` dials the router as this user: that is how its password is seen to be right, which no router tells. `through` does so through the
    tunnel that a change has just brought. `address` is where it may log in from, if that is known; `is_own`: we are logged in as this one.
    """

    password: Secret[str]
    log_in: Dial = field(repr=False, eq=False)
    name: str = NAME
    through: Dial | None = field(default=None, repr=False, eq=False)
    address: str | None = None
    is_own: bool = False

    def through_tunnel(self) -> "TechnicalUser":
        return self if self.through is None else evolve(self, log_in=self.through)


def queries(user: TechnicalUser) -> tuple[Command, Command]:
    return (
        Command(f"{GROUPS}/print", {}, (f"?name={GROUP}",), (".id", "name", "policy", "comment")),
        Command(
            f"{USERS}/print", {}, (f"?name={user.name}",), (".id", "name", "group", "address", "disabled", "comment")
        ),
    )


def plan(user: TechnicalUser, groups: Sequence[Row], users: Sequence[Row], *, logs_in: bool) -> tuple[Step, ...]:
    return tuple(found for found in _walked(user, groups, users, logs_in=logs_in) if isinstance(found, Step))


def conflicts(
    user: TechnicalUser, groups: Sequence[Row], users: Sequence[Row], *, logs_in: bool
) -> tuple[Conflict, ...]:
    return tuple(found for found in _walked(user, groups, users, logs_in=logs_in) if isinstance(found, Conflict))


def changes_log_in(steps: Sequence[Step]) -> bool:
    """Of the user; its group may only be put back to what lets it in."""
    return any(step.menu == USERS and not {"password", "group"}.isdisjoint(step.attributes) for step in steps)


def _walked(
    user: TechnicalUser, groups: Sequence[Row], users: Sequence[Row], *, logs_in: bool
) -> Iterator[Step | Conflict]:
    if users and not _is_own(users[0]):
        # Somebody else's, in whatever group: that it lets us in is all that we may ask of it.
        if not logs_in:
            yield Conflict(USERS, users[0][".id"])
        return
    yield from _group(groups)
    yield from _user(user, users, logs_in=logs_in)


def _group(rows: Sequence[Row]) -> Iterator[Step | Conflict]:
    if not rows:
        group = {"name": GROUP, "policy": _POLICY, "comment": COMMENT}
        yield Step(GROUPS, "add", "what the technical user may", attributes=group)
    elif _granted(rows[0]) != frozenset(GRANTED):
        if _is_own(rows[0]):
            yield Step(GROUPS, "set", "what the technical user may", rows[0][".id"], {"policy": _POLICY})
        else:
            yield Conflict(GROUPS, rows[0][".id"])


def _user(user: TechnicalUser, rows: Sequence[Row], *, logs_in: bool) -> Iterator[Step]:
    password = {"password": user.password.reveal()}
    address = {} if user.address is None else {"address": user.address}
    if not rows:
        made = {"name": user.name, "group": GROUP, **password, **address, "comment": COMMENT}
        yield Step(USERS, "add", "the technical user", attributes=made)
        return
    row, wanted = rows[0], dict[str, str]()
    if row.get("group") != GROUP:
        wanted["group"] = GROUP
    if row.get("disabled") in {"yes", "true"}:
        wanted["disabled"] = "no"
    if user.address is not None and _networks(row.get("address", "")) != _networks(user.address):
        wanted |= address
    if not logs_in:
        wanted |= password
    if wanted:
        yield Step(USERS, "set", "the technical user", row[".id"], wanted)


def _networks(text: str) -> frozenset[str]:
    """A router prints one host with its prefix length or without."""
    return frozenset(part.removesuffix("/32") for part in text.split(",") if part)


def _granted(row: Row) -> frozenset[str]:
    return frozenset(name for name in row.get("policy", "").split(",") if name and not name.startswith("!"))


def _is_own(row: Row) -> bool:
    return row.get("comment") == COMMENT
