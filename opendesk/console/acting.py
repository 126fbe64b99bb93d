"""What an admin may do from the page: the same as by the command line, told in the audit."""

from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from attrs import frozen

from opendesk.console.auditing import audited
from opendesk.console.board import Board
from opendesk.console.pages import Page, see_other
from opendesk.console.seals import Seals
from opendesk.console.sessions import HOME
from opendesk.console.visits import Session, Visit
from opendesk.network.hotspots.replaying import NotReplayed, replay
from opendesk.network.routers import registry, states
from opendesk.network.routers.errors import RouterNotFound
from opendesk.ops.audit import Audit
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.settings import Settings

REPLAY: Final = "CONSOLE_REPLAY_JOB"
RESET: Final = "CONSOLE_RESET_BREAKER"

# Of a message on the next page.
_SAID_CHARS: Final = 300


@frozen
class Acting:
    _pool: Pool
    _settings: Settings
    _board: Board
    _seals: Seals
    _audit: Audit

    async def replay(self, visit: Visit) -> Page:
        job = UUID(visit.ids["id"])
        try:
            with audited(self._audit, REPLAY, visit.request.request_id, user=str(visit.who.user_id), job=str(job)):
                async with self._pool.connection() as conn:
                    await retrying(lambda: replay(conn, job))
        except NotReplayed as refusal:
            return self._back(visit.who, str(refusal))
        return self._back(visit.who, f"Job {job} is due again.")

    async def reset(self, visit: Visit) -> Page:
        router = visit.ids["id"]
        try:
            with audited(self._audit, RESET, visit.request.request_id, user=str(visit.who.user_id), router=router):
                async with self._pool.connection() as conn:
                    await registry.find(conn, self._settings, router)
                    await states.reset(conn, router)
        except RouterNotFound:
            return self._back(visit.who, f"There is no router {router}.")
        return self._back(visit.who, f"The circuit of router {router} is closed: it is tried again at once.")

    def said(self, visit: Visit) -> str | None:
        """What the last action came to. Nobody else's words get onto the page by way of a link."""
        text, seal = visit.query("said"), visit.query("seal")
        return text if text and self._seals.is_said(seal, text, visit.who.token) else None

    def _back(self, who: Session, said: str) -> Page:
        self._board.ask_again()
        text = said[:_SAID_CHARS]
        return see_other(f"{HOME}?{urlencode({'said': text, 'seal': self._seals.said(text, who.token)})}")
