"""What the database reckons by itself is what the program reckons: prices and ids."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import psycopg
import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.money import price

HIGHEST_PRICE, LONGEST = 10_000_000, 240

swept = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
offers = st.tuples(
    st.one_of(st.integers(0, HIGHEST_PRICE), st.integers(0, 130)), st.one_of(st.integers(1, LONGEST), st.just(30))
)


@swept
@given(st.lists(offers, min_size=1, max_size=200))
def test_the_databases_price_is_the_programs(conninfo: str, asked: list[tuple[int, int]]) -> None:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        query = "SELECT opendesk.price(p, m) FROM unnest(%s::bigint[], %s::int[]) WITH ORDINALITY AS offer (p, m, n) ORDER BY n"
        rows = conn.execute(query, ([p for p, _ in asked], [m for _, m in asked])).fetchall()
    assert [row[0] for row in rows] == [price(p, m) for p, m in asked]


async def test_every_small_price_is_the_programs(conn: TrioConnection) -> None:
    query = "SELECT p, m, opendesk.price(p, m) FROM generate_series(0, 130) AS p, generate_series(1, 240) AS m"
    assert [row for row in await conn.fetch(query) if row[2] != price(row[0], row[1])] == []


async def test_a_price_of_nothing_known_is_not_known(conn: TrioConnection) -> None:
    assert await conn.fetch_one("SELECT opendesk.price(NULL, 1), opendesk.price(1, NULL)") == (None, None)


async def made(conn: TrioConnection, count: int) -> list[UUID]:
    return [row[0] for row in await conn.fetch(f"SELECT opendesk.uuid7() FROM generate_series(1, {count})")]


async def test_ids_are_uuids_of_version_7(conn: TrioConnection) -> None:
    ids = await made(conn, 500)
    assert {(one.version, one.variant) for one in ids} == {(7, RFC_4122)}
    assert len(set(ids)) == 500


async def test_ids_come_in_the_order_of_time(conn: TrioConnection) -> None:
    """To the microsecond: 60 bits tell the time. What is made within one has no order."""
    stamps = [(one.int >> 80, (one.int >> 64) & 0xFFF) for one in await made(conn, 2000)]
    assert stamps == sorted(stamps)


async def test_an_id_tells_when_it_was_made(conn: TrioConnection) -> None:
    row = await conn.fetch_one("SELECT clock_timestamp(), opendesk.uuid7(), clock_timestamp()")
    assert row is not None
    before, one, after = row
    microseconds = (one.int >> 80) * 1000 + ((one.int >> 64) & 0xFFF) * 1000 / 4096
    told = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    slack = timedelta(microseconds=1)
    assert before - slack <= told <= after + slack


@pytest.mark.parametrize("us", [0, 1, 999, 500])
async def test_the_fraction_of_the_millisecond_fits_its_twelve_bits(conn: TrioConnection, us: int) -> None:
    row = await conn.fetch_one("SELECT lpad(to_hex(%s %% 1000 * 4096 / 1000), 3, '0')", (us,))
    assert row is not None
    assert int(row[0], 16) == us * 4096 // 1000 < 4096
