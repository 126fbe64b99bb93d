"""Why something is as it is, asked on the page."""

import hashlib
import re

import pytest
import trio

from opendesk.console import streaming
from opendesk.console.told import Part, parts_of
from tests.console.board_site import PATIENCE_S, BoardSite
from tests.console.test_board_live import rented

TOKEN = "hush-this-is-the-token-of-a-device"
SESSION = "0190a0b0-0000-7000-8000-000000000001"


async def test_a_devices_token_is_taken_from_the_form_only_and_told_nowhere(board: BoardSite) -> None:
    admin = await board.admin()
    async with board.pool.connection() as conn:
        values = {"hash": hashlib.sha256(TOKEN.encode()).digest()}
        await conn.run(
            "INSERT INTO hotspot_devices (token_hash, router_id, ip, mac, addresses)"
            " VALUES (%(hash)s, 'r1', '10.0.0.7', 'AA:BB:CC:DD:EE:01', '[]')",
            values,
        )
    await admin.get("/console")
    found = await admin.post("/console/why", {"q": TOKEN})
    assert found.status_code == 200
    assert "device AA:BB:CC:DD:EE:01 10.0.0.7 on r1" in re.sub("<[^>]*>", "", found.text)
    assert TOKEN not in found.text
    linked = await admin.get(f"/console/why?q={TOKEN}")
    assert linked.status_code == 200
    assert "10.0.0.7" not in linked.text
    admin.csrf = "0" * 64
    assert (await admin.post("/console/why", {"q": TOKEN})).status_code == 403


async def test_from_a_session_one_gets_to_its_people_and_machines(board: BoardSite) -> None:
    session, _ = await rented(board)
    admin = await board.admin()
    story = (await admin.get(f"/console/why?q={session}")).text
    async with board.pool.connection() as conn:
        ids = await conn.fetch_one("SELECT client_user_id, host_id, pc_id FROM sessions")
    assert ids is not None
    for one in map(str, ids):
        assert f"/console/why?q={one}" in story
        about = await admin.get(f"/console/why?q={one}")
        assert f"/console/why?q={session}" in about.text
        assert "<img src=x" not in about.text
    assert f'<a href="/console/why?q={session}"' not in story.partition("<main")[2]
    assert ".00 BRL" in story
    assert "minor units" not in story
    assert f'<a href="/console/why?q={ids[1]}"' in (await admin.get("/console")).text  # its host's row


@pytest.mark.parametrize(
    ("text", "ids", "parts"),
    [
        ("nothing", (), [Part("nothing")]),
        (f"session {SESSION}: ENDED", (), [Part("session "), Part(SESSION, SESSION), Part(": ENDED")]),
        ("job on r1: done, r10", ("r1",), [Part("job on "), Part("r1", "r1"), Part(": done, r10")]),
        ("order <b> of r.1", ("<b>", "r.1"), [Part("order "), Part("<b>", "<b>"), Part(" of "), Part("r.1", "r.1")]),
        ("AA:BB:CC:DD:EE:01", (), [Part("AA:BB:CC:DD:EE:01", "AA:BB:CC:DD:EE:01")]),
    ],
    ids=["no id", "an id of ours", "a name that another begins with", "any characters", "a MAC address"],
)
def test_ids_in_a_line_lead_on(text: str, ids: tuple[str, ...], parts: list[Part]) -> None:
    assert list(parts_of(text, ids)) == parts
    assert "".join(part.text for part in parts_of(text, ids)) == text
    assert not [part for part in parts_of(text, (), asked=SESSION) if part.why == SESSION]


async def test_a_crowd_that_comes_at_once_is_counted_too(board: BoardSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WATCHERS_MOST", 2)
    admin = await board.admin()
    told: list[str] = []

    async def watch() -> None:
        with trio.fail_after(PATIENCE_S):
            async with admin.client.stream("GET", "/console/live") as stream:
                told.append("refused" if stream.status_code == 503 else "let in")
                while len(told) < 6:  # noqa: ASYNC110 - the others come
                    await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(watch)
    assert sorted(told) == ["let in"] * 2 + ["refused"] * 4
