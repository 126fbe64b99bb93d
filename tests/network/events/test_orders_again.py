"""What an order has after its events: time once, one trial, wherever its device is; and what is told of what nobody ever saw."""

from typing import Any
from uuid import UUID

import pytest

from opendesk.network.events import retention
from opendesk.network.hotspots import grants
from opendesk.network.hotspots.replaying import bring_back
from opendesk.network.jobs import looking
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.events.arriving import IP, MAC, Taker, release, revoke, taker, trial
from tests.network.hotspots.test_grants import began, later

NEW_IP = "10.5.50.8"
OTHER = "AA:BB:CC:DD:EE:02"


@pytest.fixture
async def inbox(pool: Pool, conn: TrioConnection) -> Taker:
    made = taker(pool, conn)
    await made.fleet.read_registry()
    return made


async def opened(conn: TrioConnection, minutes_ago: float, *, seen: bool = True) -> None:
    """All that is live."""
    ids = [row[0] for row in await conn.fetch("SELECT id FROM hotspot_grants WHERE ended_at IS NULL")]
    await began(conn, *ids)
    if seen:
        await grants.observed(conn, ids)
    await later(conn, minutes_ago * 60)


async def live(conn: TrioConnection) -> list[tuple[Any, ...]]:
    """Addresses, whether it is a trial, and the minutes that are left."""
    return await conn.fetch(
        """SELECT host(ip), upper(mac::text), trial, round(coalesce(extract(epoch FROM until - now()), duration_s) / 60)::int
             FROM hotspot_grants WHERE ended_at IS NULL ORDER BY id"""
    )


async def job_of(inbox: Taker, event_id: str) -> UUID:
    return UUID((await inbox.row(event_id))["job_id"])


# ---- one trial


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
async def test_a_trial_that_was_paid_and_revoked_is_not_given_again(
    inbox: Taker, conn: TrioConnection, *, together: bool
) -> None:
    await inbox.take(trial("e1"))
    await opened(conn, 4)
    batch = [release("e2", minutes=30), revoke("e3"), trial("e4")]
    for events in [batch] if together else [[one] for one in batch]:
        await inbox.take(*events)
    assert (await inbox.row("e4"))["reason"] == "grant_ended"
    assert await live(conn) == []


async def test_nor_is_it_where_that_was_moved(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(trial("e1"))
    await opened(conn, 4)
    await inbox.take(
        release("e2", minutes=30), release("e3", minutes=30, ip=NEW_IP), revoke("e4"), revoke("e5", ip=NEW_IP)
    )
    await inbox.take(trial("e6", mac=OTHER))
    assert (await inbox.row("e6"))["reason"] == "grant_ended"


async def test_a_trial_whose_release_failed_goes_on_and_is_not_given_again(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(trial("e1"))
    await opened(conn, 4)
    await inbox.do(await job_of(inbox, "e1"))
    await inbox.take(release("e2", minutes=30))
    await inbox.do(await job_of(inbox, "e2"), "dead")
    await inbox.take(trial("e3"), release("e4", minutes=30, mac=OTHER, ip=NEW_IP))
    assert await live(conn) == [(IP, MAC, True, 1), (NEW_IP, OTHER, False, 30)]
    assert (await inbox.row("e3"))["ok"] is None, "it joins what is there"


# ---- elsewhere


async def test_the_same_order_at_a_new_ip_has_the_time_that_is_left(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await opened(conn, 29)
    await inbox.take(release("e2", minutes=30, ip=NEW_IP))
    assert await live(conn) == [(NEW_IP, MAC, False, 1)]
    ((places,),) = await conn.fetch("SELECT payload -> 'places' FROM jobs WHERE id = %s", (await job_of(inbox, "e2"),))
    assert places == [[NEW_IP, MAC], [IP, MAC]]
    ends = await conn.fetch(
        "SELECT round(extract(epoch FROM j.run_at - g.until))::int FROM jobs j JOIN hotspot_grants g ON j.key = 'grant:' || g.id WHERE g.ended_at IS NULL"
    )
    assert ends == [(0,)]


async def test_more_time_at_a_new_ip_begins_anew(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await opened(conn, 29)
    await inbox.take(release("e2", minutes=60, ip=NEW_IP))
    assert await live(conn) == [(NEW_IP, MAC, False, 60)]


async def test_a_trial_at_a_new_ip_goes_on_and_what_is_paid_there_is_its_own(
    inbox: Taker, conn: TrioConnection
) -> None:
    await inbox.take(trial("e1"))
    await opened(conn, 4)
    await inbox.take(trial("e2", ip=NEW_IP))
    assert await live(conn) == [(NEW_IP, MAC, True, 1)]
    await inbox.take(release("e3", minutes=30))
    assert await live(conn) == [(IP, MAC, False, 30)]


async def test_a_trial_that_is_asked_for_where_the_device_paid_joins_that(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await opened(conn, 10)
    await inbox.take(trial("e2", ip=NEW_IP))
    assert await live(conn) == [(NEW_IP, MAC, False, 20)]


async def test_another_device_of_the_order_has_its_own(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await opened(conn, 10)
    await inbox.take(
        release("e2", minutes=30, mac=OTHER, ip=NEW_IP), release("e3", pedidoId="2", ip="10.5.50.9", minutes=45)
    )
    wanted = [(IP, MAC, False, 20), (NEW_IP, OTHER, False, 30), ("10.5.50.9", MAC, False, 45)]
    assert sorted(await live(conn)) == sorted(wanted)


# ---- what is told


async def test_a_release_that_fails_is_not_opened_later_and_may_be_sent_again(
    inbox: Taker, conn: TrioConnection
) -> None:
    await inbox.take(release("e1", minutes=30))
    await inbox.do(await job_of(inbox, "e1"), "dead")
    assert await live(conn) == []
    await inbox.take(release("e2", minutes=30))
    assert await live(conn) == [(IP, MAC, False, 30)]


@pytest.mark.parametrize("kind", ["trial", "release"])
@pytest.mark.parametrize("written", [True, False], ids=["written down", "not yet written down"])
async def test_time_that_ran_out_without_being_seen_is_no_success(
    inbox: Taker, conn: TrioConnection, kind: str, *, written: bool
) -> None:
    await inbox.take(trial(trialMinutes=5) if kind == "trial" else release(minutes=5))
    await opened(conn, 6, seen=False)
    if written:
        await conn.run("UPDATE hotspot_grants SET ended_at = now(), end_reason = 'expired'")
    await inbox.do(await job_of(inbox, "e1"), online=False)
    (ack,) = await inbox.acks()
    assert (ack["ok"], ack["payload"]["reason"], ack["payload"]["online"]) == (False, "grant_ended", False)
    assert "never" in ack["payload"]["error"]
    assert ((await inbox.row())["ok"], (await inbox.row())["reason"]) == (False, "grant_ended")


@pytest.mark.parametrize("why", ["seen", "revoked", "moved"])
async def test_what_was_seen_or_taken_back_is_superseded(inbox: Taker, conn: TrioConnection, why: str) -> None:
    await inbox.take(release("e1", minutes=5))
    await opened(conn, 6 if why == "seen" else 1, seen=why == "seen")
    if why == "revoked":
        await inbox.take(revoke("e2"))
    elif why == "moved":
        await inbox.take(release("e2", minutes=5, ip=NEW_IP))
        await later(conn, 600)
    await inbox.do(await job_of(inbox, "e1"), online=False)
    assert [(ack["ok"], ack["payload"]["reason"]) for ack in await inbox.acks()] == [(True, "superseded")]


async def test_what_was_forgotten_stays_forgotten_when_it_is_tried_again(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    job = await job_of(inbox, "e1")
    await inbox.do(job, "dead")
    await conn.run("UPDATE events SET received_at = now() - interval '200 days'")
    assert await retention.forget_details(conn, 180) == 1
    assert await bring_back(conn, job) is None
    assert await looking.replay(conn, job)
    await inbox.do(job, steps=[{"attributes": {"mac-address": MAC}}])
    row = await inbox.row("e1")
    assert (row["ok"], row["reason"]) == (True, None)
    assert (row["type"], row["result"], row["outcome"]) == (None, None, None)
    assert [ack["ok"] for ack in await inbox.acks()] == [False]
