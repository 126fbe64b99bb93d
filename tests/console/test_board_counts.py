"""What is counted for the page: one word means one thing, and a crowd hides nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve
import pytest

from opendesk import telling
from opendesk.console import history
from opendesk.console.sections.events import EventFacts, events
from opendesk.console.sections.rental import RentalFacts, _money, _sessions
from opendesk.console.sections.tunnels import TUNNELS_SHOWN, tunnels
from opendesk.console.shapes import Plot, State
from opendesk.network import glance
from opendesk.network.events.acks import ACK_LANE
from opendesk.network.jobs import NewJob, add_many
from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.reconcile import Glance
from opendesk.network.wireguard.dump import Interface, Peer
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import glance as rental_glance
from opendesk.rental.glance import Ended
from tests.rental import builders

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


async def test_what_waits_is_due_by_now_or_runs_wherever_it_is_told(conn: TrioConnection) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)
    jobs = [NewJob("PING", "r1", f"later-{n}", {}, run_at=later) for n in range(5)]
    (*_, running) = await add_many(conn, [*jobs, NewJob("PING", "r1", "due", {}), NewJob("PING", "r1", "runs", {})])
    lease = "UPDATE jobs SET state = 'running', leased_by = uuidv7(), leased_until = now() + interval '1 hour' WHERE id = %(id)s"
    await conn.run(lease, {"id": running.id})
    assert (await glance.lanes(conn)).routers == {"r1": 2}
    assert (await history._counts(conn))["due"] == 2
    found = await conn.fetch_one(telling._COUNTS, {"most": 10}, row=telling._Counts)
    assert found is not None
    assert found.jobs == 2


async def test_an_ack_that_failed_waits_between_its_tries_too(conn: TrioConnection) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    await add_many(conn, [NewJob("ACK_EVENT", ACK_LANE, "a", {}, run_at=later)])
    await conn.run("UPDATE jobs SET outcomes = 1")
    lanes = await glance.lanes(conn)
    assert (lanes.acks, lanes.acks_failing) == (1, 1)


_EVENTS = """
    INSERT INTO events (id_hash, dry_run, received_at, ok, executed_at, type, reason)
    SELECT sha256((%(name)s || n)::bytea), false, greatest(date_trunc('day', now(), 'UTC'), now() - %(ago_s)s * interval '1 second'),
           %(reason)s::text IS NULL, now(), 'X', %(reason)s FROM generate_series(1, %(many)s) AS n
"""


async def test_a_crowd_of_events_hides_no_failure_and_the_last_one_is_the_last(
    conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "DAY_AT_MOST", 3)
    await conn.run(_EVENTS, {"name": "bad", "ago_s": 0, "reason": "failed", "many": 1})
    await conn.run(_EVENTS, {"name": "good", "ago_s": -1, "reason": None, "many": 5})
    today = await glance.events_today(conn)
    assert (today.done, today.is_more, today.failed, today.refused, today.is_more_wrong) == (3, True, 1, 0, False)
    last = await conn.fetch_one("SELECT max(received_at) FROM events")
    assert last is not None
    assert today.last_at == last[0]
    figures = {one.key: one for one in events(EventFacts(today=today), Plot("waiting", "", "", ()), NOW).figures}
    assert (figures["done"].value, figures["failed"].value, figures["failed"].state) == ("3+", "1", State.BAD)


async def test_of_a_crowd_of_sessions_the_last_are_counted(
    conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [await builders.set_stage(conn) for _ in range(2)]
    for stage in stages:
        await builders.rent(conn, stage)
    monkeypatch.setattr(rental_glance, "DAY_AT_MOST", 1)
    ended = """
        UPDATE sessions SET status = 'ENDED', ended_at = now(), failure_reason = 'NONE', minutes_used = 0,
               end_reason = CASE WHEN host_id = %(host)s THEN 'ENDED_BY_HOST' ELSE 'ENDED_BY_CLIENT' END,
               proportional = 0, platform_fee = 0, host_payout = 0, retained = price_total, refunded = 0, client_credit = 0, penalty = 0
    """
    await conn.run(ended, {"host": stages[1].host.id})
    assert set(await rental_glance.ended_today(conn, datetime.now(UTC))) == {"ENDED_BY_HOST"}


@pytest.mark.parametrize(("more", "mark"), [(0, "+"), (-1, "")], ids=["not all", "all"])
def test_money_that_is_not_all_has_a_plus(more: int, mark: str) -> None:
    count = rental_glance.DAY_AT_MOST + more
    one = Ended(end_reason="COMPLETED", sessions=count, host_payout=100, platform_fee=0, retained=0, client_credit=0)
    ended = {"COMPLETED": one}
    assert [figure.value for figure in _money(ended, "BRL")] == [f"1.00 BRL{mark}", *[f"0.00 BRL{mark}"] * 3]
    assert _sessions(RentalFacts(ended=ended))[-1].value == f"{count:,}{mark}"


def device(number: int, fault: str | None = None) -> Known:
    return Known(
        id=f"bus-{number:03}", public_key=f"key-{number}", next_public_key=None, next_since_unix=None, proves_since_unix=None,
        tunnel_ip=None, allowed_ips=(), peers=(), name=None, undialled=(), fault=fault, sealed=(None, None),
    )  # fmt: skip


def seen(devices: list[Known], silent: set[int]) -> Glance:
    peers = {
        one.public_key: Peer(one.public_key, None, None, (), 1 if place in silent else 1_000, 0, 0, 0)
        for place, one in enumerate(devices)
    }
    return Glance(Interface(None, 0, peers), 1_001.0, {one.id: one for one in devices}, 180.0)


def rows_of(section: Any) -> list[tuple[str, State]]:
    return [(row.key, row.state) for row in section.tables[0].rows]


def test_a_fault_makes_a_tunnel_no_better_and_stands_before_those_that_are_well() -> None:
    devices = [device(0), device(1, "its key is no key"), device(2), device(3, "its key is no key")]
    section = tunnels(seen(devices, silent={2, 3}))
    expected = [("bus-002", State.BAD), ("bus-003", State.BAD), ("bus-001", State.WARN), ("bus-000", State.OK)]
    assert rows_of(section) == expected
    faulty = next(figure for figure in section.figures if figure.key == "faulty")
    assert (faulty.value, faulty.state) == ("2", State.WARN)


def test_a_faulty_one_among_many_has_its_room() -> None:
    devices = [device(number, "its key is no key" if number == 250 else None) for number in range(260)]
    section = tunnels(seen(devices, silent=set()))
    assert len(rows_of(section)) == TUNNELS_SHOWN
    assert rows_of(section)[0] == ("bus-250", State.WARN)
    assert section.worst is State.WARN


def test_a_faulty_one_is_told_of_while_the_interface_cannot_be_read() -> None:
    found = evolve(seen([device(0, "its key is no key")], silent=set()), interface=None)
    assert [figure.value for figure in tunnels(found).figures if figure.key == "faulty"] == ["1"]
