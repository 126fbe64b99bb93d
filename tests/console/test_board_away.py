"""The page while the database is away, hangs, or keeps one table to itself."""

from typing import Any

from psycopg import OperationalError
import pytest
import trio

from opendesk.console import asking, outage, sessions
from opendesk.console import board as boards
from tests.console.board_site import BoardSite
from tests.console.test_board_live import dead_job, told

FROM_DATABASE = {"rental", "routers", "jobs", "events"}


async def hang(*_: Any, **__: Any) -> Any:
    await trio.sleep_forever()


def faults_of(patch: Any) -> dict[str, str]:
    return {name: fault for name, fault in patch["faults"].items() if fault}


async def test_while_it_is_known_to_be_away_the_page_goes_on_and_says_so(board: BoardSite) -> None:
    admin, others = await board.admin(), await board.admin()
    async with admin.live() as events:
        await anext(events)
        board.services.console.database_is(up=False)
        patch = await told(events, lambda patch: faults_of(patch) and patch)
        assert set(faults_of(patch)) == FROM_DATABASE
        assert patch["figures"]["daemon.database"][:2] == ["away", "bad"]
        at = {(await anext(events))[1]["at"] for _ in range(12)}
        assert len(at) > 1  # the others aren't held up
        page = await admin.get("/console")
        assert page.status_code == 200
        assert "The database doesn&#39;t answer" in page.text
        assert (await others.get("/console/why?q=x")).status_code == 503
        board.services.console.database_is(up=True)
        assert await told(events, lambda patch: patch["faults"]) == dict.fromkeys(FROM_DATABASE)


async def test_who_cannot_be_asked_about_is_told_at_once_to_come_back(board: BoardSite) -> None:
    admin, account = await board.admin(), await board.user()
    board.services.console.database_is(up=False)
    board.services.console.app._outage._admitted.clear()
    for page in (await admin.get("/console"), await board.browser().log_in(account.email)):
        assert page.status_code == 503
        assert page.headers["retry-after"] == "5"
    assert (await admin.get("/console")).headers["refresh"] == "5"
    assert "refresh" not in (await admin.get("/console/live")).headers
    assert (await board.browser().get("/console/login")).status_code == 200


async def test_nobody_looks_on_for_long_without_the_database_having_said_so(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "ADMITTED_S", 0.5)
    admin = await board.admin()
    async with admin.live() as events:
        await anext(events)
        board.services.console.database_is(up=False)
        assert [event async for event in events][-1] == ("bye", {"reason": boards.UNPROVEN})
    assert (await admin.get("/console")).status_code == 503


async def test_who_logged_out_does_not_come_back_while_it_is_away(board: BoardSite) -> None:
    admin = await board.admin()
    await admin.get("/console")
    cookie = admin.client.cookies["opendesk_console"]
    await admin.post("/console/logout")
    board.services.console.database_is(up=False)
    assert (await board.browser().get("/console", Cookie=f"opendesk_console={cookie}")).status_code == 503


async def test_a_part_that_hangs_is_told_of_and_the_others_go_on(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LOOK_S", 0.2)
    monkeypatch.setattr(asking, "AGAIN_S", 0.2)
    admin, looks = await board.admin(), board.services.console.app._board._gatherer.asking._parts["rental"].looks
    async with admin.live() as events:
        await anext(events)
        read, looks["live"].read = looks["live"].read, hang
        assert await told(events, faults_of) == {"rental": asking.SLOW_TEXT}
        job = await dead_job(board)
        rows = await told(events, lambda patch: patch["tables"].get("dead", {}).get("rows"))
        assert rows[0][0] == str(job)
        looks["live"].read = read
        assert await told(events, lambda patch: patch["faults"]) == {"rental": None}


async def test_a_statement_that_the_server_ends_is_a_fault_of_its_part_alone(board: BoardSite) -> None:
    admin, looks = await board.admin(), board.services.console.app._board._gatherer.asking._parts["rental"].looks

    async def ended(_conn: Any) -> Any:
        raise OperationalError("canceling statement due to statement timeout")

    async with admin.live() as events:
        await anext(events)
        looks["live"].read = ended
        assert await told(events, faults_of) == {"rental": asking.SLOW_TEXT}


async def test_a_locked_table_is_told_of_where_it_is_shown(board: BoardSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOOK_S", 0.2)
    admin = await board.admin()
    async with admin.live() as events:
        await anext(events)
        async with board.pool.connection() as conn, conn.transaction():
            await conn.run("LOCK TABLE sessions")
            assert await told(events, faults_of) == {"rental": asking.SLOW_TEXT}
            assert (await admin.get("/console")).status_code == 200


async def test_a_check_of_the_cookie_that_hangs_lets_in_whom_the_database_knew(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_CHECK_S", 0.3)
    admin, other = await board.admin(), await board.admin()
    assert (await admin.get("/console")).status_code == 200
    async with board.pool.connection() as conn, conn.transaction():
        await conn.run("LOCK TABLE users")
        assert (await admin.get("/console")).status_code == 200
        assert (await other.get("/console")).status_code == 503


async def test_an_action_that_a_lost_database_cuts_off_has_its_end_in_the_audit(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, job = await board.admin(), await dead_job(board)
    await admin.get("/console")

    async def lost(*_: Any) -> Any:
        raise OperationalError("the server is gone")

    monkeypatch.setattr("opendesk.console.acting.replay", lost)
    assert (await admin.post(f"/console/dead/{job}/replay")).status_code == 503
    audit = [
        (line["outcome"], line.get("error")) for line in board.lines("audit") if line["action"] == "CONSOLE_REPLAY_JOB"
    ]
    assert audit == [("attempt", None), ("failure", "DATABASE_UNAVAILABLE")]
