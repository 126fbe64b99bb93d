"""Devices in PostgreSQL: known by their tokens, wherever they are."""

from psycopg import sql
import pytest

from opendesk.network.hotspots import devices
from opendesk.network.hotspots.errors import DeviceNotFound, RouterMismatch
from opendesk.network.hotspots.place import Place
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.rental.racing import at_once

HERE = Place("10.5.50.12", "AA:BB:CC:DD:EE:0A")


def at(n: int) -> Place:
    return Place(f"10.5.51.{n}", f"AA:BB:CC:DD:EF:{n:02X}")


async def hello(
    conn: TrioConnection, place: Place = HERE, token: str | None = "known", router: str = "r1", agent: str | None = None
) -> str:
    return await devices.hello(conn, router, place, token, agent, "new")


@pytest.fixture
async def known(conn: TrioConnection) -> str:
    return await devices.hello(conn, "r1", HERE, None, "Phone", "known")


async def test_without_a_token_one_is_made(conn: TrioConnection) -> None:
    assert await hello(conn, token=None) == "new"
    found = await devices.find(conn, "new", "r1")
    assert (found.place, found.addresses) == (HERE, (HERE,))


async def test_the_token_itself_is_nowhere(conn: TrioConnection, known: str) -> None:
    rows = await conn.fetch("SELECT d::text FROM hotspot_devices d")
    assert len(rows) == 1
    assert known not in str(rows)


async def test_a_device_that_greets_is_where_it_greets_from(conn: TrioConnection, known: str) -> None:
    assert await hello(conn, at(1)) == known
    found = await devices.find(conn, known, "r1")
    assert (found.place, found.addresses) == (at(1), (HERE, at(1)))


async def test_the_same_place_again_is_told_once(conn: TrioConnection, known: str) -> None:
    await hello(conn)
    await hello(conn)
    assert (await devices.find(conn, known, "r1")).addresses == (HERE,)


async def test_the_last_twenty_places_are_kept(conn: TrioConnection, known: str) -> None:
    for n in range(1, 31):
        await hello(conn, at(n))
    assert (await devices.find(conn, known, "r1")).addresses == tuple(at(n) for n in range(11, 31))


@pytest.mark.parametrize("token", ["unknown", "", "k" * 10_000, "'; --", "\udcff"])
async def test_an_unknown_token_is_told_so(conn: TrioConnection, known: str, token: str) -> None:
    with pytest.raises(DeviceNotFound):
        await hello(conn, token=token)
    with pytest.raises(DeviceNotFound):
        await devices.find(conn, token, "r1")


async def test_a_token_of_another_router_changes_nothing(conn: TrioConnection, known: str) -> None:
    with pytest.raises(RouterMismatch):
        await hello(conn, at(1), router="r2")
    with pytest.raises(RouterMismatch):
        await devices.find(conn, known, "r2")
    assert (await devices.find(conn, known, "r1")).place == HERE


async def test_a_browser_of_many_words_is_cut_short(conn: TrioConnection, known: str) -> None:
    await hello(conn, agent="x" * 5000)
    await hello(conn, agent=None)
    assert await conn.fetch_one("SELECT length(user_agent) FROM hotspot_devices") == (devices.USER_AGENT_LENGTH,)


async def test_of_many_greetings_at_once_none_is_lost(pool: Pool, conn: TrioConnection, known: str) -> None:
    places = [at(n) for n in range(1, 9)]
    assert await at_once(pool, [lambda c, p=place: hello(c, p) for place in places]) == [known] * 8  # type: ignore[misc]
    found = await devices.find(conn, known, "r1")
    assert set(found.addresses) == {HERE, *places}
    assert found.addresses[-1] == found.place


async def test_a_greeting_is_found_by_its_index_however_many_there_are(conn: TrioConnection, known: str) -> None:
    await conn.run("""
        INSERT INTO hotspot_devices (token_hash, router_id, ip, mac, addresses)
        SELECT sha256(n::text::bytea), 'r1', '10.5.50.1', 'aa:bb:cc:dd:ee:ff', '[]' FROM generate_series(1, 5000) n
    """)
    await conn.run("ANALYZE hotspot_devices")
    values = {"hash": b"x" * 32, "router": "r1", "ip": HERE.ip, "mac": HERE.mac, "user_agent": None}
    async with conn.cursor() as cursor:
        await cursor.execute(sql.SQL("EXPLAIN " + devices._GREET), values)
        plan = " ".join([row[0] async for row in cursor])
    assert "Seq Scan" not in plan
