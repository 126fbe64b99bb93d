"""A user, a host, a PC or a transfer, told to somebody who asks why. Pure."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Final

from opendesk.console.telling_session import entry_told
from opendesk.console.texts import money
from opendesk.console.told import Told, Tone, when
from opendesk.rental.story import (
    LAST,
    HostStory,
    PcStory,
    PcView,
    SessionView,
    Story,
    TransferStory,
    UserStory,
)

KINDS: Final[dict[type, str]] = {
    UserStory: "userId",
    HostStory: "hostId",
    PcStory: "pcId",
    TransferStory: "transferId",
}
_TONES: Final[dict[str, Tone]] = {"ACTIVE": "good", "ENDED": "", "PENDING": "wait", "FAILED": "bad"}


@singledispatch
def rental_told(story: Story) -> Told:
    raise TypeError(story)


@rental_told.register
def _user(story: UserStory) -> Told:
    user = story.user
    tree = Told(f"user {user.username}: {user.role}", "" if user.banned_at is None else "bad")
    tree.add(f"id {user.id}, e-mail {user.email}, there since {when(user.created_at)}")
    if user.banned_at is not None:
        tree.add(f"banned {when(user.banned_at)}", "bad")
    if user.host_id is not None:
        tree.add(f"is host {user.host_id}")
    if user.balance is None:
        tree.add("wallet: none yet")
    else:
        wallet = tree.add(f"wallet: {money(user.balance, user.currency or '')}")
        for entry in story.entries:
            wallet.add(entry_told(entry, user.currency or ""))
        _cut(wallet, story.entries)
    _sessions(tree, story.sessions, "sessions as a client")
    return tree


@rental_told.register
def _host(story: HostStory) -> Told:
    host = story.host
    tree = Told(f"host {host.name}: last heard of {when(host.seen_at)}")
    tree.add(f"id {host.id} of user {host.user_id}, there since {when(host.created_at)}")
    dropped = f", the last {when(host.last_drop_at)}" if host.last_drop_at is not None else ""
    tree.add(f"reliability {host.reliability}: {host.completed} sessions completed, {host.dropped} dropped{dropped}")
    pcs = tree.add("PCs" if story.pcs else "PCs: none")
    for pc in story.pcs:
        pcs.add(f"PC {pc.id} {pc.name}: {_status(pc)}", _tone(pc))
    _cut(pcs, story.pcs)
    _sessions(tree, story.sessions, "sessions")
    return tree


@rental_told.register
def _pc(story: PcStory) -> Told:
    pc = story.pc
    tree = Told(f"PC {pc.name}: {_status(pc)}, last heard of {when(pc.seen_at)}", _tone(pc))
    tree.add(f"id {pc.id} of host {pc.host_id}, there since {when(pc.created_at)}")
    tree.add(f"{money(pc.price_per_hour, pc.currency)} an hour")
    if pc.deleted_at is not None:
        tree.add(f"taken out of the list {when(pc.deleted_at)}")
    _sessions(tree, story.sessions, "sessions")
    return tree


@rental_told.register
def _transfer(story: TransferStory) -> Told:
    transfer = story.transfer
    tree = Told(f"transfer {transfer.kind} {when(transfer.created_at)}")
    who = "the session itself, or the command line" if transfer.made_by is None else f"user {transfer.made_by}"
    session = "" if transfer.session_id is None else f" of session {transfer.session_id}"
    tree.add(f"id {transfer.id}{session}, by {who}")
    entries = tree.add("entries")
    for entry in story.entries:
        entries.add(entry_told(entry, transfer.currency or ""))
    return tree


def _sessions(tree: Told, sessions: Sequence[SessionView], what: str) -> None:
    told = tree.add(what if sessions else f"{what}: none")
    for one in sessions:
        end = "" if one.ended_at is None else f", over {when(one.ended_at)}: {one.end_reason}"
        text = f"session {one.id}: {one.status}, booked {when(one.created_at)} for {money(one.price_total, one.currency)}{end}"
        told.add(text, _TONES[one.status])
    _cut(told, sessions)


def _status(pc: PcView) -> str:
    if pc.deleted_at is not None:
        return "deleted"
    return f"{pc.status}, taken off by its host" if pc.taken_off else pc.status


def _tone(pc: PcView) -> Tone:
    return "good" if pc.deleted_at is None and pc.status != "OFFLINE" else ""


def _cut(tree: Told, shown: Sequence[object]) -> None:
    if len(shown) == LAST:
        tree.add("… these are the last of them")
