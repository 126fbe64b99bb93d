"""From what the daemon and its database know to a snapshot of the page.

What needs the database is asked in turn over one connection, each as often as it is worth; what went wrong is told on the section that
it is of, which keeps what was known before.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import define, field, frozen
import structlog
import trio

from opendesk.console.history import History
from opendesk.console.sections.daemon import DaemonFacts, daemon
from opendesk.console.sections.events import EVENTS_SHOWN, EventFacts, events
from opendesk.console.sections.jobs import DEAD_SHOWN, JobFacts, jobs
from opendesk.console.sections.kept import Kept
from opendesk.console.sections.ledger import LedgerFacts, ledger
from opendesk.console.sections.relay import relay, room_row
from opendesk.console.sections.rental import HOSTS_SHOWN, SESSIONS_SHOWN, RentalFacts, rental
from opendesk.console.sections.routers import RouterSeen, router_row, routers, routers_seen
from opendesk.console.sections.tunnels import tunnels
from opendesk.console.shapes import SECTIONS, Section, Snapshot
from opendesk.console.texts import stamp
from opendesk.network import glance as network
from opendesk.network.events import looking as event_looking
from opendesk.network.jobs import looking as job_looking
from opendesk.network.parts import Network
from opendesk.network.tunnels.keeping.reconcile import Glance
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.rental import glance as rental_glance
from opendesk.stream import glance as stream_glance
from opendesk.stream.glance import RoomSeen
from opendesk.stream.relay import Relay

log = structlog.get_logger()

# For all that is due at once: a healthy database takes milliseconds.
LOOK_S: Final = 2.0
_NOW_S: Final = 0.0
_SOON_S: Final = 2.0
_SELDOM_S: Final = 5.0
_RARELY_S: Final = 10.0

AWAY_TEXT: Final = "The database doesn't answer: what is shown is what was known before."

Read = Callable[[TrioConnection], Awaitable[Any]]


@frozen(kw_only=True)
class Sources:
    """What is looked at. `daemon` tells of the daemon itself, `ledger` of the last proof."""

    pool: Pool
    relay: Relay
    own_node: Any
    network: Network
    history: History
    currency: str
    fresh_s: float  # of a host's last beat
    now: Callable[[], datetime]
    daemon: Callable[[], DaemonFacts]
    ledger: Callable[[], LedgerFacts]


@define
class _Look:
    """A statement, when it is due next, and what came of it last."""

    read: Read
    period_s: float
    due_s: float = float("-inf")


@define(eq=False)
class Gatherer:
    """Two at once would do the same twice: whoever asks takes turns (`Board`)."""

    _on: Sources
    _looks: dict[str, _Look] = field(init=False)
    _known: dict[str, Any] = field(factory=dict, init=False)
    _rooms: Kept[RoomSeen] = field(factory=lambda: Kept(room_row), init=False)
    _routers: Kept[RouterSeen] = field(init=False)
    _tunnels: tuple[tuple[object, ...], Section] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        on = self._on
        self._routers = Kept(partial(router_row, now=on.now))
        self._looks = {
            "live": _Look(rental_glance.live, _NOW_S),
            "sessions": _Look(partial(rental_glance.live_sessions, limit=SESSIONS_SHOWN), _NOW_S),
            "ended": _Look(lambda conn: rental_glance.ended_today(conn, on.now()), _SELDOM_S),
            "places": _Look(partial(rental_glance.places, fresh_s=on.fresh_s), _SELDOM_S),
            "hosts": _Look(partial(rental_glance.hosts_seen, fresh_s=on.fresh_s, limit=HOSTS_SHOWN), _SELDOM_S),
            "elsewhere": _Look(lambda conn: stream_glance.elsewhere(conn, on.own_node), _SELDOM_S),
            "states": _Look(self._read_states, _SOON_S),
            "lanes": _Look(network.lanes, _SOON_S),
            "numbers": _Look(job_looking.numbers, _SOON_S),
            "dead": _Look(partial(job_looking.list_jobs, state="dead", limit=DEAD_SHOWN), _SOON_S),
            "waiting": _Look(event_looking.count_waiting, _SOON_S),
            "events": _Look(partial(event_looking.list_events, limit=EVENTS_SHOWN), _SOON_S),
            "today": _Look(network.events_today, _RARELY_S),
        }

    async def snapshot(self) -> Snapshot:
        fault = await self._ask()
        now = self._on.now()
        made = {section.name: section for section in self._sections(now, fault)}
        return Snapshot(stamp(now), {name: made[name] for name in SECTIONS})

    def ask_again(self) -> None:
        """Somebody changed something, and wants to see it."""
        for look in self._looks.values():
            look.due_s = float("-inf")

    # ---- asked of the database

    async def _ask(self) -> str | None:
        try:
            with trio.fail_after(LOOK_S):
                async with self._on.pool.connection() as conn:
                    for name, look in self._looks.items():
                        if trio.current_time() >= look.due_s:
                            self._known[name] = await look.read(conn)
                            look.due_s = trio.current_time() + look.period_s
        except (*AWAY, trio.TooSlowError) as error:
            log.debug("console.database_away", error=repr(error))
            return AWAY_TEXT
        return None

    async def _read_states(self, conn: TrioConnection) -> Mapping[str, Any]:
        elsewhere = network.driven_elsewhere(self._on.network.fleet)
        return await network.stored_states(conn, elsewhere) if elsewhere else {}

    # ---- told

    def _sections(self, now: datetime, fault: str | None) -> tuple[Section, ...]:
        on, known, plot = self._on, self._known, self._on.history.plot
        lanes = known.get("lanes")
        routers_now = routers_seen(
            on.network.fleet, known.get("states", {}), lanes.routers if lanes is not None else {}
        )
        return (
            _with(fault, rental(self._rental_facts(), plot("sessions"), on.currency, now)),
            relay(stream_glance.relay_seen(on.relay), known.get("elsewhere"), plot("rate"), self._rooms),
            _with(fault, routers(routers_now, plot("open"), self._routers)),
            self._tunnel_section(on.network.tunnels.glance()),
            _with(fault, jobs(self._job_facts(), plot("due"), now)),
            _with(fault, events(self._event_facts(), plot("waiting"), now)),
            ledger(on.ledger(), on.currency, now),
            daemon(on.daemon(), (plot("lag"), plot("memory"))),
        )

    def _rental_facts(self) -> RentalFacts:
        return RentalFacts(**self._found("live", "sessions", "ended", "places", "hosts"))

    def _job_facts(self) -> JobFacts:
        return JobFacts(**self._found("numbers", "dead"))

    def _event_facts(self) -> EventFacts:
        return EventFacts(**self._found("waiting", "today", "lanes"), last=self._known.get("events", ()))

    def _found(self, *names: str) -> dict[str, Any]:
        return {name: self._known[name] for name in names if name in self._known}

    def _tunnel_section(self, seen: Glance | None) -> Section:
        """Anew only with another reading: there may be ten thousand devices."""
        version = () if seen is None else (seen.interface, seen.read_unix, self._on.network.tunnels.registry.version)
        if self._tunnels is None or self._tunnels[0] != version:
            self._tunnels = version, tunnels(seen)
        return self._tunnels[1]


def _with(fault: str | None, section: Section) -> Section:
    if fault is None:
        return section
    return Section(section.name, section.title, section.figures, section.plots, section.tables, fault)
