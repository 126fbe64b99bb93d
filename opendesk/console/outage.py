"""Whether the database is known to be away, and who may look on while nobody can be asked whether they still may."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from attrs import define, field
import trio

from opendesk.errors import DatabaseUnavailable
from opendesk.web.problems import DATABASE_RETRY_S

# Who the database let in so long ago may look on while it is away, which is when the page is wanted most; acting needs the database itself.
ADMITTED_S: Final = 300.0
# After a look at who it is that came to nothing: nobody who is known waits for the next one meanwhile.
SLOW_S: Final = 5.0


@define(eq=False)
class Outage:
    """Told by who watches the database. Until somebody was asked, nothing is known: `is_up` is None."""

    is_up: bool | None = field(default=None, init=False)
    _slow_until_s: float = field(default=float("-inf"), init=False)
    # By user and version of tokens; what is over is dropped whenever somebody is let in, so these are the admins of some minutes.
    _admitted: dict[tuple[UUID, int], tuple[str, float]] = field(factory=dict, init=False)

    def database_is(self, *, up: bool) -> None:
        self.is_up = up

    @property
    def is_away(self) -> bool:
        return self.is_up is False

    def check(self) -> None:
        """Raise DatabaseUnavailable at once where it is known, instead of after a long wait."""
        if self.is_away:
            raise DatabaseUnavailable("The database doesn't answer at the moment.", retry_after_s=DATABASE_RETRY_S)

    @property
    def is_slow(self) -> bool:
        """Whether somebody asked in vain a moment ago."""
        return trio.current_time() < self._slow_until_s

    def asked_in_vain(self) -> None:
        self._slow_until_s = trio.current_time() + SLOW_S

    # ---- who may look on

    def let_in(self, user_id: UUID, version: int, email: str) -> None:
        """The database said so this moment."""
        now_s = trio.current_time()
        for key in [key for key, (_, until_s) in self._admitted.items() if until_s <= now_s]:
            del self._admitted[key]
        self._admitted[user_id, version] = email, now_s + ADMITTED_S

    def still_in(self, admitted: Collection[tuple[UUID, int]]) -> None:
        """The database said it again of those that are known."""
        for user_id, version in admitted:
            if (known := self._admitted.get((user_id, version))) is not None:
                self.let_in(user_id, version, known[0])

    def forget(self, user_id: UUID, version: int) -> None:
        """Out by now, with the tokens before it; whoever logged in again has a later version."""
        for key in [key for key in self._admitted if key[0] == user_id and key[1] <= version]:
            del self._admitted[key]

    def email_of(self, user_id: UUID, version: int) -> str | None:
        """Of who may look on."""
        known = self._admitted.get((user_id, version))
        return None if known is None or known[1] <= trio.current_time() else known[0]
