"""What `backup` and `restore` share: the ledger's proof, and what is said meanwhile."""

import time
from typing import Final

from attrs import define, field

from opendesk.cli.common import say
from opendesk.postgres.backups.manifest import Books, Facts
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import ledger

# Who waits for less needs no news of it.
_NEWS_S: Final = 2.0


@define(eq=False)
class News:
    """How far it is, now and then, for somebody at a terminal."""

    is_wanted: bool
    _told_s: float = field(factory=time.monotonic)

    def __call__(self, stage: str, done_bytes: int) -> None:
        if self.is_wanted and time.monotonic() - self._told_s >= _NEWS_S:
            self._told_s = time.monotonic()
            say(f"{megabytes(done_bytes)} {stage}", err=True)


async def prove(conn: TrioConnection) -> Books:
    """What backup and restore need to know of the ledger."""
    found = await ledger.verify(conn)
    return Books(found.ok, found.wallets, found.transfers, found.entries, found.sessions, found.in_wallets)


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MB"


def facts_line(facts: Facts) -> str:
    """What is in a backup."""
    rows = sum(facts.rows.values())
    if facts.books is None:
        return (
            f"of {facts.made_at}: {rows} rows; its ledger was not looked at, because its schema was not the program's"
        )
    books = facts.books
    return f"of {facts.made_at}: {rows} rows; {books_line(books)}; its ledger was {'right' if books.ok else 'WRONG'}"


def books_line(books: Books) -> str:
    return f"{books.wallets} wallets with {books.in_wallets} in all, {books.sessions} sessions, {books.entries} entries"
