"""Sessions and money today, hosts and their PCs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Final

from attrs import define, field, frozen

from opendesk.console.sections.kept import Kept, Made
from opendesk.console.shapes import Figure, Plot, Row, Section, State, Table
from opendesk.console.texts import NOTHING, clock, cut, money, number
from opendesk.rental.glance import COUNT_AT_MOST, DAY_AT_MOST, Ended, HostSeen, Live, LiveSession, Places

SESSIONS_SHOWN: Final = 200
HOSTS_SHOWN: Final = 100

_POOR_RELIABILITY: Final = 70


@frozen(kw_only=True)
class RentalFacts:
    """None is what nobody knows yet."""

    live: Live | None = None
    sessions: Sequence[LiveSession] = ()
    ended: Mapping[str, Ended] | None = None
    places: Places | None = None
    hosts: Sequence[HostSeen] = ()


@define(eq=False)
class Tables:
    """Made anew only of what is other than before, or told otherwise: on another day, by its date."""

    _rows: Kept[tuple[LiveSession, date, str]] = field(factory=lambda: Kept(_session), init=False)
    _sessions: Made[Table] = field(factory=Made, init=False)
    _hosts: Made[Table] = field(factory=Made, init=False)

    def of(self, facts: RentalFacts, currency: str, now: datetime) -> tuple[Table, Table]:
        shown, today = facts.sessions[:SESSIONS_SHOWN], now.date()
        rows = self._rows.rows((str(one.id), (one, today, currency)) for one in shown)
        sessions = self._sessions.of((rows, facts.live), lambda: _session_table(facts, rows))
        return sessions, self._hosts.of((facts.hosts, facts.places, today), lambda: _host_table(facts, now))


def rental(facts: RentalFacts, plot: Plot, now: datetime, currency: str, kept: Tables) -> Section:
    figures = (*_sessions(facts), *_money(facts.ended, currency), *_places(facts.places))
    return Section("rental", "Rental", figures, (plot,), kept.of(facts, currency, now))


def _sessions(facts: RentalFacts) -> tuple[Figure, ...]:
    live, ended = facts.live, facts.ended
    over = None if ended is None else sum(one.sessions for one in ended.values())
    timed_out = 0 if ended is None else sum(one.sessions for why, one in ended.items() if why == "HOST_TIMEOUT")
    reasons = {} if ended is None else {why: one.sessions for why, one in sorted(ended.items())}
    return (
        Figure("live", "Sessions live", number(live.active if live else None, most=COUNT_AT_MOST)),
        Figure("pending", "Waiting to start", number(live.pending if live else None, most=COUNT_AT_MOST)),
        Figure(
            "ended",
            "Ended today (UTC)",
            number(over, most=DAY_AT_MOST),
            State.WARN if timed_out else State.OK,
            ", ".join(f"{_words(why)} {count}" for why, count in reasons.items()),
        ),
    )


def _money(ended: Mapping[str, Ended] | None, currency: str) -> tuple[Figure, ...]:
    parts = (
        ("host_payout", "Paid to hosts today"),
        ("platform_fee", "Fees today"),
        ("retained", "Retained today"),
        ("client_credit", "Back to clients today"),
    )
    if ended is None:
        return tuple(Figure(key, label, NOTHING) for key, label in parts)
    # Not all were counted: so there is more.
    more = "+" if sum(one.sessions for one in ended.values()) >= DAY_AT_MOST else ""
    sums = {key: sum(getattr(one, key) for one in ended.values()) for key, _ in parts}
    return tuple(Figure(key, label, f"{money(sums[key], currency)}{more}") for key, label in parts)


def _places(places: Places | None) -> tuple[Figure, ...]:
    if places is None:
        return (Figure("hosts", "Hosts online", NOTHING), Figure("pcs", "PCs free", NOTHING))
    return (
        Figure("hosts", "Hosts online", number(places.hosts_online), note=f"of {number(places.hosts)}"),
        Figure(
            "pcs",
            "PCs free",
            number(places.online),
            note=f"{number(places.busy)} rented, of {number(places.pcs)}",
        ),
    )


def _session_table(facts: RentalFacts, rows: tuple[Row, ...]) -> Table:
    live = 0 if facts.live is None else facts.live.active + facts.live.pending
    return Table(
        "sessions",
        "Live sessions",
        ("Session", "State", "PC", "Host", "Client", "Began", "Ends", "Minutes", "Price", "Stream"),
        rows,
        "No session is live.",
        max(0, live - len(rows)),
    )


def _session(key: str, fact: tuple[LiveSession, date, str]) -> Row:
    one, today, currency = fact
    now = datetime.combine(today, time.min, UTC)
    cells = (
        key,
        "overdue" if one.is_overdue else _words(one.status),
        cut(one.pc),
        cut(one.host),
        cut(one.client),
        clock(one.start_at, now),
        clock(one.end_at, now),
        number(one.minutes_purchased),
        money(one.price_total, currency),
        "relay" if one.by_relay else "direct",
    )
    state = State.WARN if one.is_overdue else State.OK if one.status == "ACTIVE" else State.QUIET
    return Row(key, cells, state, why=key)


def _host_table(facts: RentalFacts, now: datetime) -> Table:
    shown = facts.hosts[:HOSTS_SHOWN]
    return Table(
        "hosts",
        "Hosts",
        ("Host", "State", "PCs", "Live", "Reliability", "Completed", "Dropped", "Last heard"),
        tuple(_host(one, now) for one in shown),
        "No host was ever heard of.",
        max(0, (facts.places.hosts if facts.places else 0) - len(shown)),
    )


def _host(one: HostSeen, now: datetime) -> Row:
    if not one.is_fresh:
        state, word = (State.BAD, "silent") if one.live else (State.QUIET, "offline")
    else:
        state, word = (State.WARN if one.reliability < _POOR_RELIABILITY else State.OK), "online"
    # To the minute: hosts beat every few seconds, and a table isn't to change with each of them.
    heard = "now" if one.is_fresh else clock(one.seen_at, now)
    cells = (
        cut(one.name), word, number(one.pcs), number(one.live), number(one.reliability), number(one.completed), number(one.dropped), heard,
    )  # fmt: skip
    return Row(str(one.id), cells, state, why=str(one.id))


def _words(code: str) -> str:
    return code.replace("_", " ").lower()
