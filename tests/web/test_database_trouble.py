"""A database that can only be read from, and one that too many wait for."""

from contextlib import AsyncExitStack

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
import pytest

from opendesk.postgres.driver import TrioConnection
from tests.web.site import PASSWORD, PC, Site, problem

AWAY = (503, "DATABASE_UNAVAILABLE")


async def demote(site: Site, conninfo: str, conn: TrioConnection) -> None:
    """As a primary is when another takes over: from now on all may read and nobody write."""
    name = sql.Identifier(str(conninfo_to_dict(conninfo)["dbname"]))
    await conn.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await conn.fetch(others)
    # The first call finds out that the connections are dead, if nobody did before; those made after them can't write.
    found_out = await site.client.get("/pcs")
    assert found_out.status_code == 200 or problem(found_out) == AWAY
    assert (await site.client.get("/pcs")).status_code == 200


async def test_a_database_that_takes_no_writes_is_away_for_those_who_write(
    site: Site, conninfo: str, conn: TrioConnection
) -> None:
    host, ana, admin = await site.host(), await site.user(), await site.admin()
    pc = await site.pc(host)
    await demote(site, conninfo, conn)
    for answer in (
        await site.client.post("/auth/login", json={"email": ana.email, "password": PASSWORD}),
        await host.post("/pcs", json=PC),
        await host.post(f"/hosts/{host.host_id}/heartbeat"),
        await ana.post("/auth/logout"),
        await ana.post("/sessions", json={"pcId": pc, "minutesPurchased": 60}, headers={"Idempotency-Key": "key"}),
        await admin.post(f"/wallets/{ana.id}/tx", json={"type": "CREDIT", "amount": 1, "reason": "TOP_UP"}),
    ):
        assert problem(answer) == AWAY, answer.request.url
        assert answer.headers["retry-after"] == "5"
    assert (await ana.get("/auth/me")).status_code == 200
    assert (await site.client.get(f"/pcs/{pc}")).status_code == 200


async def test_a_crowd_that_waits_for_the_database_is_told_so_and_not_that_it_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.pool, "_max_waiting", 0)
    async with AsyncExitStack() as lent:
        for _ in range(10):
            await lent.enter_async_context(site.pool.connection())
        answer = await site.client.get("/pcs")
        assert problem(answer) == (503, "OVERLOADED")
        assert answer.headers["retry-after"] == "1"
    assert (await site.client.get("/pcs")).status_code == 200
