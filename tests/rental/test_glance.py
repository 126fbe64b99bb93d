"""What people who watch are told of hosts and PCs."""

from opendesk.postgres.driver import TrioConnection
from opendesk.rental import glance
from opendesk.rental.glance import Places
from tests.rental import builders


async def test_a_pc_is_online_only_with_its_host(conn: TrioConnection) -> None:
    """Who reads that no host is heard is not told of PCs that could be rented."""
    stage = await builders.set_stage(conn)
    rented = await builders.add_pc(conn, stage.host)
    await builders.make_busy(conn, rented)
    heard = Places(hosts=1, hosts_online=1, online=1, busy=1, pcs=2)
    assert await glance.places(conn, fresh_s=30) == heard
    await conn.run("UPDATE host_beats SET last_seen_at = now() - interval '1 minute'")
    assert await glance.places(conn, fresh_s=30) == Places(hosts=1, hosts_online=0, online=0, busy=1, pcs=2)


async def test_a_silent_host_with_a_session_stands_before_all_others(conn: TrioConnection) -> None:
    idle = await builders.set_stage(conn)
    stage = await builders.set_stage(conn)
    await builders.rent(conn, stage)
    await conn.run("UPDATE host_beats SET last_seen_at = now() - interval '1 minute'")
    await conn.run("UPDATE hosts SET reliability_score = 10 WHERE id = %(id)s", {"id": idle.host.id})
    seen = await glance.hosts_seen(conn, 30, 10)
    assert [(one.id, one.live) for one in seen] == [(stage.host.id, 1), (idle.host.id, 0)]
