"""What is delivered is taken in once, in order, with its job and its ACK, and what is wrong keeps nothing else from it."""

from collections.abc import Sequence
import json
from typing import Any
from uuid import UUID

import pytest
import trio

from opendesk.network import removing
from opendesk.network.events import stored
from opendesk.network.events.inbox import CHUNK, CHUNK_BYTES, Taken, _chunks
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.events.arriving import IP, MAC, Taker, device, raw, release, revoke, taker, trial

PATIENCE_S = 30.0
OTHER = "AA:BB:CC:DD:EE:02"


@pytest.fixture
async def inbox(pool: Pool, conn: TrioConnection) -> Taker:
    return await known_routers(taker(pool, conn))


async def known_routers(made: Taker) -> Taker:
    await made.fleet.read_registry()
    return made


async def count(conn: TrioConnection, what: str) -> int:
    ((number,),) = await conn.fetch(f"SELECT count(*) FROM {what}")
    return int(number)


async def there_are(conn: TrioConnection, what: str, number: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while await count(conn, what) < number:  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.01)


async def ack_of(inbox: Taker, event_id: str) -> dict[str, Any]:
    (ack,) = [ack for ack in await inbox.acks() if ack["eventId"] == event_id]
    return ack


# ---- one event


async def test_an_event_becomes_a_grant_and_a_job_and_is_not_decided_yet(inbox: Taker) -> None:
    assert await inbox.take(release(minutes=30)) == Taken(new=1)
    assert await inbox.live() == [("1", MAC, False)]
    ((kind, key, job_id),) = await inbox.jobs()
    row = await inbox.row()
    assert (kind, key) == ("AUTHORIZE_BY_PEDIDO", MAC)
    assert (UUID(row["job_id"]), row["ok"], row["executed_at"]) == (job_id, None, None)
    assert row["validated_at"] <= row["routed_at"]
    assert (row["router_id"], row["pedido_id"], row["ip"], row["trace_id"]) == ("r1", "1", IP, "e1")
    assert await inbox.acks() == []


async def test_its_jobs_end_decides_it_and_adds_the_ack(inbox: Taker) -> None:
    await inbox.take(release())
    ((_, _, job_id),) = await inbox.jobs()
    await inbox.do(job_id, changed=True, dryRun=False)
    payload = {"jobId": str(job_id), "online": True, "changed": True, "dryRun": False}
    assert await inbox.acks() == [{"eventId": "e1", "ok": True, "payload": payload}]
    assert (await inbox.row())["ok"] is True


async def test_a_trial_and_what_ends_it_are_written_together(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(trial(trialMinutes=7))
    assert await inbox.live() == [("1", MAC, True)]
    ((minutes,),) = await conn.fetch(
        "SELECT round(extract(epoch FROM run_at - now()) / 60)::int FROM jobs WHERE type = 'END_GRANT' AND state = 'due'"
    )
    assert minutes == 7


async def test_a_release_ends_the_devices_trial_and_what_would_have_ended_that(
    inbox: Taker, conn: TrioConnection
) -> None:
    await inbox.take(trial("e1", ip="10.5.50.9", pedidoId="free"))
    await inbox.take(release("e2"))
    assert await inbox.live() == [("1", MAC, False)]
    assert await count(conn, "jobs WHERE type = 'END_GRANT' AND state = 'due'") == 0
    ((places,),) = await conn.fetch(
        "SELECT payload -> 'places' FROM jobs WHERE id = %(id)s", {"id": (await inbox.row("e2"))["job_id"]}
    )
    assert [IP, MAC] in places
    assert ["10.5.50.9", MAC] in places


async def test_a_trial_that_is_released_in_the_same_batch_leaves_nothing_to_end(
    inbox: Taker, conn: TrioConnection
) -> None:
    await inbox.take(trial("e1", pedidoId="free"), release("e2"))
    assert await inbox.live() == [("1", MAC, False)]
    assert await count(conn, "jobs WHERE type = 'END_GRANT' AND state = 'due'") == 0


async def test_a_revoke_closes_what_is_granted_there_and_nothing_else(inbox: Taker) -> None:
    await inbox.take(release("e1"), release("e2", mac=OTHER, ip="10.5.50.8"), release("e3", mikId="r2"))
    await inbox.take(revoke("e4", ip=None))
    assert sorted(await inbox.live()) == [("1", MAC, False), ("1", OTHER, False)]
    assert [kind for kind, _, _ in await inbox.jobs()].count("REVOKE_SESSION") == 1


async def test_two_revokes_that_mean_one_device_each_have_a_job(inbox: Taker) -> None:
    await inbox.take(release("e1"))
    await inbox.take(revoke("e2", ip=None), revoke("e3", mac=None))
    assert await inbox.live() == []
    assert None not in {(await inbox.row(name))["job_id"] for name in ("e2", "e3")}


# ---- refusals


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (release(mac="x"), "validation"),
        (release(mikId="nowhere"), "validation"),
        ({"eventId": "e1", "type": "REBOOT"}, "unknown_type"),
        ({"eventId": "e1"}, "validation"),
    ],
    ids=["mac", "router", "type", "no type"],
)
async def test_what_is_refused_is_told_at_once_and_remembered(inbox: Taker, member: Any, reason: str) -> None:
    assert await inbox.take(member) == Taken(new=1, refused=1)
    row, (ack,) = await inbox.row(), await inbox.acks()
    assert (row["ok"], row["reason"], row["job_id"]) == (False, reason, None)
    assert ack == {"eventId": "e1", "ok": False, "payload": row["result"]}
    assert ack["payload"]["reason"] == reason
    assert await inbox.jobs() == []
    await inbox.take(release())  # the same id, whatever comes by it
    assert await inbox.live() == []


async def test_an_order_that_had_its_time_is_refused_and_leaves_no_trace(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = now() - interval '1 hour', until = now() - interval '1 minute', opening_at = now()"
    )
    await inbox.take(release("e2", minutes=30), release("e3", pedidoId="2", **device(2)))
    row = await inbox.row("e2")
    assert (row["ok"], row["reason"]) == (False, "grant_ended")
    assert (await ack_of(inbox, "e2"))["payload"]["reason"] == "grant_ended"
    assert (await inbox.row("e3"))["job_id"] is not None


async def test_a_release_that_is_refused_takes_no_trial_away(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", pedidoId="spent", minutes=30))
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = now() - interval '1 hour', until = now() - interval '1 minute', opening_at = now()"
    )
    await inbox.take(trial("e2", pedidoId="2"), release("e3", pedidoId="spent", minutes=30))
    assert (await inbox.row("e3"))["reason"] == "grant_ended"
    assert ("2", MAC, True) in await inbox.live()
    assert await conn.fetch("SELECT 1 FROM jobs WHERE type = 'END_GRANT' AND dedupe LIKE '%trial' AND state = 'due'")


async def test_a_trial_whose_order_is_paid_gives_up_its_end(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(trial("e1"))
    await inbox.take(release("e2", minutes=30))
    assert await inbox.live() == [("1", MAC, False)]
    ends = await conn.fetch("SELECT state, result ->> 'cancelled' FROM jobs WHERE type = 'END_GRANT' ORDER BY seq")
    assert ends == [("done", "released"), ("due", None)]


@pytest.mark.parametrize("minutes", [None, 30], ids=["without an end", "an end"])
async def test_a_trial_whose_paid_time_cannot_be_opened_has_an_end_again(
    inbox: Taker, conn: TrioConnection, minutes: int | None
) -> None:
    await inbox.take(trial("e1"))
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = now(), until = now() + interval '5 minutes', opening_at = now()"
    )
    await conn.run("UPDATE jobs SET state = 'done', finished_at = now() WHERE type = 'AUTHORIZE_BY_PEDIDO'")
    await inbox.take(release("e2", minutes=minutes))
    job = (await inbox.row("e2"))["job_id"]
    await conn.run("UPDATE jobs SET state = 'dead', finished_at = now(), last_error = 'no' WHERE id = %s", (job,))
    assert (await inbox.row("e2"))["reason"] == "failed"
    assert await inbox.live() == [("1", MAC, True)]
    ends = "SELECT run_at = until FROM jobs, hotspot_grants WHERE type = 'END_GRANT' AND state = 'due'"
    assert await conn.fetch(ends) == [(True,)]


async def test_paid_time_that_was_made_more_in_vain_is_not_given_anew(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release("e1", minutes=30))
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = now(), until = now() + interval '9 minutes', opening_at = now()"
    )
    await conn.run("UPDATE jobs SET state = 'done', finished_at = now() WHERE type = 'AUTHORIZE_BY_PEDIDO'")
    await inbox.take(release("e2", minutes=60))
    job = (await inbox.row("e2"))["job_id"]
    await conn.run("UPDATE jobs SET state = 'dead', finished_at = now(), last_error = 'no' WHERE id = %s", (job,))
    await inbox.take(release("e3", minutes=30))
    left = "SELECT duration_s, ended_at IS NULL, until <= now() + interval '9 minutes' FROM hotspot_grants"
    assert await conn.fetch(left) == [(1800, True, True)]


async def test_a_job_does_no_more_events_than_are_decided_in_a_moment(
    inbox: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored.full, "__kwdefaults__", {"most": 2})
    for number in range(5):
        await inbox.take(release(f"e{number}"))
    jobs = [(await inbox.row(f"e{number}"))["job_id"] for number in range(5)]
    assert [jobs.index(job) for job in jobs] == [0, 0, 2, 2, 4]


async def test_an_order_has_one_trial(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(trial("e1"))
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = now() - interval '1 hour', until = now() - interval '1 minute', opening_at = now()"
    )
    await inbox.take(trial("e2", **device(2)))
    assert (await ack_of(inbox, "e2"))["payload"]["reason"] == "grant_ended"


async def test_an_id_that_cannot_be_kept_is_told_as_it_came(inbox: Taker) -> None:
    for event_id in ("", "a\0b", "\ud83d", "x" * 300):
        await inbox.take(release(event_id))
        assert (await inbox.row(event_id))["event_id"] is None
        assert (await ack_of(inbox, event_id))["ok"] is False
    assert await inbox.live() == []


async def test_who_has_no_name_is_only_counted(inbox: Taker, conn: TrioConnection) -> None:
    assert await inbox.take({"type": "RELEASE_REQUESTED"}, b"\xff", b"[]") == Taken(nameless=3)
    assert await count(conn, "events") == 0
    assert inbox.figure("other", "nameless") == 3


async def test_where_nobody_wants_acks_there_are_none(pool: Pool, conn: TrioConnection) -> None:
    inbox = await known_routers(taker(pool, conn, acks=False))
    await inbox.take(release("e1"), {"eventId": "e2", "type": "X"})
    await inbox.take({"eventId": "e2", "type": "X"})
    for _, _, job_id in await inbox.jobs():
        await inbox.do(job_id)
    assert await inbox.acks() == []
    assert [(await inbox.row(name))["ok"] for name in ("e1", "e2")] == [True, False]


# ---- again


async def test_ten_deliveries_have_one_effect(inbox: Taker, conn: TrioConnection) -> None:
    for _ in range(10):
        await inbox.take(release(minutes=30), release(minutes=60))
    assert await conn.fetch("SELECT duration_s FROM hotspot_grants") == [(1800,)]
    assert len(await inbox.jobs()) == 1
    assert await count(conn, "events") == 1


async def test_what_waits_is_not_acknowledged_and_what_is_decided_is_again(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(release())
    await inbox.take(release())
    assert await inbox.acks() == []
    ((_, _, job_id),) = await inbox.jobs()
    await inbox.do(job_id)
    assert await inbox.take(release()) == Taken(again=1)
    (first,) = await inbox.acks()  # that one is still to be sent
    await conn.run("UPDATE jobs SET state = 'done', finished_at = now() WHERE type = 'ACK_EVENT'")
    for _ in range(3):
        await inbox.take(release(minutes=99))
    assert await inbox.acks() == [first]  # which was taken just now
    await conn.run("UPDATE events SET acked_at = acked_at - interval '61 seconds'")
    for _ in range(3):
        await inbox.take(release(minutes=99))
    assert await inbox.acks() == [first, first]


async def test_who_delivers_again_does_not_hurry_an_ack_that_waits_for_its_next_try(
    inbox: Taker, conn: TrioConnection
) -> None:
    await inbox.take({"eventId": "e1", "type": "X"})
    await conn.run("UPDATE jobs SET fence = 3, run_at = now() + interval '1 hour'")
    await inbox.take({"eventId": "e1", "type": "X"})
    assert await count(conn, "jobs WHERE run_at > now() + interval '50 minutes'") == await count(conn, "jobs") == 1


async def test_of_an_event_whose_details_are_gone_the_reason_is_told(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take({"eventId": "e1", "type": "X"})
    await conn.run("UPDATE events SET event_id = NULL, result = NULL, ack_lane = NULL")
    await conn.run("DELETE FROM jobs")
    await inbox.take({"eventId": "e1", "type": "X"})
    assert await inbox.acks() == [{"eventId": "e1", "ok": False, "payload": {"reason": "unknown_type"}}]


@pytest.mark.parametrize("dry_run", ["0", "1"], ids=["real", "pretended"])
async def test_what_is_pretended_is_a_world_of_its_own(pool: Pool, conn: TrioConnection, dry_run: str) -> None:
    for setting in ("0", "1", dry_run):
        inbox = await known_routers(taker(pool, conn, RELAY_DRY_RUN=setting))
        await inbox.take(release("e1"), {"eventId": "e2", "type": "X"})
    lanes = await conn.fetch("SELECT DISTINCT lane FROM jobs ORDER BY lane")
    assert lanes == [("/acks",), ("dry run//acks",), ("dry run/r1",), ("r1",)]
    assert await count(conn, "events WHERE dry_run") == await count(conn, "events WHERE NOT dry_run") == 2
    assert {ack["payload"].get("dryRun") for ack in await inbox.acks()} == {None, True}


# ---- batches


async def test_within_a_device_the_last_word_wins(inbox: Taker, conn: TrioConnection) -> None:
    await inbox.take(
        release("e1"),
        revoke("e2"),
        release("e3", pedidoId="2"),
        trial("e4", pedidoId="3", mac=OTHER),
        revoke("e5", mac=None),
    )
    assert await inbox.live() == []
    await inbox.take(revoke("e6"), release("e7", pedidoId="4"))
    assert await inbox.live() == [("4", MAC, False)]
    rows = [await inbox.row(f"e{n}") for n in range(1, 8)]
    order = {job_id: n for n, (job_id,) in enumerate(await conn.fetch("SELECT id::text FROM jobs ORDER BY seq"))}
    first_two = [order[row["job_id"]] for row in rows[:2]]
    assert first_two == sorted(first_two)


async def test_a_batch_of_which_every_second_is_broken_is_taken_but_for_those(
    inbox: Taker, conn: TrioConnection
) -> None:
    broken = [b"{}", b'{"eventId":"b1"}', b"\xff", b'{"eventId":"b2","type":"RELEASE_REQUESTED","payload":[]}', b"null"]
    whole = [raw(release(f"e{n}", pedidoId=str(n), **device(n)))[0] for n in range(2 * CHUNK)]
    members = [one for n, good in enumerate(whole) for one in (good, broken[n % len(broken)])]
    taken = await inbox.take(*members)
    assert (taken.new, taken.refused, taken.nameless) == (len(whole) + 2, 2, len(whole) * 3 // 5)
    assert taken.again == len(whole) * 2 // 5 - 2
    assert await count(conn, "hotspot_grants") == await count(conn, "events WHERE ok IS NULL") == len(whole)


async def test_long_members_are_taken_few_at_a_time_and_what_has_no_name_needs_no_database(
    inbox: Taker, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = raw(*(release(f"e{n}", filling="x" * (CHUNK_BYTES // 4), **device(n)) for n in range(9)))
    assert [len(chunk) for chunk in _chunks(members)] == [4, 4, 1]
    assert [len(chunk) for chunk in _chunks([b"1"] * (CHUNK + 1))] == [CHUNK, 1]
    assert (await inbox.inbox.take(members, "backend")).new == 9
    monkeypatch.setattr(inbox.inbox, "_pool", None)
    assert await inbox.take(*[b"1"] * (CHUNK + 1)) == Taken(nameless=CHUNK + 1)


async def test_one_that_the_database_refuses_keeps_no_other_from_being_taken(
    inbox: Taker, conn: TrioConnection
) -> None:
    await conn.run("ALTER TABLE hotspot_grants ADD CONSTRAINT odd CHECK (pedido_id <> 'odd')")
    odd = release("e2", pedidoId="odd", **device(2))
    assert await inbox.take(release("e1"), odd, release("e3", **device(3))) == Taken(new=3, refused=1)
    row = await inbox.row("e2")
    assert (row["ok"], row["reason"], row["body"]) == (False, "validation", None)
    assert (await ack_of(inbox, "e2"))["payload"]["error"] == "the database refuses it (23514)"
    assert [(await inbox.row(name))["ok"] for name in ("e1", "e3")] == [None, None]
    assert await inbox.take(odd) == Taken(again=1)


async def test_a_revoke_of_a_crowd_is_more_than_one_job_and_the_first_decides(inbox: Taker) -> None:
    await inbox.take(*(release(f"e{n}", pedidoId=str(n), mac=device(n)["mac"]) for n in range(120)))
    await inbox.take(revoke("e", mac=None))
    assert await inbox.live() == []
    closing = [job_id for kind, _, job_id in await inbox.jobs() if kind == "REVOKE_SESSION"]
    assert len(closing) == 3
    assert UUID((await inbox.row("e"))["job_id"]) == closing[0]


# ---- races


async def test_two_inboxes_that_take_one_batch_at_once_take_each_event_once(
    pool: Pool, conn: TrioConnection, inbox: Taker
) -> None:
    other = await known_routers(taker(pool, conn))
    batch = [release(f"e{n}", pedidoId=str(n), **device(n)) for n in range(60)] + [{"eventId": "bad", "type": "X"}]
    taken: list[Taken] = []

    async def take(one: Taker, events: Sequence[Any]) -> None:
        taken.append(await one.take(*events))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for one, events in ((inbox, batch), (other, batch[::-1]), (inbox, batch[20:]), (other, batch)):
                nursery.start_soon(take, one, events)
    assert sum(one.new for one in taken) == len(batch) == await count(conn, "events")
    assert len(await inbox.jobs()) == await count(conn, "hotspot_grants") == 60
    assert len(await inbox.acks()) == 1


async def test_who_is_overtaken_writes_nothing_of_its_own(inbox: Taker, pool: Pool, conn: TrioConnection) -> None:
    """Another daemon's transaction has the event, and isn't over when ours looks."""
    blocked = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with pool.connection() as theirs, trio.open_nursery() as nursery, theirs.transaction():
        await theirs.run(
            "INSERT INTO events (id_hash, dry_run, ok, executed_at, reason) VALUES (sha256('e1'), false, true, now(), 'theirs')"
        )
        nursery.start_soon(inbox.take, release(), release("e2", **device(2)))
        await there_are(conn, blocked, 1)
        assert await count(conn, "hotspot_grants") == 0
    assert (await inbox.row("e1"))["reason"] == "theirs"
    assert (await inbox.row("e2"))["job_id"] is not None
    assert await inbox.live() == [("1", device(2)["mac"], False)]


async def test_what_is_taken_for_a_router_that_is_just_removed_is_decided(
    inbox: Taker, pool: Pool, conn: TrioConnection
) -> None:
    """The removal waits for who takes it in, and then makes its job a dead letter; who comes later is told that there is no router."""
    await conn.run("INSERT INTO routers (id, host) VALUES ('r9', '10.0.0.9')")
    blocked = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def remove() -> None:
        async with pool.connection() as theirs:
            await removing.remove(theirs, "r9", is_known_besides=False)

    # In between, as if ours took long: its last statement is kept waiting.
    async with pool.connection() as slow, trio.open_nursery() as nursery, slow.transaction():
        await slow.run("LOCK TABLE events IN SHARE MODE")
        nursery.start_soon(inbox.take, release(mikId="r9"))
        await there_are(conn, blocked, 1)
        nursery.start_soon(remove)
        await there_are(conn, blocked, 2)
    assert (await ack_of(inbox, "e1"))["payload"]["error"] == "the router was removed"
    await inbox.take(release("e2", mikId="r9"))
    assert (await inbox.row("e2"))["reason"] == "validation"


# ---- what is told


async def test_each_stage_has_a_line_and_none_before_it_stands(inbox: Taker) -> None:
    await inbox.take(release("e1"), release("e2", mikId="nowhere"), {"eventId": "e3", "type": "X"})
    assert inbox.audited == ["attempt", "success", "success", "attempt", "success", "failure", "attempt", "failure"]
    assert inbox.figure("RELEASE_REQUESTED", "received") == 2
    assert inbox.figure("other", "refused") == 1
    inbox.audited.clear()
    await inbox.take(release("e1"))
    assert inbox.audited == []


async def test_what_waits_for_its_peer_is_written_down_all_the_same(pool: Pool, conn: TrioConnection) -> None:
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    inbox = await known_routers(taker(pool, conn, peer_silent_for=lambda _key: 400.0))
    await inbox.take(release(peerPublicKey=key))
    assert await inbox.live() == [("1", MAC, False)]
    ((payload,),) = await conn.fetch("SELECT payload FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO'")
    assert payload["peer"] == key
    assert json.dumps(await inbox.acks()) == "[]"
