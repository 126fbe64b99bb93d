"""When paid time runs. It is written down before the way is opened, and counts from when what opens it is sent; it is taken back if that
came to nothing. Nobody has time twice who may have used it once.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Final
from uuid import UUID

from attrs import define, field

from opendesk.network.gathering import Gathering
from opendesk.network.hotspots import grants
from opendesk.network.hotspots.errors import InTheWay, NotHeld
from opendesk.network.hotspots.found import Actual
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Grant, Place
from opendesk.network.hotspots.plan import TOLERANCE_S, is_held
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying

# Who write at once. Most write of one grant.
TOGETHER: Final = 100


class Outdated(Exception):
    """What is granted has changed since it was looked at."""


@define(eq=False)
class Timing:
    """What is written of it."""

    _pool: Pool
    _beginnings: Gathering[Sequence[UUID], list[GrantRow]] = field(init=False)
    _openings: Gathering[Sequence[UUID], set[UUID]] = field(init=False)
    _sights: Gathering[Sequence[UUID], None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._beginnings = Gathering(self._write_beginnings, TOGETHER)
        self._openings = Gathering(self._write_openings, TOGETHER)
        self._sights = Gathering(self._write_sights, TOGETHER)

    async def begin(self, rows: Sequence[GrantRow]) -> list[GrantRow]:
        """Their time begins now. What ends it was written down with them, and looks when it is over."""
        return await self._beginnings.ask([row.id for row in rows]) if rows else []

    async def opening(self, ids: Sequence[UUID]) -> None:
        """Raise Outdated, and then nothing may be opened."""
        if ids and not set(ids) <= await self._openings.ask(ids):
            raise Outdated

    async def seen(self, rows: Iterable[GrantRow]) -> None:
        """A router was seen to hold them."""
        if unseen := [row.id for row in rows if row.observed_at is None]:
            await self._sights.ask(unseen)

    async def take_back(self, ids: Sequence[UUID]) -> None:
        if ids:
            async with self._pool.connection() as conn:
                await grants.take_back(conn, ids)

    async def _write_beginnings(self, together: Sequence[Sequence[UUID]]) -> list[list[GrantRow]]:
        async with self._pool.connection() as conn:
            ids = list(chain.from_iterable(together))
            begun = {row.id: row for row in await retrying(partial(grants.begin, conn, ids))}
        return [[begun[row_id] for row_id in asked if row_id in begun] for asked in together]

    async def _write_openings(self, together: Sequence[Sequence[UUID]]) -> list[set[UUID]]:
        async with self._pool.connection() as conn:
            written = await grants.opening(conn, list(chain.from_iterable(together)))
        return [written] * len(together)

    async def _write_sights(self, together: Sequence[Sequence[UUID]]) -> list[None]:
        async with self._pool.connection() as conn:
            await grants.observed(conn, list(chain.from_iterable(together)))
        return [None] * len(together)


@define(eq=False)
class Attempt:
    """One attempt to open the ways of `live` grants: what `converge` tells of it."""

    _timing: Timing
    _live: dict[tuple[str, Place], GrantRow]
    _begun: set[UUID] = field(factory=set)
    _opened: set[UUID] = field(factory=set)

    @property
    def rows(self) -> list[GrantRow]:
        return list(self._live.values())

    async def begin(self, actual: Actual, theirs: Sequence[Grant]) -> Sequence[Grant]:
        """What was opened before, by an attempt of which nothing was heard any more, is known for that before anything of it is changed."""
        rows = [self._row(grant) for grant in theirs]
        begun = await self._timing.begin([row for row in rows if begins_now(row, actual)])
        self._begun |= {row.id for row in begun}
        self._live.update({(row.pedido_id, row.place): row for row in begun})
        await self._timing.seen(
            row for row in self.rows if row.opening_at is not None and is_held_anywhere(row, actual)
        )
        return [self._row(grant).wanted for grant in theirs]

    async def opening(self, theirs: Sequence[Grant]) -> None:
        rows = {row.id: row for row in map(self._row, theirs) if row.until is not None and not row.is_opened}
        news = [row_id for row_id in rows if row_id not in self._opened]
        await self._timing.opening(news)
        self._opened.update(news)

    async def failed(self, error: NotHeld | InTheWay) -> None:
        """What this attempt began, and isn't there, has not begun."""
        seen = error.seen
        if seen is not None:
            rows = [row for row in self.rows if row.id in self._begun and not is_held(row.wanted, seen)]
            await self._timing.take_back([row.id for row in rows])

    def _row(self, grant: Grant) -> GrantRow:
        return self._live[grant.pedido_id, grant.place]


def begins_now(row: GrantRow, actual: Actual) -> bool:
    """One that may have been opened goes on if it is there, or was moved here from where it is; and if it would end about now: then the
    router may have ended it itself.
    """
    if row.duration_s is None or row.observed_at is not None:
        return False
    if row.opening_at is None:
        return True
    is_ending = row.remaining_s is not None and row.remaining_s <= TOLERANCE_S
    return not is_ending and not is_held_anywhere(row, actual)


def is_held_anywhere(row: GrantRow, actual: Actual) -> bool:
    """Not only where the grant is now: what it was moved from is looked at, too."""
    comment = row.wanted.comment
    binding = any(held.is_own and not held.is_disabled and held.comment == comment for held in actual.bindings)
    return binding or any(held.is_own and not held.is_disabled and held.comment == comment for held in actual.lists)
