"""From what the daemon and its database know to a snapshot of the page.

What needs the database is asked beside it (`Asking`), each as often as it is worth; what went wrong is told on the section that it is
of, which keeps what was known before. A section is made anew only of something else.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import define, evolve, field, frozen
import structlog

from opendesk.console.asking import UNREAD_TEXT, Asking, Look
from opendesk.console.history import History
from opendesk.console.outage import Outage
from opendesk.console.sections.daemon import DaemonFacts, daemon
from opendesk.console.sections.events import EVENTS_SHOWN, EventFacts, events
from opendesk.console.sections.jobs import DEAD_SHOWN, JobFacts, jobs
from opendesk.console.sections.kept import Kept, Made
from opendesk.console.sections.ledger import LedgerFacts, ledger
from opendesk.console.sections.relay import relay, room_row
from opendesk.console.sections.rental import HOSTS_SHOWN, SESSIONS_SHOWN, RentalFacts, Tables, rental
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
from opendesk.postgres.pool import Pool
from opendesk.rental import glance as rental_glance
from opendesk.stream import glance as stream_glance
from opendesk.stream.glance import RoomSeen
from opendesk.stream.relay import Relay

log = structlog.get_logger()

_NOW_S: Final = 0.0
_SOON_S: Final = 2.0
_SELDOM_S: Final = 5.0
_RARELY_S: Final = 10.0

# Beside what is wrong with the database: most of these rows need none.
_DRIVEN_HERE: Final = "Routers that this daemon drives are shown as they are."


@frozen(kw_only=True)
class Sources:
    """What is looked at. `daemon` tells of the daemon itself, `ledger` of the last proof."""

    pool: Pool
    outage: Outage
    relay: Relay
    own_node: Any
    network: Network
    history: History
    currency: str
    fresh_s: float  # of a host's last beat
    now: Callable[[], datetime]
    daemon: Callable[[bool | None], DaemonFacts]
    ledger: Callable[[], LedgerFacts]


@define(eq=False)
class Gatherer:
    """Two at once would do the same twice: whoever asks takes turns (`Board`). `asking` runs beside it."""

    _on: Sources
    asking: Asking = field(init=False)
    _rooms: Kept[RoomSeen] = field(factory=lambda: Kept(room_row), init=False)
    _routers: Kept[RouterSeen] = field(init=False)
    _rental: Tables = field(factory=Tables, init=False)
    _made: dict[str, Made[Section]] = field(init=False)
    _tunnels: Made[Section] = field(factory=Made, init=False)
    _last: dict[str, Section] = field(factory=dict, init=False)
    _failing: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        on = self._on
        self._routers = Kept(partial(router_row, now=on.now))
        self._made = {name: Made() for name in SECTIONS}
        self.asking = Asking(on.pool, on.outage, self._looks())

    def _looks(self) -> dict[str, dict[str, Look]]:
        """By the part of the page that they are of."""
        on = self._on
        return {
            "rental": {
                "live": Look(rental_glance.live, _NOW_S),
                "sessions": Look(partial(rental_glance.live_sessions, limit=SESSIONS_SHOWN), _NOW_S),
                "ended": Look(lambda conn: rental_glance.ended_today(conn, on.now()), _SELDOM_S),
                "places": Look(partial(rental_glance.places, fresh_s=on.fresh_s), _SELDOM_S),
                "hosts": Look(partial(rental_glance.hosts_seen, fresh_s=on.fresh_s, limit=HOSTS_SHOWN), _SELDOM_S),
            },
            "relay": {"elsewhere": Look(lambda conn: stream_glance.elsewhere(conn, on.own_node), _SELDOM_S)},
            "routers": {"states": Look(self._read_states, _SOON_S), "lanes": Look(network.lanes, _SOON_S)},
            "jobs": {
                "numbers": Look(job_looking.numbers, _SOON_S),
                "dead": Look(partial(job_looking.list_jobs, state="dead", limit=DEAD_SHOWN), _SOON_S),
            },
            "events": {
                "waiting": Look(event_looking.count_waiting, _SOON_S),
                "events": Look(partial(event_looking.list_events, limit=EVENTS_SHOWN), _SOON_S),
                "today": Look(network.events_today, _RARELY_S),
            },
        }

    async def snapshot(self) -> Snapshot:
        """With what the database answered by now: it is asked, and hardly waited for."""
        await self.asking.ask()
        now = self._on.now()
        make = self._sections(now)
        return Snapshot(stamp(now), {name: self._guarded(name, make[name]) for name in SECTIONS})

    def ask_again(self) -> None:
        """Somebody changed something, and wants to see it."""
        self.asking.ask_again()

    async def _read_states(self, conn: TrioConnection) -> Mapping[str, Any]:
        elsewhere = network.driven_elsewhere(self._on.network.fleet)
        return await network.stored_states(conn, elsewhere) if elsewhere else {}

    # ---- told

    def _guarded(self, name: str, make: Callable[[], Section]) -> Section:
        """Of one that can't be made: as it was before, and that it is old. The log tells of it once, until it can be made again."""
        try:
            made = make()
        except Exception:  # the other sections go on
            if name not in self._failing:
                self._failing.add(name)
                log.exception("console.section_failed", section=name)
            return evolve(self._last.get(name, Section(name, name.capitalize())), fault=UNREAD_TEXT)
        self._failing.discard(name)
        self._last[name] = made
        return made

    def _sections(self, now: datetime) -> Mapping[str, Callable[[], Section]]:
        on, plot = self._on, self._on.history.plot
        return {
            "rental": lambda: self._rental_section(now),
            "relay": self._relay_section,
            "routers": self._router_section,
            "tunnels": lambda: self._tunnel_section(on.network.tunnels.glance()),
            "jobs": lambda: self._kept("jobs", now, self._job_facts(), plot("due"), jobs),
            "events": lambda: self._kept("events", now, self._event_facts(), plot("waiting"), events),
            "ledger": lambda: ledger(on.ledger(), on.currency, now),
            "daemon": lambda: daemon(on.daemon(self._database_is_up), (plot("lag"), plot("memory"))),
        }

    def _relay_section(self) -> Section:
        """The fault of `elsewhere` is told by a dash."""
        on = self._on
        seen, elsewhere = stream_glance.relay_seen(on.relay), self.asking.known.get("elsewhere")
        return relay(seen, elsewhere, on.history.plot("rate"), self._rooms)

    @property
    def _database_is_up(self) -> bool | None:
        return False if self.asking.is_mute else self._on.outage.is_up

    def _kept(self, name: str, now: datetime, facts: Any, plot: Any, make: Callable[..., Section]) -> Section:
        """Anew only of other facts, or on another day, of which times are told otherwise."""
        fault = self.asking.fault(name)
        return self._made[name].of((facts, plot, now.date(), fault), lambda: _with(fault, make(facts, plot, now)))

    def _rental_section(self, now: datetime) -> Section:
        on = self._on
        facts = RentalFacts(**self._found("live", "sessions", "ended", "places", "hosts"))
        make = partial(rental, currency=on.currency, kept=self._rental)
        return self._kept("rental", now, facts, on.history.plot("sessions"), make)

    def _router_section(self) -> Section:
        known, fault = self.asking.known, self.asking.fault("routers")
        lanes = known.get("lanes")
        waiting = lanes.routers if lanes is not None else {}
        rows = self._routers.rows(routers_seen(self._on.network.fleet, known.get("states", {}), waiting))
        plot = self._on.history.plot("open")
        told = fault and f"{fault} {_DRIVEN_HERE}"
        return self._made["routers"].of((rows, plot, told), lambda: _with(told, routers(rows, plot)))

    def _job_facts(self) -> JobFacts:
        return JobFacts(**self._found("numbers", "dead"))

    def _event_facts(self) -> EventFacts:
        return EventFacts(**self._found("waiting", "today", "lanes"), last=self.asking.known.get("events", ()))

    def _found(self, *names: str) -> dict[str, Any]:
        return {name: self.asking.known[name] for name in names if name in self.asking.known}

    def _tunnel_section(self, seen: Glance | None) -> Section:
        """Anew only with another reading: there may be ten thousand devices."""
        version = () if seen is None else (seen.interface, seen.read_unix, self._on.network.tunnels.registry.version)
        return self._tunnels.of(version, lambda: tunnels(seen))


def _with(fault: str | None, section: Section) -> Section:
    if fault is None:
        return section
    return Section(section.name, section.title, section.figures, section.plots, section.tables, fault)
