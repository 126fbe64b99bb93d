"""The search: why something is as it is, by any id that somebody may have."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import field, frozen
import trio

from opendesk.console.hurrying import hurried
from opendesk.console.pages import Page, Pages
from opendesk.console.seals import Seals
from opendesk.console.story import Found, find
from opendesk.console.texts import stamp
from opendesk.console.told import lines_of
from opendesk.console.visits import Visit, form_of
from opendesk.errors import Overloaded
from opendesk.postgres.pool import Pool

# An eventId has 256 characters; what is longer is no id.
WORD_CHARS: Final = 300
# Searches at once: each may read all there is of an order, for seconds.
_SEARCHES: Final = 2
_RETRY_S: Final = 2
# For all that it reads: what hangs so long is told as the database's fault, and keeps the few searches from nobody.
SEARCH_S: Final = 3.0

# On the page, instead of the token.
SAID_OF_TOKENS: Final = "a device's token"


class SearchesBusy(Overloaded):
    """Others are searching."""


@frozen
class Searching:
    """What is in an address gets into the browser's history and proxies' logs: a device's token is looked for only in what a form sends."""

    _pool: Pool
    _pages: Pages
    _seals: Seals
    _now: Callable[[], datetime]
    _busy: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_SEARCHES), init=False)

    async def linked(self, visit: Visit) -> Page:
        """GET: of links."""
        return await self._page(visit, visit.query("q"), as_token=False)

    async def asked(self, visit: Visit) -> Page:
        """POST: of the form."""
        return await self._page(visit, form_of(visit.request).get("q", ""), as_token=True)

    async def _page(self, visit: Visit, text: str, *, as_token: bool) -> Page:
        word = text.strip()[:WORD_CHARS]
        found = await self._found(word, as_token=as_token) if word and "\0" not in word else None
        story = None if found is None or found.is_empty else lines_of(found.told(), word)
        shown = SAID_OF_TOKENS if found is not None and found.chain.device is not None else word
        who = visit.who
        return await self._pages.page(
            "why.html", word=shown, story=story, csrf=self._seals.csrf(who.token), who=who.email, at=stamp(self._now())
        )

    async def _found(self, word: str, *, as_token: bool) -> Found:
        try:
            self._busy.acquire_nowait()
        except trio.WouldBlock:
            raise SearchesBusy("Others are searching: try again in a moment.", retry_after_s=_RETRY_S) from None
        try:
            return await hurried(self._pool, SEARCH_S, lambda conn: find(conn, word, as_token=as_token))
        finally:
            self._busy.release()
