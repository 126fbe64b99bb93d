"""Everything that is known of a word that somebody asks why of, for the command line and the page."""

from collections.abc import Iterator
from uuid import UUID

from attrs import frozen

from opendesk.console.telling import chain_told, cut_lines
from opendesk.console.telling_rental import KINDS, rental_told
from opendesk.console.telling_router import router_told
from opendesk.console.telling_session import session_told
from opendesk.console.told import Told
from opendesk.network import story as routers
from opendesk.network.events import chain as chains
from opendesk.network.events.chain import Chain
from opendesk.network.story import RouterStory
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import story as rental
from opendesk.rental.sessions import story as sessions
from opendesk.rental.sessions.story import Story


@frozen(kw_only=True)
class Found:
    """`others`: a user, a host, a PC or a transfer."""

    chain: Chain
    story: Story | None = None
    routers: tuple[RouterStory, ...] = ()
    others: tuple[rental.Story, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self.chain.is_empty and self.story is None and not self.routers and not self.others

    @property
    def kinds(self) -> tuple[str, ...]:
        session = () if self.story is None else ("sessionId",)
        router = ("routerId",) if self.routers else ()
        return (*self.chain.found_as, *session, *router, *(KINDS[type(other)] for other in self.others))

    def told(self) -> Iterator[Told]:
        if self.story is not None:
            yield session_told(self.story)
        for other in self.others:
            yield rental_told(other)
        for router in self.routers:
            yield router_told(router)
        yield from chain_told(self.chain)
        for line in cut_lines(self.chain):
            yield Told(line)


async def find(conn: TrioConnection, word: str, *, as_token: bool = True) -> Found:
    """By the id of a session, host, PC, user, transfer, router, order, event or job, a deviceToken, a MAC or IP address, or a user's name.

    Without `as_token` it is no deviceToken, whatever it is.
    """
    return Found(
        chain=await chains.find(conn, word, as_token=as_token),
        story=await _session(conn, word),
        routers=tuple(await routers.find(conn, word)),
        others=tuple(await rental.find(conn, word)),
    )


async def _session(conn: TrioConnection, word: str) -> Story | None:
    wanted: UUID | None = rental.as_uuid(word)
    return None if wanted is None else await sessions.find(conn, wanted)
