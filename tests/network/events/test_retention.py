"""Details of old events go; that they were there stays."""

from opendesk.network.events.retention import forget_details
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.events.arriving import Taker, device, release, taker

KEPT = {
    "id_hash",
    "dry_run",
    "received_at",
    "validated_at",
    "routed_at",
    "executed_at",
    "acked_at",
    "ok",
    "reason",
    "job_id",
}


async def taken(pool: Pool, conn: TrioConnection) -> Taker:
    """e1 is done, e2 waits, e3 was refused, e4 has no type; all are 181 days old but e5."""
    inbox = taker(pool, conn)
    await inbox.fleet.read_registry()
    await inbox.take(release("e1"), release("e2", **device(2)), {"eventId": "e3", "type": "X"}, {"eventId": "e4"})
    await inbox.do((await inbox.row("e1"))["job_id"])
    await conn.run("UPDATE events SET received_at = now() - interval '181 days'")
    await inbox.take({"eventId": "e5", "type": "X"})
    return inbox


async def test_what_is_old_and_decided_loses_its_details_and_keeps_the_rest(pool: Pool, conn: TrioConnection) -> None:
    inbox = await taken(pool, conn)
    before = {name: await inbox.row(name) for name in ("e1", "e2", "e3", "e4", "e5")}
    assert await forget_details(conn, 180) == 3
    after = {name: await inbox.row(name) for name in before}
    for name in ("e1", "e3", "e4"):
        assert {key for key, value in after[name].items() if value is not None} <= KEPT
        assert {key: after[name][key] for key in KEPT} == {key: before[name][key] for key in KEPT}
    for name in ("e2", "e5"):
        assert after[name] == before[name]


async def test_it_is_done_once_and_in_batches(pool: Pool, conn: TrioConnection) -> None:
    inbox = await taken(pool, conn)
    await conn.run(
        "INSERT INTO events (id_hash, dry_run, received_at, ok, executed_at, type)"
        " SELECT sha256(n::text::bytea), false, now() - interval '1 year', true, now(), 'X' FROM generate_series(1, 4500) AS n"
    )
    assert await forget_details(conn, 180) == 4503
    assert await forget_details(conn, 180) == 0
    assert await forget_details(conn, 0) == 1
    assert (await inbox.row("e2"))["type"] == "RELEASE_REQUESTED"


async def test_an_event_whose_details_are_gone_never_runs_again(pool: Pool, conn: TrioConnection) -> None:
    inbox = await taken(pool, conn)
    await forget_details(conn, 180)
    jobs = await inbox.jobs()
    assert (await inbox.take(release("e1", minutes=5), release("e3"))).again == 2
    assert await inbox.jobs() == jobs
    assert {ack["eventId"]: ack["payload"] for ack in await inbox.acks()}["e3"]["reason"] == "unknown_type"


async def test_of_what_was_only_pretended_that_is_told_for_good(pool: Pool, conn: TrioConnection) -> None:
    inbox = taker(pool, conn, RELAY_DRY_RUN="1")
    await inbox.fleet.read_registry()
    await inbox.take(release("e1"))
    await inbox.do((await inbox.row("e1"))["job_id"], dryRun=True)
    await conn.run("UPDATE events SET received_at = now() - interval '181 days'")
    await conn.run("UPDATE jobs SET state = 'done', finished_at = now() WHERE type = 'ACK_EVENT'")
    await conn.run("UPDATE events SET acked_at = now() - interval '1 day'")
    await forget_details(conn, 180)
    await inbox.take(release("e1"))
    assert (await inbox.acks())[-1] == {"eventId": "e1", "ok": True, "payload": {"dryRun": True}}
