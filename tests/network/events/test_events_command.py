"""`opendesk events` as an operator runs it, and what it counts by."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opendesk.network.events import looking
from opendesk.postgres.driver import TrioConnection
from tests.network.events.told import IP, MAC, RESULT, Rows, Shell, hash_of, rows_in


@pytest.fixture
def rows(conninfo: str) -> Iterator[Rows]:
    with rows_in(conninfo) as found:
        yield found


@pytest.fixture
def shell(conninfo: str, tmp_path: Path) -> Shell:
    return Shell(conninfo, tmp_path)


def one_of_each(rows: Rows) -> None:
    rows.event("evt-done", job=(done := rows.job()))
    rows.ends(done, "done", result=RESULT)
    rows.event("evt-failed", job=(failed := rows.job()), router_id="r2")
    rows.ends(failed, "dead", error="ROUTER_UNAVAILABLE: no route to it")
    rows.refused("evt-refused", "unknown_type", "/type must be one of …", type="DANCE_REQUESTED", router_id=None)
    rows.refused("evt-typeless", "validation", "/type must be a string", type="", router_id=None)
    rows.event("evt-waiting", job=rows.job())


def test_events_are_listed_the_newest_first_by_state_and_router(rows: Rows, shell: Shell) -> None:
    one_of_each(rows)
    ids = [event["eventId"] for event in shell.json("events", "list")]
    assert ids == ["evt-waiting", "evt-typeless", "evt-refused", "evt-failed", "evt-done"]
    assert len(shell.json("events", "list", "--limit", "2")) == 2
    assert [event["eventId"] for event in shell.json("events", "list", "--router", "r2")] == ["evt-failed"]
    by_state = {
        state: [event["eventId"] for event in shell.json("events", "list", "--state", state)]
        for state in looking.STATES
    }
    assert by_state == {
        "waiting": ["evt-waiting"],
        "done": ["evt-done"],
        "refused": ["evt-typeless", "evt-refused"],
        "failed": ["evt-failed"],
    }


def test_a_line_says_what_became_of_it_and_why(rows: Rows, shell: Shell) -> None:
    one_of_each(rows)
    lines = shell.good("events", "list").splitlines()
    assert (
        "failed   RELEASE_REQUESTED  evt-failed  r2  AA:BB:CC:DD:EE:01  not acked  failed  ROUTER_UNAVAILABLE: no route to it"
        in lines[3]
    )
    assert "refused  -  evt-typeless  -  " in lines[1]
    rows.ack_is_taken()
    assert "evt-done  r1  AA:BB:CC:DD:EE:01  acked" in shell.good("events", "list", "--state", "done")


def test_one_is_shown_with_all_that_is_kept_of_it(rows: Rows, shell: Shell) -> None:
    rows.event("evt-1", job=(job := rows.job()), body='{"eventId":"evt-1"}')
    rows.ends(job, "done", result=RESULT)
    (shown,) = shell.json("events", "show", "evt-1")
    assert (shown["ip"], shown["mac"], shown["state"], shown["jobId"]) == (IP, MAC, "done", str(job))
    assert shown["outcome"] == RESULT
    assert shown["result"]["online"] is True
    assert "state: done" in shell.good("events", "show", "evt-1").splitlines()


def test_one_that_is_not_there_is_told_in_one_line(shell: Shell) -> None:
    done = shell("events", "show", "evt-1")
    assert (done.exit_code, done.stderr) == (1, "Error: there is no such event\n")


def test_an_ack_that_was_given_up_is_listed_and_replayed(rows: Rows, shell: Shell) -> None:
    rows.refused("evt-1", "validation", "no")
    ack = rows.job("ACK_EVENT", lane="/acks", key=hash_of("evt-1").hex(), payload={"body": "{}"})
    rows.ends(ack, "dead", error="the backend answered 503")
    (line,) = shell.good("jobs", "list", "--state", "dead", "--lane", "/acks").splitlines()
    assert line.endswith("the backend answered 503")
    assert f"opendesk jobs replay {ack}" in shell.good("why", "evt-1")
    assert shell.good("jobs", "replay", str(ack)) == f"{ack} is due again\n"
    assert rows.run("SELECT acked_at FROM events") == (None,)


def test_what_an_event_says_moves_no_cursor(rows: Rows, shell: Shell) -> None:
    evil = "\x1b[2J\x9b1mevil\r\u202e"
    rows.refused("evt-1", "validation", evil, type=evil)
    for arguments in (["list"], ["show", "evt-1"]):
        out = shell.good("events", *arguments)
        assert all(char == "\n" or char.isprintable() for char in out)
        assert "\\x1b[2J\\x9b1mevil\\r\\u202e" in out


async def test_those_that_wait_are_counted_up_to_a_limit(conn: TrioConnection, conninfo: str) -> None:
    with rows_in(conninfo) as rows:
        one_of_each(rows)
        rows.event("evt-2", job=rows.job())
        rows.event("evt-running", job=(running := rows.job()))
        rows.run(
            "UPDATE jobs SET state = 'running', leased_by = id, leased_until = now() + interval '1 day' WHERE id = %(id)s",
            id=running,
        )
    assert await looking.count_waiting(conn) == 3
    assert await looking.count_waiting(conn, most=2) == 2


def test_those_that_wait_are_found_among_many_that_do_not(conninfo: str) -> None:
    """By the few jobs that are unfinished: no list and no count reads all that ever came."""
    with rows_in(conninfo) as rows:
        rows.run(
            "INSERT INTO events (id_hash, dry_run, ok, executed_at, type, event_id)"
            " SELECT sha256(n::text::bytea), false, true, now(), 'RELEASE_REQUESTED', n::text FROM generate_series(1, 20000) AS n"
        )
        rows.event("evt-waiting", job=rows.job())
        rows.run("ANALYZE")
        for statement in (looking._COUNT, looking._LIST["waiting"]):
            plan = plan_of(rows.conn, statement)
            assert "Seq Scan on events" not in plan, plan


def plan_of(conn: psycopg.Connection, statement: str) -> str:
    values = {"router": None, "limit": 50, "most": 1000}
    lines = conn.execute(f"EXPLAIN {statement}".encode(), values).fetchall()
    return "\n".join(line for (line,) in lines)
