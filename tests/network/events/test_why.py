"""`opendesk why`: the whole story by any of the words that somebody may have."""

from collections.abc import Iterator
import hashlib
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from opendesk.console.texts import money
from opendesk.network.events import chain
from opendesk.postgres.driver import TrioConnection
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import story
from tests.network.events.told import IP, MAC, RESULT, Rows, Shell, hash_of, rows_in
from tests.rental.builders import MINUTE, end, rent, reserve, set_stage

TOKEN = "hush-this-is-the-token-of-a-device"


@pytest.fixture
def rows(conninfo: str) -> Iterator[Rows]:
    with rows_in(conninfo) as found:
        yield found


@pytest.fixture
def shell(conninfo: str, tmp_path: Path) -> Shell:
    return Shell(conninfo, tmp_path)


def a_release(rows: Rows) -> tuple[str, str]:
    """Paid, opened, and acknowledged; a trial was before it."""
    rows.router()
    trial = rows.grant(trial=True, duration_s=300, ended_at="now", end_reason="released")
    grant = rows.grant(duration_s=1800, begun_at="now", until="tomorrow", opening_at="now", observed_at="now")
    rows.event("evt-1", job=(job := rows.job()))
    rows.job("END_GRANT", key=f"grant:{trial}", state="done", finished_at="now")
    rows.job("END_GRANT", key=f"grant:{grant}", run_at="tomorrow")
    rows.ends(job, "done", result=RESULT)
    return str(job), str(grant)


def test_an_event_is_told_from_its_arrival_to_its_ack(rows: Rows, shell: Shell) -> None:
    job, grant = a_release(rows)
    told = shell.json("why", "evt-1")
    assert told["foundAs"] == ["eventId"]
    (event,) = told["events"]
    stages = [event[name] for name in ("receivedAt", "validatedAt", "routedAt", "executedAt")]
    assert all(stages)
    assert event["ackedAt"] is None
    assert [(each["type"], each["state"]) for each in told["jobs"]] == [
        ("AUTHORIZE_BY_PEDIDO", "done"), ("END_GRANT", "done"), ("END_GRANT", "due"), ("ACK_EVENT", "due"),
    ]  # fmt: skip
    assert [(each["trial"], each["endReason"]) for each in told["grants"]] == [(True, "released"), (False, None)]

    rows.ack_is_taken()
    text = shell.good("why", "evt-1")
    for line in (
        "event evt-1: done",
        "RELEASE_REQUESTED: device AA:BB:CC:DD:EE:01 10.5.50.7 on router r1, order pedido-1",
        "from the backend",
        "router checked",
        f"job {job} AUTHORIZE_BY_PEDIDO on r1: done, 1 try ended",
        "/ip/hotspot/ip-binding add type=bypassed address=10.5.50.7 (open)",
        "the backend took it",
        "trial of order pedido-1 for AA:BB:CC:DD:EE:01 10.5.50.7 on r1: over",
        "the trial gave way to a paid order",
        "grant of order pedido-1",
        "first seen on the router",
        "its end: job",
        "waits for its time",
    ):
        assert line in text, text
    assert grant in shell.good("why", "evt-1", "--json")


@pytest.mark.parametrize("which", ["order", "job", "ack", "end"])
def test_any_end_of_the_chain_finds_the_whole(rows: Rows, shell: Shell, which: str) -> None:
    job, _grant = a_release(rows)
    (ack,) = rows.run("SELECT id FROM jobs WHERE type = 'ACK_EVENT'")
    (end,) = rows.run("SELECT id FROM jobs WHERE type = 'END_GRANT' AND state = 'due'")
    word, found_as = {
        "order": ("pedido-1", "pedidoId"), "job": (job, "jobId"), "ack": (str(ack), "jobId"), "end": (str(end), "jobId"),
    }[which]  # fmt: skip
    told = shell.json("why", word)
    assert told["foundAs"] == [found_as]
    assert str(end) in {each["id"] for each in told["jobs"]}
    if which != "end":
        assert [event["eventId"] for event in told["events"]] == ["evt-1"]
        assert {job, str(ack)} <= {each["id"] for each in told["jobs"]}
    assert len(told["grants"]) == 2


def test_a_device_is_found_by_its_token_which_is_never_told(rows: Rows, shell: Shell) -> None:
    a_release(rows)
    rows.insert(
        "hotspot_devices",
        {
            "token_hash": hashlib.sha256(TOKEN.encode()).digest(),
            "router_id": "r1",
            "ip": IP,
            "mac": MAC,
            "addresses": f'[["{IP}", "{MAC}"]]',
        },
    )
    for arguments, stdin in ((["why", TOKEN], None), (["why", "-"], f"{TOKEN}\nmore".encode())):
        text = shell.good(*arguments, stdin=stdin)
        assert f"device {MAC} {IP} on r1" in text
        assert "event evt-1: done" in text
        assert TOKEN not in text
    told = shell.json("why", TOKEN)
    assert told["foundAs"] == ["deviceToken"]
    assert TOKEN not in str(told)


@pytest.mark.parametrize("word", [MAC, MAC.lower().replace(":", "-"), IP], ids=["MAC", "MAC otherwise written", "IP"])
def test_an_address_leads_to_its_devices_and_what_was_given_to_it(rows: Rows, shell: Shell, word: str) -> None:
    a_release(rows)
    rows.insert(
        "hotspot_devices",
        {
            "token_hash": hashlib.sha256(TOKEN.encode()).digest(),
            "router_id": "r1",
            "ip": IP,
            "mac": MAC,
            "addresses": "[]",
        },
    )
    told = shell.json("why", word)
    assert told["foundAs"] == ["ip" if word == IP else "mac"]
    assert [device["mac"] for device in told["devices"]] == [MAC]
    assert len(told["grants"]) == 2
    assert {job["type"] for job in told["jobs"]} >= {"END_GRANT"}
    assert [event["eventId"] for event in told["events"]] == ([] if word == IP else ["evt-1"])
    text = shell.good("why", word)
    assert f"device {MAC} {IP} on r1" in text
    assert f"grant of order pedido-1 for {MAC} {IP} on r1: live" in text


def test_a_router_is_told_by_its_id_and_by_its_address(rows: Rows, shell: Shell) -> None:
    job, _grant = a_release(rows)
    rows.insert("routers", {"id": "r1", "host": "10.9.8.7", "port": 8728})
    for word in ("r1", "10.9.8.7"):
        told = shell.json("why", word)
        assert told["foundAs"] == ["routerId"]
        assert [(router["id"], router["grants"]) for router in told["foundRouters"]] == [("r1", 1)]
        assert job in {each["id"] for each in told["jobs"]}
        assert [event["eventId"] for event in told["events"]] == ["evt-1"]
        text = shell.good("why", word)
        for line in (
            "router r1: ",
            "at 10.9.8.7:8728",
            "grants live: 1",
            f"job {job} AUTHORIZE_BY_PEDIDO on r1",
            "event evt-1: done",
        ):
            assert line in text, text
    rows.router("r2", open_until="tomorrow", failures=5, last_error="no route to it")
    text = shell.good("why", "r2")
    assert "router r2: its circuit is open, 5 failures, next probe" in text
    assert "no route to it" in text


def test_an_event_whose_details_are_gone_is_still_known(rows: Rows, shell: Shell) -> None:
    rows.refused("evt-1", "validation", "no")
    names = ("event_id", "type", "source", "router_id", "pedido_id", "ip", "mac", "result", "ack_lane")
    rows.run(f"UPDATE events SET {', '.join(f'{name} = NULL' for name in names)}")
    text = shell.good("why", "evt-1")
    assert f"event with the hash {hash_of('evt-1').hex()}: refused" in text
    assert "its details have been deleted by age" in text
    assert shell.json("why", "evt-1")["events"][0]["detailsGone"] is True


def test_what_an_event_waits_for_is_said(rows: Rows, shell: Shell) -> None:
    rows.event("evt-1", job=rows.job(last_error="CIRCUIT_OPEN: its circuit is open"))
    assert "waits for a daemon that drives its router" in shell.good("why", "evt-1")
    rows.router(open_until="2020-01-01", last_error="no route to it")
    text = shell.good("why", "evt-1")
    assert "whose circuit is open until a probe goes well" in text
    assert "no route to it" in text
    rows.run("UPDATE router_states SET open_until = NULL")
    assert "waits for its turn" in shell.good("why", "evt-1")
    rows.run("UPDATE jobs SET run_at = 'tomorrow'")
    assert "waits for its time" in shell.good("why", "evt-1")
    earlier = rows.run("SELECT id FROM jobs")[0]
    rows.event("evt-2", job=rows.job())
    assert f"waits for job {earlier}, which came before it" in shell.good("why", "pedido-1")


def test_a_dead_one_says_why_and_how_it_is_tried_again(rows: Rows, shell: Shell) -> None:
    rows.event("evt-1", job=(job := rows.job()))
    rows.ends(job, "dead", error="ROUTER_REFUSED: \x1b[2Jno such [red]menu[/red]")
    text = shell.good("why", "evt-1")
    assert "event evt-1: failed" in text
    assert "failed; ROUTER_REFUSED: \\x1b[2Jno such [red]menu[/red]" in text
    assert f"opendesk jobs replay {job}" in text
    assert "\x1b" not in text
    assert "waits for a daemon that sends ACKs (BACKEND_ACK_URL)" in text


def test_a_revoke_tells_which_grants_it_ended(rows: Rows, shell: Shell) -> None:
    rows.grant(ended_at="now", end_reason="revoked")
    rows.grant(ended_at="now", end_reason="revoked", mac="AA:BB:CC:DD:EE:02")
    job = rows.job("REVOKE_SESSION", payload={"pedidoId": None})
    rows.event("evt-1", job=job, type="REVOKE_REQUESTED", pedido_id=None, ip=None)
    told = shell.json("why", "evt-1")
    assert [grant["mac"] for grant in told["grants"]] == [MAC]


def test_what_a_call_asked_for_is_part_of_an_order_s_story_only(rows: Rows, shell: Shell) -> None:
    a_release(rows)
    call = str(rows.job("RESYNC_DEVICE", state="done", finished_at="now"))
    assert call in {job["id"] for job in shell.json("why", "pedido-1")["jobs"]}
    assert call not in {job["id"] for job in shell.json("why", "evt-1")["jobs"]}
    assert f"job {call} RESYNC_DEVICE" in shell.good("why", "pedido-1")


def test_more_than_anybody_reads_is_cut_and_that_is_said(rows: Rows, shell: Shell) -> None:
    for number in range(chain.MOST_EVENTS + 1):
        rows.refused(f"evt-{number}", "validation", "no")
    told = shell.json("why", "pedido-1")
    assert len(told["events"]) == chain.MOST_EVENTS
    assert told["cut"] == ["events"]
    assert told["events"][-1]["eventId"] == f"evt-{chain.MOST_EVENTS}"
    assert "… there are more events than are told here" in shell.good("why", "pedido-1")


def test_what_the_events_name_and_what_ends_the_grants_is_told_however_many_others_there_are(
    rows: Rows, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "MOST_JOBS", 5)
    monkeypatch.setattr(chain, "_JOBS", chain._JOBS.replace("THEN 200 ELSE", "THEN 5 ELSE"))
    first, *_ = [rows.job("RESYNC_DEVICE", state="done", finished_at="now") for _ in range(20)]
    rows.event("evt-1", job=(job := rows.job()), received_at="2026-01-01")
    end = rows.job(
        "END_GRANT", key=f"grant:{rows.grant(duration_s=60, begun_at='now', until='tomorrow')}", run_at="tomorrow"
    )
    calls = [str(rows.job("RESYNC_DEVICE", state="done", finished_at="now")) for _ in range(20)]
    told = shell.json("why", "pedido-1")
    assert {str(first), str(job), str(end), *calls[-5:]} == {each["id"] for each in told["jobs"]}
    assert told["cut"] == ["jobs"]
    text = shell.good("why", "pedido-1")
    assert "deleted by age" not in text
    assert f"its end: job {end}" in text
    rows.run("DELETE FROM jobs WHERE id = %(id)s", id=job)
    assert f"job {job}: deleted by age" in shell.good("why", "pedido-1")


def test_of_many_acks_the_first_and_the_last_are_told(rows: Rows, shell: Shell) -> None:
    rows.event("evt-1", job=(job := rows.job()))
    rows.ends(job, "done", result=RESULT)
    rows.ack_is_taken()
    rows.run("UPDATE jobs SET finished_at = '2026-01-02T03:04:05Z' WHERE type = 'ACK_EVENT'")
    done = {"lane": "/acks", "key": hash_of("evt-1").hex(), "state": "done", "finished_at": "now"}
    assert shell.json("why", "evt-1")["cut"] == []
    acks = [str(rows.job("ACK_EVENT", **done)) for _ in range(300)]
    told = shell.json("why", "evt-1")
    assert [each["id"] for each in told["jobs"] if each["type"] == "ACK_EVENT"][1:] == acks[-3:]
    assert str(job) in {each["id"] for each in told["jobs"]}
    assert told["cut"] == ["ACKs"]
    text = shell.good("why", "evt-1")
    assert "the backend took it, the first time 2026-01-02T03:04:05" in text
    assert "… there are more ACKs than are told here" in text


def test_one_whose_id_nobody_can_write_down_is_not_said_to_be_deleted(rows: Rows, shell: Shell) -> None:
    rows.refused("x", "validation", "/eventId must have 1 to 256 characters", type="")
    rows.run("UPDATE events SET event_id = NULL")
    assert "event (unusable id): refused" in (text := shell.good("why", "pedido-1"))
    assert "deleted by age" not in text
    assert "(unusable id)" in shell.good("events", "list")
    assert "eventId: (unusable id)" in shell.good("events", "show", "x").splitlines()
    (shown,) = shell.json("events", "show", "x")
    assert (shown["eventId"], shown["detailsGone"]) == (None, False)


@pytest.mark.parametrize("word", ["nothing", str(uuid4()), TOKEN], ids=["a word", "an id", "a token"])
def test_what_nobody_knows_is_told_in_one_line_without_the_word(shell: Shell, word: str) -> None:
    done = shell("why", word)
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: nothing is known of this: it is no event, order, device, address, job, session, host, PC, user, transfer or router here\n"
    )


@pytest.mark.parametrize(
    "stdin", [b"", b"\n", b"\xff\n", b"x" * 5_000], ids=["nothing", "a blank", "no UTF-8", "too much"]
)
def test_a_word_from_standard_input_is_one_line_of_text(shell: Shell, stdin: bytes) -> None:
    done = shell("why", "-", stdin=stdin)
    assert done.exit_code == 2
    assert "standard input" in done.stderr


async def test_a_session_is_told_with_its_end_its_settlement_and_its_ledger(conn: TrioConnection, shell: Shell) -> None:
    session = await rent(conn, await set_stage(conn), 60, used=20 * MINUTE)
    live = await trio.to_thread.run_sync(shell.good, "why", str(session.id))
    for line in (f"session {session.id}: ACTIVE", "min used so far", "HOLD  -24.00 BRL  WALLET of", "for 24.00 BRL"):
        assert line in live, live
    over = await end(conn, session.id, Caller.CLIENT)
    told = await trio.to_thread.run_sync(shell.json, "why", str(session.id))
    assert told["foundAs"] == ["sessionId"]
    assert (told["session"]["endReason"], told["session"]["status"]) == ("ENDED_BY_CLIENT", "ENDED")
    assert over.settlement is not None
    assert told["session"]["settlement"]["hostPayout"] == over.settlement.host_payout
    assert sum(entry["amount"] for entry in told["entries"]) == 0
    assert {entry["transfer"] for entry in told["entries"]} == {"HOLD", "SETTLEMENT"}
    text = await trio.to_thread.run_sync(shell.good, "why", str(session.id))
    assert "ENDED_BY_CLIENT, at fault: NONE" in text
    assert f"host {money(over.settlement.host_payout, 'BRL')}" in text


async def test_whom_and_what_a_session_is_of_can_be_asked_for(conn: TrioConnection, shell: Shell) -> None:
    session = await rent(conn, await set_stage(conn), 60, used=20 * MINUTE)
    row = await conn.fetch_one(
        "SELECT u.email, u.username, t.id FROM users u, transfers t WHERE u.id = %(id)s AND t.session_id = %(session)s",
        {"id": session.client_user_id, "session": session.id},
    )
    assert row is not None
    email, name, transfer = row
    line = f"session {session.id}: ACTIVE"
    for word, kind, lines in (
        (str(session.client_user_id), "userId", (f"user {name}: CLIENT", "wallet: ", "HOLD  -24.00  WALLET of", line)),
        (email.upper(), "userId", (f"user {name}: CLIENT", line)),
        (name, "userId", (f"user {name}: CLIENT", line)),
        (str(session.host_id), "hostId", ("reliability ", f"PC {session.pc_id}", line)),
        (str(session.pc_id), "pcId", (f"of host {session.host_id}", "an hour", line)),
        (str(transfer), "transferId", ("transfer HOLD", f"of session {session.id}", "-24.00  WALLET")),
    ):
        told = await trio.to_thread.run_sync(shell.json, "why", word)
        assert told["foundAs"] == [kind]
        text = await trio.to_thread.run_sync(shell.good, "why", word)
        assert all(each in text for each in lines), text


async def test_a_session_that_never_began_says_so(
    conn: TrioConnection, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "MOST_ENTRIES", 1)
    session = await reserve(conn, await set_stage(conn))
    text = await trio.to_thread.run_sync(shell.good, "why", str(session.id))
    assert "never started" in text
    assert "… and more" in text
