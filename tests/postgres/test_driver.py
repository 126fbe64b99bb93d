"""Statements: what they give back, how they fail, and connections that end."""

from contextlib import suppress
import tracemalloc
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid4

from attrs import frozen
import psycopg
from psycopg import errors as e
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.statements import MAX_QUERIES
from tests.postgres.lending import SLOW, Eventually, Gate, Look, Running, Usable


@frozen
class Thing:
    i: int
    s: str


@frozen(kw_only=True)
class Keywords:
    i: int
    s: str


class Pair(NamedTuple):
    i: int
    s: str


async def test_fetch_gives_rows_as_tuples_dicts_and_values(conn: TrioConnection) -> None:
    query, params = "SELECT %(i)s::int AS i, %(s)s AS s", {"i": 3, "s": "três"}
    assert await conn.fetch(query, params) == [(3, "três")]
    assert await conn.fetch(query, params, row=dict) == [{"i": 3, "s": "três"}]
    assert await conn.fetch(query, params, row=Thing) == [Thing(3, "três")]
    assert await conn.fetch_one(query, params, row=Pair) == Pair(3, "três")
    assert await conn.fetch_one(query, params) == (3, "três")
    swapped = "SELECT %(s)s AS s, %(i)s::int AS i"
    assert await conn.fetch(swapped, params, row=Thing) == [Thing(3, "três")]
    assert await conn.fetch(swapped, params, row=Keywords) == [Keywords(i=3, s="três")]
    assert await conn.fetch_one("SELECT 1 WHERE false") is None
    assert await conn.fetch("SELECT i FROM generate_series(1, 3) i") == [(1,), (2,), (3,)]


async def test_run_tells_how_many_rows_it_changed(conn: TrioConnection, table: str) -> None:
    assert await conn.run("INSERT INTO things SELECT i, 'x' FROM generate_series(1, 5) i") == 5
    assert await conn.run("UPDATE things SET s = %s WHERE i > %s", ("y", 3)) == 2
    assert await conn.run("DELETE FROM things WHERE i = 99") == 0
    assert await conn.run("CREATE TABLE more ()") == 0
    assert await conn.fetch("INSERT INTO things VALUES (6, 'z')") == []
    assert await conn.fetch("") == []


async def test_fetch_and_cursors_agree_on_every_type(conn: TrioConnection) -> None:
    values = [None, True, 2**40, 1.5, "é", b"\0\xff", uuid4(), [1, 2], ["a", None]]
    types = ["int", "bool", "bigint", "float8", "text", "bytea", "uuid", "int[]", "text[]"]
    query = "SELECT " + ", ".join(f"%s::{name}" for name in types) + ", now(), '{\"a\": 1}'::jsonb, 0.10::numeric"
    async with conn.transaction():  # now() stands still
        for _ in range(7):  # before and after it is prepared
            cursor = await conn.execute(query.encode(), values)
            assert await conn.fetch(query, values) == await cursor.fetchall()


async def test_a_query_without_parameters_may_hold_percent_signs(conn: TrioConnection) -> None:
    assert await conn.fetch("SELECT 'a%sb' LIKE 'a%'") == [(True,)]
    assert await conn.fetch("SELECT 5 %% %s", (3,)) == [(2,)]
    assert await conn.fetch(b"SELECT 5 % 3") == [(2,)]
    query = "SELECT 'a%%'"
    assert await conn.fetch(query, ()) == [("a%",)]
    assert await conn.fetch(query) == [("a%%",)]
    assert await conn.fetch(query, ()) == [("a%",)]


async def test_fetch_prepares_what_is_run_often_and_again_after_a_rollback(conn: TrioConnection) -> None:
    query = "SELECT %s::int + 1"
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%+ 1' AND %s"
    for i in range(8):
        assert await conn.fetch(query, (i,)) == [(i + 1,)]
    assert await conn.fetch(prepared, (True,)) == [(1,)]
    with suppress(ZeroDivisionError):
        async with conn.transaction():
            await conn.fetch(query, (1,))
            raise ZeroDivisionError
    assert await conn.fetch(prepared, (True,)) == [(0,)]
    for i in range(8):
        assert await conn.fetch(query, (i,)) == [(i + 1,)]
    assert await conn.fetch(prepared, (True,)) == [(1,)]


async def test_one_query_with_other_parameter_types_is_another_statement(conn: TrioConnection) -> None:
    for value in (1, "1", None, 2**40, UUID(int=1), 1) * 7:
        assert await conn.fetch("SELECT %s::text", (value,)) == [(None if value is None else str(value),)]


async def test_queries_made_at_run_time_do_not_pile_up(conn: TrioConnection) -> None:
    for i in range(MAX_QUERIES * 2 + 10):
        assert await conn.fetch(f"SELECT %s::int + {i}", (1,)) == [(i + 1,)]
    assert conn._statements is not None
    assert len(conn._statements._queries) <= MAX_QUERIES
    assert conn._statements._tx.pgresult is None
    conn.prepare_threshold = 0
    conn.prepared_max = 3
    for i in range(10):
        await conn.fetch(f"SELECT {i} AS few")
    assert await conn.fetch("SELECT count(*) < 6 FROM pg_prepared_statements WHERE statement LIKE '%few'") == [(True,)]


async def test_a_failed_statement_says_why_and_leaves_the_connection_usable(
    conn: TrioConnection, table: str, is_usable: Usable
) -> None:
    for _ in range(8):  # before and after it is prepared
        with pytest.raises(e.UniqueViolation) as caught:
            await conn.run("INSERT INTO things SELECT %s, 'x' FROM generate_series(1, 2)", (1,))
        assert caught.value.diag.constraint_name == "things_pkey"
    with pytest.raises(e.SyntaxError):
        await conn.fetch("SELEC 1")
    with pytest.raises(e.ProgrammingError, match="placeholders"):
        await conn.fetch("SELECT %s", ())
    with pytest.raises(e.ProgrammingError, match="cannot adapt"):
        await conn.fetch("SELECT %s", (object(),))
    with pytest.raises(TypeError):
        await conn.fetch("SELECT 1 AS nothing_of_the_sort", row=Thing)
    assert await is_usable(conn)


async def test_fetch_begins_a_transaction_when_autocommit_is_off(conninfo: str, look: Look) -> None:
    async with await TrioConnection.connect(conninfo) as conn:
        await conn.fetch("CREATE TABLE made ()")
        assert conn.pgconn.transaction_status == TransactionStatus.INTRANS
        assert look("SELECT count(*) FROM pg_class WHERE relname = 'made'") == [0]
    assert look("SELECT count(*) FROM pg_class WHERE relname = 'made'") == [1]


async def test_large_parameters_go_both_ways(conn: TrioConnection) -> None:
    big = "x" * 5_000_000
    assert await conn.fetch("SELECT %s::text", (big,)) == [(big,)]
    assert await conn.fetch("SELECT %s::bytea", (big.encode(),)) == [(big.encode(),)]


@pytest.mark.parametrize("times", [1, 10], ids=["unprepared", "prepared"])
async def test_parameters_are_not_kept_once_sent(conn: TrioConnection, times: int) -> None:
    tracemalloc.start()
    try:
        for _ in range(times):
            await conn.run("SELECT length(%s::text)", ("x" * 5_000_000,))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_a_cursor_has_adapters_of_its_own_once_asked(conn: TrioConnection) -> None:
    class Shouting(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return bytes(data).decode().upper()

    class Counting(psycopg.adapt.Dumper):
        oid = psycopg.adapters.types["text"].oid

        def dump(self, obj: Any) -> bytes:
            return b"%d sheep" % obj

    cursor = conn.cursor()
    await cursor.execute("SELECT 'a'::text")
    cursor.adapters.register_loader("text", Shouting)
    assert await cursor.fetchall() == [("A",)]  # even what it has read already
    await cursor.execute("SELECT 'b'::text")
    assert await cursor.fetchall() == [("B",)]
    query, cursor = "SELECT %s", conn.cursor()
    await cursor.execute(query, (1,))
    cursor.adapters.register_dumper(int, Counting)
    await cursor.execute(query, (1,))
    assert await cursor.fetchall() == [("1 sheep",)]
    other = await conn.execute("SELECT 'c'::text")
    assert await other.fetchall() == [("c",)]


async def test_a_connection_takes_psycopgs_row_factories(conninfo: str) -> None:
    conn = await TrioConnection.connect(conninfo, row_factory=cast("Any", dict_row), autocommit=True)
    cursor = await conn.execute("SELECT 1 AS one")
    assert await cursor.fetchall() == [{"one": 1}]
    await conn.close()


# Connections that end


async def test_a_terminated_session_fails_its_statement(
    conn: TrioConnection, running: Running, eventually: Eventually, look: Look
) -> None:
    async def terminate() -> None:
        await eventually(running)
        look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    assert not conn.hung_up()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminate)
        with pytest.raises(e.AdminShutdown):
            await conn.fetch(SLOW)
    assert conn.broken
    assert conn.hung_up()
    with pytest.raises(e.OperationalError):
        await conn.execute("SELECT 1")


async def test_a_session_ended_while_idle_shows_without_asking_the_server(
    conn: TrioConnection, look: Look, eventually: Eventually
) -> None:
    look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    async def hung_up() -> bool:
        return conn.hung_up()

    await eventually(hung_up)


async def test_a_servers_last_words_show_that_it_is_gone_before_the_socket_does(
    gate: Gate, look: Look, eventually: Eventually
) -> None:
    gate.hides_ends = True
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(conn.fileno())
    assert conn.hung_up()
    assert not conn.closed
    await conn.close()


async def test_closing_a_connection_fails_the_task_that_waits_on_it(
    conn: TrioConnection, running: Running, eventually: Eventually
) -> None:
    async def close() -> None:
        await eventually(running)
        await conn.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(e.OperationalError):
            await conn.fetch(SLOW)
    assert conn.closed
    assert not conn.broken
    await conn.close()


async def test_cancel_safe_stops_another_tasks_statement(
    conn: TrioConnection, running: Running, eventually: Eventually, is_usable: Usable
) -> None:
    async def cancel() -> None:
        await eventually(running)
        await conn.cancel_safe()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with pytest.raises(e.QueryCanceled):
            await conn.fetch(SLOW)
    assert await is_usable(conn)


async def test_a_cancel_request_without_an_answer_times_out(gate: Gate) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.hold()
    with pytest.raises(e.CancellationTimeout):
        await conn.cancel_safe(timeout=0.02)
    await conn.close()
    await conn.cancel_safe()  # nothing to cancel
