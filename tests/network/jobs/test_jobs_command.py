"""`opendesk jobs` as an operator runs it."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from opendesk.network.jobs import Dead, NewJob, add, table
from opendesk.network.jobs.shapes import ended
from opendesk.postgres.driver import TrioConnection
from tests.network.jobs.working import RETRIES, claimed, new
from tests.system.commands import opendesk
from tests.system.daemon import url_of


async def test_dead_jobs_are_listed_shown_and_replayed(conn: TrioConnection, conninfo: str, tmp_path: Path) -> None:
    async def jobs(*arguments: str) -> str:
        done = await opendesk("jobs", *arguments, data_dir=tmp_path, DATABASE_URL=url_of(conninfo))
        assert done.code == 0, done
        return done.out

    dead = await add(conn, new("phone\n2", payload={"order": 1}))
    (job,) = await claimed(conn)
    outcome = Dead("no such router\nat all", {"seconds": 1.5})
    await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0)])
    waiting = await add(conn, NewJob("OTHER", "elsewhere", "phone", {}))

    assert len((await jobs("list")).splitlines()) == 2
    (line,) = (await jobs("list", "--state", "dead")).splitlines()
    assert str(dead) in line
    assert line.endswith("1 attempts  no such router")
    (found,) = json.loads(await jobs("list", "--lane", "elsewhere", "--json"))
    assert (found["id"], found["state"], found["runAt"].endswith("Z")) == (str(waiting), "due", True)
    shown = json.loads(await jobs("show", str(dead), "--json"))
    assert (shown["lastError"], shown["result"]) == ("no such router\nat all", {"seconds": 1.5})
    assert "state: dead" in await jobs("show", str(dead))
    assert await jobs("replay", str(dead)) == f"{dead} is due again\n"
    assert json.loads(await jobs("discard", str(waiting), "--json"))["lastError"] == "discarded from the command line"
    assert len(json.loads(await jobs("list", "--state", "due", "--json"))) == 1


async def test_what_a_job_says_moves_no_cursor(conn: TrioConnection, conninfo: str, tmp_path: Path) -> None:
    evil = "\x1b[2J\x9b1mevil\r\u202e"
    await add(conn, new(f"key{evil}"))
    (job,) = await claimed(conn)
    await table.finish(conn, [ended(job, Dead(evil, {"said": evil}), RETRIES, jitter=0)])
    for arguments in (["list"], ["show", str(job.id)]):
        done = await opendesk("jobs", *arguments, data_dir=tmp_path, DATABASE_URL=url_of(conninfo))
        assert done.code == 0, done
        assert all(char == "\n" or char.isprintable() for char in done.out)
        assert "\\x1b[2J\\x9b1mevil\\r\\u202e" in done.out


@pytest.mark.parametrize("action", ["replay", "discard", "show"])
async def test_a_job_that_is_not_there_is_told_in_one_line(conninfo: str, tmp_path: Path, action: str) -> None:
    unknown = str(uuid4())
    done = await opendesk("jobs", action, unknown, data_dir=tmp_path, DATABASE_URL=url_of(conninfo))
    assert done.refusal == f"Error: there is no job {unknown}"


async def test_what_can_not_be_changed_is_told(conn: TrioConnection, conninfo: str, tmp_path: Path) -> None:
    job_id = await add(conn, new())
    done = await opendesk("jobs", "replay", str(job_id), data_dir=tmp_path, DATABASE_URL=url_of(conninfo))
    assert done.refusal == f"Error: job {job_id} is due: nothing was changed"
