"""One thing to do on a router so that it is set up, as data: it can be shown, sent, and taken back by the router itself."""

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from opendesk.network.routeros.session import Command
from opendesk.network.routeros.words import MASK

# What is told a router and nobody else.
_SECRETS: Final = frozenset({"password"})


@frozen
class Step:
    """`row` is the id of the row that is set or removed. A step that `cuts` may end the connection that it is sent on; `revert` is console text
    that takes the step back.
    """

    menu: str
    verb: str
    why: str
    row: str | None = None
    attributes: Mapping[str, str] = field(factory=dict, repr=False)
    cuts: bool = False
    revert: str = ""

    @property
    def command(self) -> Command:
        row = {} if self.row is None else {".id": self.row}
        return Command(f"{self.menu}/{self.verb}", {**row, **self.attributes})

    @property
    def shown(self) -> "PlannedStep":
        attributes = {name: MASK if name in _SECRETS else text for name, text in self.attributes.items()}
        return PlannedStep(self.menu, self.verb, self.row, attributes, self.why, self.cuts)


@frozen
class PlannedStep:
    """As callers are told: no secrets."""

    menu: str
    verb: str
    row: str | None
    attributes: Mapping[str, str]
    why: str
    is_risky: bool
