"""Routers, with their breakers and lanes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from attrs import evolve
import trio

from opendesk.console.shapes import Action, Figure, Plot, Row, Section, State, Table
from opendesk.console.texts import NOTHING, cut, number
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.health import Health
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.routers.states import StoredState, within
from opendesk.network.routers.status import CLOSED, HALF_OPEN, OPEN, Circuit
from opendesk.network.routers.worker import MAX_AT_ONCE, Worker

ROUTERS_SHOWN: Final = 1_000

ONLINE: Final = "online"
UNREACHABLE: Final = "unreachable"
REFUSED: Final = "refuses our log-in"
UNUSABLE: Final = "can't be used"

_ORDER: Final = {State.BAD: 0, State.WARN: 1, State.OK: 2, State.QUIET: 3}
_RESET: Final = Action(
    "reset",
    "Close the circuit",
    "Close this router's circuit now? It is tried again at once, by whichever daemon drives it.",
)


class RouterSeen(NamedTuple):
    """How one is, as it was found: texts are made of it only when it has changed. `health` is what this daemon knows of a router that it
    drives, `stored` what was written of another's. A tuple: of a thousand, each is made and compared every second.
    """

    spec: RouterSpec
    health: Health | None
    stored: StoredState | None
    circuit: Circuit
    lane: str
    waiting: int
    is_connected: bool = False

    @property
    def is_heard(self) -> bool:
        """A connection stands, and the last look over it went well: when that was isn't told, it would be another time every 30 s."""
        return self.health is not None and self.is_connected and not self.health.breaker.failures


def routers(found: Sequence[Row], plot: Plot) -> Section:
    rows = sorted(found, key=lambda row: _ORDER[row.state])
    total, bad = len(rows), sum(row.state is State.BAD for row in rows)
    reachable = sum(row.state is State.OK for row in rows)
    open_circuits = sum(row.can_act for row in rows)
    figures = (
        Figure("reachable", "Reachable", number(reachable), State.WARN if bad else State.OK, f"of {number(total)}"),
        Figure("open", "Circuits open", number(open_circuits), State.BAD if open_circuits else State.OK),
    )
    table = Table(
        "routers",
        "Routers",
        (
            "Router",
            "State",
            "Circuit",
            "Failures",
            "Lane",
            "Jobs waiting",
            "Last heard",
            "Address",
            "Last error",
        ),
        tuple(rows[:ROUTERS_SHOWN]),
        "No router is registered.",
        max(0, total - ROUTERS_SHOWN),
        _RESET,
    )
    return Section("routers", "Routers", figures, (plot,), (table,))


def router_row(key: str, one: RouterSeen, now: Callable[[], datetime]) -> Row:
    failures, word, identity, error, heard = _here(one.health, now()) if one.health else _elsewhere(one.stored)
    if one.spec.fault is not None:
        word = UNUSABLE
    is_well = one.circuit == CLOSED and not failures
    cells = (
        key,
        word,
        one.circuit,
        number(failures),
        one.lane,
        number(one.waiting),
        "now" if one.is_heard else NOTHING if heard is None else f"{heard.astimezone(UTC):%H:%M:%S}",
        cut(f"{one.spec.host}:{one.spec.port}{' TLS' if one.spec.tls else ''}{f', {identity}' if identity else ''}"),
        # Of one that is well again, what was wrong is for `opendesk router show`.
        cut(one.spec.fault or ("" if is_well else error) or ""),
    )
    return Row(key, cells, _state(one.circuit, word, failures), why=key, can_act=one.circuit != CLOSED)


def _state(circuit: Circuit, word: str, failures: int) -> State:
    if circuit == OPEN:
        return State.BAD
    if circuit != CLOSED or failures or word in {REFUSED, UNUSABLE}:
        return State.WARN
    return State.OK if word == ONLINE else State.QUIET


_Told = tuple[int, str, str | None, str | None, datetime | None]


def _here(health: Health, now: datetime) -> _Told:
    failures, contact_s = health.breaker.failures, health.contact_s
    heard = None if contact_s is None else now - timedelta(seconds=within(trio.current_time() - contact_s))
    if health.refused:
        word = REFUSED
    elif failures or not health.breaker.is_closed:
        word = UNREACHABLE
    else:
        word = "not tried yet" if contact_s is None else ONLINE
    return failures, word, health.identity, health.error, heard


def _elsewhere(stored: StoredState | None) -> _Told:
    if stored is None or stored.node is None:
        return 0, "driven by nobody", None, None, None if stored is None else stored.last_contact_at
    is_away = stored.failures or stored.open_until is not None
    word = REFUSED if stored.refused else UNREACHABLE if is_away else ONLINE
    return stored.failures, word, stored.identity, stored.last_error, stored.last_contact_at


def routers_seen(
    fleet: Fleet, stored: Mapping[str, StoredState], waiting: Mapping[str, int]
) -> Iterable[tuple[str, RouterSeen]]:
    """All of them by id: those that are driven here as they are now, the others as it was last written."""
    now_s = trio.current_time()
    for name in sorted(fleet.specs):
        spec, worker, jobs = fleet.specs[name], fleet.get(name), waiting.get(name, 0)
        if worker is not None:
            lane, is_connected = _lane(worker), worker.is_connected
            yield name, RouterSeen(spec, worker.health, None, _circuit(worker, now_s), lane, jobs, is_connected)
            continue
        state = stored.get(name)
        lane = "at another daemon" if state is not None and state.node is not None else NOTHING
        yield name, RouterSeen(spec, None, state and evolve(state, now=None), _stored_circuit(state), lane, jobs)


def _circuit(worker: Worker, now_s: float) -> Circuit:
    until_s = worker.health.breaker.open_until_s
    return CLOSED if until_s is None else HALF_OPEN if until_s <= now_s else OPEN


def _stored_circuit(state: StoredState | None) -> Circuit:
    if state is None or state.open_until is None:
        return CLOSED
    return HALF_OPEN if state.is_due else OPEN


def _lane(worker: Worker) -> str:
    if worker.silent_s is not None:
        return "tunnel silent"
    return f"{min(worker.places.holders, MAX_AT_ONCE)} of {MAX_AT_ONCE}" if worker.is_connected else "not connected"
