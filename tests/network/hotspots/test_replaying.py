"""A dead job that was to open a way is tried again only while there is something to open."""

from pathlib import Path
from uuid import UUID

import pytest

from opendesk.network.hotspots import grants, moves
from opendesk.network.hotspots.replaying import bring_back
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import add, get
from opendesk.postgres.driver import TrioConnection
from tests.network.hotspots.test_grants import ELSEWHERE, PHONE, began, give, later
from tests.system.commands import opendesk
from tests.system.daemon import url_of


async def dead(conn: TrioConnection, kind: Kind = Kind.AUTHORIZE, *, dry_run: bool = False) -> UUID:
    job = await add(conn, Work(kind, "r1", (PHONE,), "1", dry_run=dry_run).job("trace"))
    await conn.run("UPDATE jobs SET state = 'dead', finished_at = now() WHERE id = %s", (job,))
    return job


@pytest.mark.parametrize("end", ["over", "revoked", "moved", "removed", "never granted"])
@pytest.mark.parametrize("kind", [Kind.AUTHORIZE, Kind.RESYNC])
async def test_nothing_is_tried_again_for_what_is(conn: TrioConnection, kind: Kind, end: str) -> None:
    job = await dead(conn, kind)
    granted = await give(conn, "2" if end == "never granted" else "1", duration_s=60)
    if end == "over":
        await began(conn, granted.id)
        await later(conn, 61)
    elif end == "revoked":
        await grants.revoke(conn, "r1", PHONE, dry_run=False)
    elif end == "moved":
        await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    elif end == "removed":
        await grants.remove(conn, "r1")
    assert "order 1 has no access" in (await bring_back(conn, job) or "")


async def test_what_is_granted_can_be_tried_again(conn: TrioConnection) -> None:
    await give(conn, duration_s=60)
    assert await bring_back(conn, await dead(conn)) is None
    assert await bring_back(conn, await dead(conn, dry_run=True)) is not None  # pretended, it is granted to nobody


@pytest.mark.parametrize("kind", [Kind.REVOKE, Kind.END, Kind.RESTORE])
async def test_what_opens_nothing_by_itself_can_always_be_tried_again(conn: TrioConnection, kind: Kind) -> None:
    assert await bring_back(conn, await dead(conn, kind)) is None


async def test_the_command_says_why_and_leaves_it_dead(conn: TrioConnection, conninfo: str, tmp_path: Path) -> None:
    job = await dead(conn)
    done = await opendesk("jobs", "replay", str(job), data_dir=tmp_path, DATABASE_URL=url_of(conninfo))
    assert done.code == 1
    assert "order 1 has no access at" in done.err
    view = await get(conn, job)
    assert view is not None
    assert view.state == "dead"
