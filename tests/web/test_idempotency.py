"""Idempotency keys on PostgreSQL: an effect happens once, whoever asks how often, and a crash leaves neither answer nor effect."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from attrs import define, field
import psycopg
import pytest
import trio

from opendesk.errors import Forbidden, IdempotencyInProgress, IdempotencyKeyReused, OpenDeskError, ValidationFailed
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import users
from opendesk.web.idempotency import Guard, StoredAnswer, forget_old_keys

ANSWER = StoredAnswer(201, b'{"made":1}')
DEADLINE_S = 30


@pytest.fixture
async def caller(conn: TrioConnection) -> UUID:
    return await make_caller(conn)


async def make_caller(conn: TrioConnection) -> UUID:
    name = uuid4().hex[:30]
    account = await users.add(
        conn, email=f"{name}@example.org", username=name, display_name=None, role="CLIENT", password_hash="-"
    )
    await conn.run("CREATE TABLE IF NOT EXISTS effects (n serial)")
    return account.id


def guard(
    caller: UUID, key: str = "key", *, method: str = "POST", path: str = "/sessions", body: bytes = b"{}"
) -> Guard:
    return Guard.of(caller, key, method, path, body)


def effect(conn: TrioConnection, answer: StoredAnswer = ANSWER) -> Callable[[], Awaitable[StoredAnswer]]:
    async def unit() -> StoredAnswer:
        await conn.run("INSERT INTO effects DEFAULT VALUES")
        return answer

    return unit


async def effects(conn: TrioConnection) -> int:
    row = await conn.fetch_one("SELECT count(*) FROM effects")
    assert row is not None
    count: int = row[0]
    return count


async def keys(conn: TrioConnection) -> int:
    row = await conn.fetch_one("SELECT count(*) FROM idempotency_keys")
    assert row is not None
    count: int = row[0]
    return count


async def test_a_repeat_gets_the_stored_answer_and_has_no_effect(conn: TrioConnection, caller: UUID) -> None:
    assert await guard(caller).run(conn, effect(conn)) == ANSWER
    again = await guard(caller).run(conn, effect(conn, StoredAnswer(200, b"other")))
    assert again == StoredAnswer(201, ANSWER.body, replayed=True)
    assert await effects(conn) == 1


async def test_an_answer_without_a_body_is_stored_as_one(conn: TrioConnection, caller: UUID) -> None:
    await guard(caller).run(conn, effect(conn, StoredAnswer(204, b"")))
    assert await guard(caller).run(conn, effect(conn)) == StoredAnswer(204, b"", replayed=True)


@pytest.mark.parametrize("other", [{"body": b"{ }"}, {"path": "/sessions/2"}, {"method": "PUT"}])
async def test_the_same_key_for_something_else_is_refused(
    conn: TrioConnection, caller: UUID, other: dict[str, bytes | str]
) -> None:
    await guard(caller).run(conn, effect(conn))
    with pytest.raises(IdempotencyKeyReused):
        await guard(caller, **other).run(conn, effect(conn))  # type: ignore[arg-type]  # each has its type
    assert await effects(conn) == 1


async def test_a_key_is_its_callers_own(conn: TrioConnection, caller: UUID) -> None:
    await guard(caller).run(conn, effect(conn))
    other = await guard(await make_caller(conn)).run(conn, effect(conn))
    assert not other.replayed
    assert await effects(conn) == 2


async def test_path_and_body_do_not_run_into_each_other(conn: TrioConnection, caller: UUID) -> None:
    assert guard(caller, path="/a", body=b"b").fingerprint != guard(caller, path="/ab", body=b"").fingerprint


async def test_what_fails_is_not_stored_and_may_be_tried_again(conn: TrioConnection, caller: UUID) -> None:
    async def fail() -> StoredAnswer:
        await effect(conn)()
        raise Forbidden

    with pytest.raises(Forbidden):
        await guard(caller).run(conn, fail)
    assert (await keys(conn), await effects(conn)) == (0, 0)
    assert await guard(caller).run(conn, effect(conn)) == ANSWER


async def test_what_the_database_refuses_is_not_stored_and_may_be_tried_again(
    conn: TrioConnection, caller: UUID
) -> None:
    async def fail() -> StoredAnswer:
        await conn.run("SELECT 1 / 0")
        return ANSWER

    with pytest.raises(psycopg.errors.DivisionByZero):
        await guard(caller).run(conn, fail)
    assert await guard(caller).run(conn, effect(conn)) == ANSWER


@define
class Held:
    """A unit that waits in the middle of its work."""

    begun: trio.Event = field(factory=trio.Event)
    go_on: trio.Event = field(factory=trio.Event)

    def of(self, conn: TrioConnection) -> Callable[[], Awaitable[StoredAnswer]]:
        async def unit() -> StoredAnswer:
            await effect(conn)()
            self.begun.set()
            await self.go_on.wait()
            return ANSWER

        return unit


async def test_a_key_whose_first_request_still_runs_says_so(conn: TrioConnection, pool: Pool, caller: UUID) -> None:
    held = Held()
    with trio.fail_after(DEADLINE_S):
        async with pool.connection() as own, trio.open_nursery() as nursery:
            nursery.start_soon(guard(caller).run, own, held.of(own))
            await held.begun.wait()
            for body in (b"{}", b"other"):
                with pytest.raises(IdempotencyInProgress) as caught:
                    await guard(caller, body=body).run(conn, effect(conn))
                assert caught.value.retry_after_s == 1
            assert await guard(caller, "another-key").run(conn, effect(conn)) == ANSWER
            held.go_on.set()
    assert (await guard(caller).run(conn, effect(conn))).replayed
    assert await effects(conn) == 2


async def test_a_request_that_is_cancelled_leaves_nothing(conn: TrioConnection, pool: Pool, caller: UUID) -> None:
    held = Held()
    async with trio.open_nursery() as nursery, pool.connection() as own:
        nursery.start_soon(guard(caller).run, own, held.of(own))
        await held.begun.wait()
        nursery.cancel_scope.cancel()
    assert (await keys(conn), await effects(conn)) == (0, 0)
    assert await guard(caller).run(conn, effect(conn)) == ANSWER


async def test_a_crash_in_the_middle_leaves_nothing(conn: TrioConnection, pool: Pool, caller: UUID) -> None:
    """The daemon, or its connection, dies with the effect done and the answer not yet stored."""

    async def die(own: TrioConnection) -> StoredAnswer:
        await effect(own)()
        await conn.run("SELECT pg_terminate_backend(%s)", (own.info.backend_pid,))
        return ANSWER

    async with pool.connection() as own:
        with pytest.raises(psycopg.OperationalError):
            await guard(caller).run(own, lambda: die(own))
    assert (await keys(conn), await effects(conn)) == (0, 0)
    assert await guard(caller).run(conn, effect(conn)) == ANSWER


async def test_of_sixteen_at_once_one_has_the_effect(conn: TrioConnection, caller: UUID, conninfo: str) -> None:
    pool, told = Pool(conninfo, size=16), list[str]()

    async def ask(key: str) -> None:
        async with pool.connection() as own:
            try:
                answer = await guard(caller, key).run(own, effect(own))
            except OpenDeskError as refusal:
                told.append(refusal.code)
            else:
                told.append("replayed" if answer.replayed else "done")

    for turn in range(10):
        told.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(ask, f"key-{turn}")
        assert told.count("done") == 1
        assert set(told) <= {"done", "replayed", "IDEMPOTENCY_IN_PROGRESS"}
        assert await effects(conn) == turn + 1
    await pool.aclose()


async def test_a_key_is_forgotten_after_a_day(conn: TrioConnection, caller: UUID) -> None:
    await guard(caller).run(conn, effect(conn))
    await conn.run("UPDATE idempotency_keys SET created_at = created_at - interval '23 hours 59 minutes'")
    assert await forget_old_keys(conn) == 0
    await conn.run("UPDATE idempotency_keys SET created_at = created_at - interval '2 minutes'")
    assert await forget_old_keys(conn) == 1
    assert not (await guard(caller).run(conn, effect(conn))).replayed


@pytest.mark.parametrize("key", ["", "a" * 256, "with space", "tab\t", "ünï", "line\n", "\x7f"])
def test_an_odd_key_is_refused(key: str) -> None:
    with pytest.raises(ValidationFailed):
        guard(UUID(int=1), key)


@pytest.mark.parametrize("key", ["a", "a" * 255, "!~", "';DROP-TABLE-users;--", "%s"])
async def test_any_visible_key_is_taken(conn: TrioConnection, caller: UUID, key: str) -> None:
    await guard(caller, key).run(conn, effect(conn))
    assert (await guard(caller, key).run(conn, effect(conn))).replayed
