"""What the console is made of, put together; nothing runs yet."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from attrs import frozen

from opendesk.console.acting import Acting
from opendesk.console.app import ConsoleApp
from opendesk.console.board import Board
from opendesk.console.gathering import Gatherer, Sources
from opendesk.console.history import History
from opendesk.console.outage import Outage
from opendesk.console.pages import Pages
from opendesk.console.proving import Proving
from opendesk.console.seals import Seals
from opendesk.console.searching import Searching
from opendesk.console.self_seen import SelfSeen
from opendesk.console.sessions import Sessions
from opendesk.console.streaming import Streaming
from opendesk.network.parts import Network
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.postgres.pool import Pool
from opendesk.rental.api.context import Rental
from opendesk.rental.api.users import Users
from opendesk.rental.proving import tell
from opendesk.settings import Settings
from opendesk.stream.relay import Relay
from opendesk.web.endpoint import WebRequest


class DatabaseIs(Protocol):
    def __call__(self, *, up: bool) -> None: ...


@frozen
class Console:
    """`services` are the daemon's; `stop` is called when it begins to stop, `lagged` with how late its loop woke, `database_is` with whether
    the database answers.
    """

    app: ConsoleApp
    services: Mapping[str, Callable[[], Awaitable[None]]]
    stop: Callable[[], None]
    lagged: Callable[[float], None]
    database_is: DatabaseIs


def console(
    settings: Settings,
    *,
    rental: Rental,
    relay: Relay,
    network: Network,
    own_node: UUID,
    upkeep: Pool,
    metrics: Metrics,
    audit: Audit,
    jwt_secret: bytes,
    read: Callable[[Mapping[str, Any], bytes], WebRequest],
    now: Callable[[], datetime],
) -> Console:
    """What is shown is read over `upkeep`, what admins ask for over the callers' pool."""
    pool, pages, seals = rental.pool, Pages(), Seals.of(jwt_secret)
    seen = SelfSeen(metrics.registry, relay, network.fleet)
    outage = Outage()
    history = History(upkeep, seen.counts)
    proving = Proving(upkeep, now, partial(tell, metrics=metrics))
    sources = Sources(
        pool=upkeep,
        outage=outage,
        relay=relay,
        own_node=own_node,
        network=network,
        history=history,
        currency=rental.terms.currency,
        fresh_s=rental.terms.heartbeat_timeout.total_seconds(),
        now=now,
        daemon=lambda is_up: seen.facts(database=is_up, watchers=len(board.watchers)),
        ledger=lambda: proving.facts,
    )
    gatherer = Gatherer(sources)
    board = Board(gatherer, proving, upkeep, outage)
    sessions = Sessions(pool, Users(rental), seals, pages, audit, outage, now)
    acting = Acting(pool, settings, board, seals, audit)
    searching = Searching(pool, pages, seals, now)
    app = ConsoleApp(
        board, sessions, acting, searching, pages, seals, outage, metrics, Streaming(board, sessions), read
    )
    services = {"console": board.run, "console_looks": gatherer.asking.run, "console_history": history.run}
    return Console(app, services, board.stop, seen.lagged, outage.database_is)
