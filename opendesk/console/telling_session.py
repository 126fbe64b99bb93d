"""A rental session, told to somebody who asks why. Pure."""

from opendesk.console.told import Told, when
from opendesk.rental.sessions.shape import Session
from opendesk.rental.sessions.story import EntryView, Story


def session_told(story: Story) -> Told:
    session = story.session
    tree = Told(f"session {session.id}: {session.status}")
    tree.add(
        f"booked {when(session.created_at)}: {session.minutes_purchased} min of PC {session.pc_id}, host {session.host_id}",
    )
    tree.add(f"by client {session.client_user_id} for {session.price_total} {session.currency} (minor units)")
    if session.start_at is None:
        tree.add("never started")
    else:
        tree.add(f"started {when(session.start_at)}, to end {when(session.end_at)}")
    _tell_end(tree, session)
    if session.settlement is not None:
        settled = session.settlement
        tree.add(
            f"settled: {settled.proportional} used and {settled.unused} not; host {settled.host_payout}, fee {settled.platform_fee}, "
            f"penalty {settled.penalty}, back to the client {settled.client_credit}, retained {settled.retained}",
        )
    _tell_entries(tree, story)
    return tree


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
        ledger.add(_entry(entry))
    if story.is_cut:
        ledger.add("… and more")


def _entry(entry: EntryView) -> str:
    whose = entry.account if entry.user_id is None else f"{entry.account} of {entry.user_id}"
    who = "" if entry.made_by is None else f", by {entry.made_by}"
    return f"{when(entry.created_at)}  {entry.transfer}  {entry.amount:+d}  {whose}: {entry.reason}{who}"
