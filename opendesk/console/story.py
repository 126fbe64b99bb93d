"""Everything that is known of a word that somebody asks why of, for the command line and the page."""

from uuid import UUID

from attrs import frozen

from opendesk.console.telling import chain_told, cut_lines
from opendesk.console.telling_session import session_told
from opendesk.console.told import Told
from opendesk.network.events import chain as chains
from opendesk.network.events.chain import Chain
from opendesk.postgres.driver import TrioConnection
from opendesk.rental.sessions import story as stories
from opendesk.rental.sessions.story import Story


@frozen
class Found:
    chain: Chain
    story: Story | None

    @property
    def is_empty(self) -> bool:
        return self.chain.is_empty and self.story is None

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.chain.found_as if self.story is None else (*self.chain.found_as, "sessionId")

    def told(self) -> tuple[Told, ...]:
        session = () if self.story is None else (session_told(self.story),)
        return (*session, *chain_told(self.chain), *(Told(line) for line in cut_lines(self.chain)))


async def find(conn: TrioConnection, word: str) -> Found:
    """An eventId, a pedidoId, a deviceToken, a sessionId, or the id of a job."""
    return Found(await chains.find(conn, word), await _session(conn, word))


async def _session(conn: TrioConnection, word: str) -> Story | None:
    try:
        session_id = UUID(word)
    except ValueError:
        return None
    return await stories.find(conn, session_id)
