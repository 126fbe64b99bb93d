"""The proof of the books that a watched page asks for."""

from datetime import UTC, datetime

import psycopg
import pytest

from opendesk.console import proving
from opendesk.console.proving import Proving
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.ledger import Verification

NOW = datetime(2026, 11, 22, tzinfo=UTC)


async def test_what_is_proven_is_shown_and_told(pool: Pool, conn: TrioConnection) -> None:
    told: list[Verification] = []
    made = Proving(pool, lambda: NOW, told.append)
    assert made.is_due
    await made.prove()
    assert (made.facts.found, made.facts.checked_at, made.facts.fault) == (told[0], NOW, None)
    assert told[0].ok
    assert not made.is_due


@pytest.mark.parametrize("limit", ["the page's", "a statement's"])
async def test_one_that_takes_too_long_is_not_begun_again_at_once(
    conninfo: str, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Else a large ledger would be read without end while a page is open."""
    own = "" if limit == "the page's" else " -c statement_timeout=200"
    options = psycopg.conninfo.conninfo_to_dict(conninfo)["options"]
    pool = Pool(psycopg.conninfo.make_conninfo(conninfo, options=f"{options}{own}"))
    monkeypatch.setattr(proving, "LIMIT_S", 30.0 if own else 0.2)
    monkeypatch.setattr(proving, "AGAIN_S", 0.0)
    made = Proving(pool, lambda: NOW, lambda _: pytest.fail("nothing was proven"))
    async with conn.transaction():
        await conn.run("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        await made.prove()
    await pool.aclose()
    assert made.facts.fault is not None
    assert "takes too long" in made.facts.fault
    assert not made.is_due
