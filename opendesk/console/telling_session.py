"""A rental session, told to somebody who asks why. Pure."""

from opendesk.console.texts import money
from opendesk.console.told import Told, when
from opendesk.rental.sessions.shape import Session, SettlementShape
from opendesk.rental.sessions.story import EntryView, Story


def session_told(story: Story) -> Told:
    session = story.session
    tree = Told(f"session {session.id}: {session.status}")
    tree.add(
        f"booked {when(session.created_at)}: {session.minutes_purchased} min of PC {session.pc_id}, host {session.host_id}",
    )
    tree.add(f"by client {session.client_user_id} for {money(session.price_total, session.currency)}")
    if session.start_at is None:
        tree.add("never started")
    else:
        tree.add(f"started {when(session.start_at)}, to end {when(session.end_at)}")
    _tell_end(tree, session)
    if session.settlement is not None:
        _tell_settlement(tree, session.settlement)
    _tell_entries(tree, story)
    return tree


def _tell_settlement(tree: Told, settled: SettlementShape) -> None:
    def amount(minor_units: int) -> str:
        return money(minor_units, settled.currency)

    tree.add(
        f"settled: {amount(settled.proportional)} used and {amount(settled.unused)} not; host {amount(settled.host_payout)}, "
        f"fee {amount(settled.platform_fee)}, penalty {amount(settled.penalty)}, back to the client {amount(settled.client_credit)}, "
        f"retained {amount(settled.retained)}",
    )


def _tell_end(tree: Told, session: Session) -> None:
    if session.ended_at is None:
        tree.add(f"not over; {session.minutes_used} min used so far")
        return
    claimed = "" if session.claimed_failure_reason is None else f" (the caller said {session.claimed_failure_reason})"
    tree.add(
        f"over {when(session.ended_at)}: {session.end_reason}, at fault: {session.failure_reason}{claimed}; "
        f"{session.minutes_used} min used",
    )


def _tell_entries(tree: Told, story: Story) -> None:
    ledger = tree.add("ledger" if story.entries else "ledger: nothing")
    for entry in story.entries:
        ledger.add(entry_told(entry, story.session.currency))
    if story.is_cut:
        ledger.add("… and more")


def entry_told(entry: EntryView, currency: str) -> str:
    whose = entry.account if entry.user_id is None else f"{entry.account} of {entry.user_id}"
    who = "" if entry.made_by is None else f", by {entry.made_by}"
    sign = "+" if entry.amount > 0 else ""
    return f"{when(entry.created_at)}  {entry.transfer}  {sign}{money(entry.amount, currency)}  {whose}: {entry.reason}{who}"
