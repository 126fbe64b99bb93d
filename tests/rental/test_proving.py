from functools import partial

from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk import database
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.figures import RentalFigures
from opendesk.rental.proving import DAY_S, FIRST_AFTER_S, PROOF_AT_MOST_S, keep_proving, prove
from opendesk.supervise import LifeSigns, keep_running


async def test_the_books_are_proven_and_the_metrics_say_so(pool: Pool, conninfo: str) -> None:
    metrics = Metrics()
    assert b"opendesk_ledger" not in metrics.render()
    assert await prove(partial(database.connect, conninfo), metrics)
    assert b"opendesk_ledger_right 1.0" in metrics.render()
    assert b"opendesk_ledger_proven_timestamp_seconds" in metrics.render()


async def test_one_daemon_at_a_time_proves_them(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    metrics = Metrics()
    await conn.run("SELECT pg_advisory_lock(hashtextextended('opendesk.proving', 0))")
    assert not await prove(partial(database.connect, conninfo), metrics)
    assert b"opendesk_ledger" not in metrics.render()


async def test_what_nobody_rents_is_told_as_none(conn: TrioConnection) -> None:
    metrics = Metrics()
    await RentalFigures(metrics).count(conn)
    page = metrics.render()
    assert b'opendesk_live_sessions{status="ACTIVE"} 0.0' in page
    assert b'opendesk_pcs{status="ONLINE"} 0.0' in page


async def test_a_proof_that_hangs_is_given_up_and_told(autojump_clock: MockClock) -> None:
    begun_s: list[float] = []

    async def hangs() -> TrioConnection:
        begun_s.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError

    signs = LifeSigns()
    with capture_logs() as logs, trio.move_on_after(FIRST_AFTER_S + PROOF_AT_MOST_S + DAY_S + 60):
        await keep_running("ledger", partial(keep_proving, hangs, Metrics()), signs=signs)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["ledger.not_proven"]
    # It isn't tried at once again, but the next day.
    assert begun_s == [FIRST_AFTER_S, FIRST_AFTER_S + PROOF_AT_MOST_S + DAY_S]
