"""The proof of the books, as it was last made."""

from datetime import datetime

from attrs import frozen

from opendesk.console.shapes import Figure, Row, Section, State, Table
from opendesk.console.texts import NOTHING, clock, cut, money, number
from opendesk.rental.ledger import Check, Verification


@frozen(kw_only=True)
class LedgerFacts:
    """`fault`: why there is no newer proof."""

    found: Verification | None = None
    checked_at: datetime | None = None
    fault: str | None = None
    is_checking: bool = False


def ledger(facts: LedgerFacts, currency: str, now: datetime) -> Section:
    found = facts.found
    wrong = [] if found is None else [check for check in found.checks if check.faults]
    figures = (
        _verdict(facts, wrong),
        Figure(
            "checked", "Checked", clock(facts.checked_at, now), note="being checked now" if facts.is_checking else ""
        ),
        Figure("entries", "Entries", number(found.entries if found else None)),
        Figure("wallets", "Wallets", number(found.wallets if found else None)),
        Figure("held", "In wallets", money(None if found is None else found.in_wallets, currency)),
    )
    rows = tuple(
        Row(str(place), (check.states, number(check.faults), _first(check)), State.BAD)
        for place, check in enumerate(wrong)
    )
    table = Table("faults", "What is wrong", ("It should be that", "Faults", "The first"), rows, "Nothing is wrong.")
    return Section("ledger", "Ledger", figures, (), (table,))


def _verdict(facts: LedgerFacts, wrong: list[Check]) -> Figure:
    if facts.found is None:
        return Figure("verdict", "Books", NOTHING, State.QUIET, facts.fault or "not checked yet")
    if wrong:
        return Figure("verdict", "Books", "wrong", State.BAD, f"{number(sum(one.faults for one in wrong))} faults")
    state = State.WARN if facts.fault else State.OK
    return Figure("verdict", "Books", "right", state, facts.fault or "to the centavo")


def _first(check: Check) -> str:
    if not check.shown:
        return NOTHING
    fault = check.shown[0]
    return cut(f"{fault.what}: expected {fault.expected}, found {fault.found}")
