"""The live stream, and what it tells of."""

from typing import Any
from uuid import UUID

import pytest
import trio

from opendesk.console import board as boards
from opendesk.console import streaming
from opendesk.console.shapes import SECTIONS
from opendesk.network.jobs import NewJob, add_many, looking
from opendesk.rental import wallets
from opendesk.rental.shapes import TxType
from opendesk.web.auth import utc_now
from tests.console.board_site import PATIENCE_S, BoardSite
from tests.web.site import PC

NASTY = "<img src=x onerror=alert(1)>'\""


async def told(events: Any, wanted: Any) -> Any:
    """The first patch that tells what is wanted."""
    with trio.fail_after(PATIENCE_S):
        async for name, patch in events:
            assert name == "patch", patch
            if found := wanted(patch):
                return found
    raise AssertionError("the stream ended")


async def dead_job(board: BoardSite, lane: str = "HOTSPOT-01") -> UUID:
    async with board.pool.connection() as conn:
        (added,) = await add_many(conn, [NewJob("PING", lane, "key", {})])
        assert await looking.discard(conn, added.id, why=NASTY)
        return added.id


async def rented(board: BoardSite) -> tuple[str, str]:
    """A session of a host and a client with nasty names, and the client's token."""
    host, client = await board.user("HOST", NASTY), await board.user("CLIENT", f"{NASTY}2")
    tokens, api = board.services.responder.api.tokens, board.browser().client
    as_host, as_client = (
        {"Authorization": f"Bearer {tokens.issue(who.id, who.role, who.token_version, now=utc_now())}"}
        for who in (host, client)
    )
    pc = (await api.post("/pcs", json={**PC, "name": NASTY}, headers=as_host)).json()["pc"]["id"]
    assert (await api.post(f"/hosts/{host.host_id}/heartbeat", json={}, headers=as_host)).status_code == 200
    async with board.pool.connection() as conn:
        await wallets.move(conn, client.id, TxType.CREDIT, 10_000, "TOP_UP")
    made = await api.post("/sessions", json={"pcId": pc, "minutesPurchased": 60}, headers=as_client)
    assert made.status_code == 201, made.text
    session = made.json()["session"]["id"]
    assert (await api.post(f"/sessions/{session}/start", headers=as_client)).status_code == 200
    return session, as_client["Authorization"]


async def test_the_first_patch_has_everything_and_the_next_only_what_changed(board: BoardSite) -> None:
    admin = await board.admin()
    async with admin.live() as events:
        _, first = await anext(events)
        assert set(first["faults"]) == set(SECTIONS)
        assert first["tables"]["routers"] == {"rows": [], "gone": [], "left_out": 0, "order": []}
        assert {name.partition(".")[0] for name in first["figures"]} == set(SECTIONS)
        _, second = await anext(events)
        assert "routers" not in second["tables"]
        assert len(second["figures"]) < len(first["figures"])


async def test_a_session_is_watched_from_its_beginning_to_its_end(board: BoardSite) -> None:
    admin = await board.admin()
    async with admin.live() as events:
        await anext(events)
        session, client = await rented(board)
        row = await told(events, lambda patch: patch["tables"].get("sessions", {}).get("rows"))
        assert row[0][0] == session
        page = await admin.get("/console")
        assert session in page.text
        assert "<img src=x" not in page.text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
        story = await admin.get(f"/console/why?q={session}")
        assert f"session {session}: ACTIVE" in story.text
        api = board.browser().client
        ended = await api.post(f"/sessions/{session}/end", json={}, headers={"Authorization": client})
        assert ended.status_code == 200
        seen: dict[str, Any] = {}  # in one patch, or one after the other

        def is_over(patch: Any) -> bool:
            seen["gone"] = patch["tables"].get("sessions", {}).get("gone") or seen.get("gone")
            seen["money"] = patch["figures"].get("rental.host_payout") or seen.get("money")
            return all(seen.values())

        await told(events, is_over)
        assert seen["gone"] == [session]
        assert seen["money"][0].endswith(" BRL")


async def test_a_dead_letter_is_shown_and_tried_again_once(board: BoardSite) -> None:
    admin, job = await board.admin(), await dead_job(board)
    page = await admin.get("/console")
    assert f'action="/console/dead/{job}/replay"' in page.text
    assert "<img src=x" not in page.text
    done = await admin.post(f"/console/dead/{job}/replay")
    assert done.status_code == 303
    page = await admin.get(done.headers["location"])
    assert f"Job {job} is due again." in page.text
    assert f'action="/console/dead/{job}/replay"' not in page.text
    again = await admin.get((await admin.post(f"/console/dead/{job}/replay")).headers["location"])
    assert f"job {job} is due: nothing was changed" in again.text
    audit = [line["outcome"] for line in board.lines("audit") if line["action"] == "CONSOLE_REPLAY_JOB"]
    assert audit == ["attempt", "success", "attempt", "failure"]


async def test_an_open_circuit_is_closed_by_hand(board: BoardSite) -> None:
    admin = await board.admin()
    async with board.pool.connection() as conn:
        await conn.run("INSERT INTO routers (id, host) VALUES ('HOTSPOT-01', '127.0.0.1')")
        await conn.run(
            "INSERT INTO router_states (router_id, leased_by, leased_until, failures, open_until)"
            " VALUES ('HOTSPOT-01', gen_random_uuid(), now() + interval '1 hour', 5, now() + interval '1 hour')"
            " ON CONFLICT (router_id) DO UPDATE SET leased_by = excluded.leased_by, leased_until = excluded.leased_until,"
            " failures = 5, open_until = excluded.open_until"
        )
    async with admin.live() as events:
        state = await told(
            events,
            lambda patch: [row for row in patch["tables"].get("routers", {}).get("rows", ()) if row[4][2] == "open"],
        )
        assert state[0][:4] == ["HOTSPOT-01", "bad", "HOTSPOT-01", True]
        await admin.get("/console")
        done = await admin.post("/console/routers/HOTSPOT-01/reset")
        assert done.status_code == 303
        rows = await told(events, lambda patch: patch["tables"].get("routers", {}).get("rows"))
        assert rows[0][3] is False
    assert "is closed: it is tried again at once" in (await admin.get(done.headers["location"])).text


async def test_all_streams_end_with_a_word_when_the_daemon_stops(board: BoardSite) -> None:
    admin = await board.admin()
    async with admin.live() as events, admin.live() as others:
        await anext(events)
        await anext(others)
        board.stop.set()
        for stream in (events, others):
            assert [event async for event in stream][-1] == ("bye", {"reason": "stopping"})


async def test_who_is_not_logged_in_is_told_so_and_nothing_else(board: BoardSite) -> None:
    async with board.browser().live() as events:
        assert [event async for event in events] == [("bye", {"reason": "logged_out"})]


async def test_there_is_an_end_to_how_many_watch(board: BoardSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WATCHERS_MOST", 1)
    admin = await board.admin()
    async with admin.live() as events:
        await anext(events)
        refused = await admin.get("/console/live")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
    with trio.fail_after(PATIENCE_S):
        while board.services.console.app._board.watchers:  # noqa: ASYNC110 - a reader that left is noticed by sending
            await trio.sleep(0.02)
    async with admin.live() as events:
        assert (await anext(events))[0] == "patch"


async def test_a_reader_who_missed_a_patch_is_given_everything(board: BoardSite) -> None:
    shown = board.services.console.app._board
    await shown.current()
    late = boards.Watcher(UUID(int=1), 1)
    assert b'"faults":{"rental"' in shown.told(late)
    assert shown.told(late) == b""
    shown.ask_again()
    await shown.current()
    shown.ask_again()
    await shown.current()
    assert b'"faults":{"rental"' in shown.told(late)


async def test_the_books_are_proven_while_somebody_watches(board: BoardSite) -> None:
    admin = await board.admin()
    async with admin.live() as events:
        verdict = await told(
            events,
            lambda patch: (found := patch["figures"].get("ledger.verdict")) and found[1] == "ok" and found,
        )
    assert verdict == ["right", "ok", "to the centavo"]
