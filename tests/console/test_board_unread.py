"""What of a page can't be read is a fault of that part: the page goes on, and the daemon more so."""

from typing import Any

import pytest
import trio

from opendesk.console import asking, gathering, searching, sessions
from opendesk.console.board import LOGGED_OUT, Watcher
from opendesk.console.sections import ledger as ledger_section
from opendesk.rental import ledger, users
from tests.console.board_site import BoardSite
from tests.console.test_board_away import faults_of, hang
from tests.console.test_board_live import dead_job, told


async def unreadable(*_: Any, **__: Any) -> Any:
    await trio.lowlevel.checkpoint()
    raise ValueError("no such thing")


async def test_a_look_that_fails_is_told_of_on_its_part_and_once_in_the_log(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "AGAIN_S", 0.05)
    board.errors_expected = True
    admin, looks = await board.admin(), board.services.console.app._board._gatherer.asking._parts["rental"].looks
    async with admin.live() as events:
        await anext(events)
        read, looks["live"].read = looks["live"].read, unreadable
        assert await told(events, faults_of) == {"rental": asking.UNREAD_TEXT}
        for _ in range(5):
            await anext(events)
        assert [line["look"] for line in board.lines("console.look_failed")] == ["live"]
        looks["live"].read = read
        assert await told(events, lambda patch: patch["faults"]) == {"rental": None}


async def test_a_row_that_cannot_be_read_ends_nothing(board: BoardSite) -> None:
    board.errors_expected = True
    admin = await board.admin()
    async with admin.live() as events:
        await anext(events)
        async with board.pool.connection() as conn:
            await conn.run(
                "INSERT INTO events (id_hash, dry_run, received_at, ok, executed_at, type)"
                " VALUES (sha256('e'), false, 'infinity', true, now(), 'X')"
            )
        assert await told(events, faults_of) == {"events": asking.UNREAD_TEXT}
        assert (await admin.get("/console")).status_code == 200


async def test_a_section_that_fails_is_as_it_was_and_the_others_go_on(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.errors_expected = True
    admin, right = await board.admin(), ledger_section.ledger

    def wrong(*_: Any) -> Any:
        raise ValueError("no such thing")

    async with admin.live() as events:
        await anext(events)
        monkeypatch.setattr(gathering, "ledger", wrong)
        assert await told(events, faults_of) == {"ledger": asking.UNREAD_TEXT}
        page = await admin.get("/console")
        assert 'data-figure="ledger.verdict"' in page.text
        assert [line["section"] for line in board.lines("console.section_failed")] == ["ledger"]
        monkeypatch.setattr(gathering, "ledger", right)
        assert await told(events, lambda patch: patch["faults"]) == {"ledger": None}


async def test_neither_the_proof_nor_the_look_at_who_may_watch_ends_the_page(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.errors_expected = True
    monkeypatch.setattr(ledger, "verify", unreadable)
    monkeypatch.setattr(
        "opendesk.console.board._ADMITTED", "SELECT 'infinity'::date, 1 WHERE %(ids)s::uuid[] IS NOT NULL"
    )
    admin = await board.admin()
    async with admin.live() as events:
        note = await told(events, lambda patch: "failed" in patch["figures"].get("ledger.verdict", "––")[2])
        assert note
        for _ in range(3):
            await anext(events)
    assert len(board.lines("console.not_checked")) == 1


async def test_who_logged_in_again_meanwhile_is_not_put_out_by_an_older_answer(board: BoardSite) -> None:
    account, on = await board.user(), board.services.console.app._board
    before, after = (Watcher(account.id, account.token_version + later) for later in (0, 1))
    outage = on._outage
    for one in (before, after):
        outage.let_in(one.user_id, one.token_version, account.email)
    asked = {(before.user_id, before.token_version)}
    on.watchers.add(after)
    await on._check_admitted(asked, trio.Event())  # which still finds the version that was asked for
    assert after.over is None
    on.watchers.add(before)
    async with board.pool.connection() as conn:
        await users.end_tokens(conn, account.id)
    await on._check_admitted(asked, trio.Event())
    assert (before.over, after.over) == (LOGGED_OUT, None)
    assert outage.email_of(before.user_id, before.token_version) is None
    assert outage.email_of(after.user_id, after.token_version) == account.email
    on.watchers.clear()


async def test_a_search_that_hangs_gives_up_for_itself_and_leaves_room_for_others(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SEARCH_S", 0.3)
    admin = await board.admin()
    word = "0190a0b0-0000-7000-8000-000000000001"
    async with board.pool.connection() as conn, conn.transaction():
        await conn.run("LOCK TABLE sessions")
        for _ in range(3):
            assert (await admin.get(f"/console/why?q={word}")).status_code == 503
    assert (await admin.get(f"/console/why?q={word}")).status_code == 200


async def test_who_is_known_does_not_wait_for_a_check_that_just_hung(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_CHECK_S", 0.3)
    admin = await board.admin()
    assert (await admin.get("/console")).status_code == 200
    monkeypatch.setattr(users, "by_id", hang)
    assert (await admin.get("/console")).status_code == 200
    asked: list[Any] = []

    async def counted(*who: Any) -> Any:
        asked.append(who)
        await trio.sleep_forever()

    monkeypatch.setattr(users, "by_id", counted)
    assert (await admin.get("/console")).status_code == 200
    assert not asked


async def test_nobody_acts_while_it_cannot_be_asked_who_it_is(
    board: BoardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_CHECK_S", 0.3)
    admin, job = await board.admin(), await dead_job(board)
    assert (await admin.get("/console")).status_code == 200
    monkeypatch.setattr(users, "by_id", hang)
    assert (await admin.get("/console")).status_code == 200
    assert (await admin.post(f"/console/dead/{job}/replay")).status_code == 503
    async with board.pool.connection() as conn:
        assert await conn.fetch_one("SELECT state FROM jobs") == ("dead",)
