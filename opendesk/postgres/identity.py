"""Whether a connection leads to the database that one has known so far, or to another that took its name."""

from typing import Final

from attrs import define, field
from psycopg import OperationalError
import trio

from opendesk.postgres.driver import TrioConnection

# A number that a server gives once: a database that was restored under the old one's name has another.
_WHICH: Final = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"


class DatabaseExchanged(OperationalError):
    """Another database has the name of the one that was served from."""

    def __init__(self) -> None:
        super().__init__(
            "another database took the place of the one that this daemon served from (a restored backup?): "
            "what it knows is of the old one, so it ends; started again, it serves from the new one"
        )


@define(eq=False)
class SameDatabase:
    """Lets in connections to the database that the first of them led to, and to no other."""

    _known: int | None = None
    exchanged: trio.Event = field(factory=trio.Event)

    async def check(self, conn: TrioConnection) -> None:
        """Raise DatabaseExchanged."""
        row = await conn.fetch_one(_WHICH)
        assert row is not None
        if self._known is None:
            self._known = row[0]
        elif self._known != row[0]:
            self.exchanged.set()
            raise DatabaseExchanged
