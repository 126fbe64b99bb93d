"""The pipeline that answers a call, with a database that is made up."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
import json
from typing import Any
from uuid import UUID

from attrs import define, evolve, frozen
import psycopg
import pytest
from structlog.testing import capture_logs
import trio

from opendesk.errors import Forbidden, NotFound, OpenDeskError, Overloaded
from opendesk.ops.metrics import Metrics
from opendesk.web.auth import Caller, Claims, Tokens, utc_now
from opendesk.web.endpoint import CALLS_OF_ONE, Access, Answer, Api, Call, Endpoint, Reply, WebRequest
from opendesk.web.responder import CALL_S, MethodNotAllowed, Origins, Proxies, Responder

ANA = Caller(UUID(int=1), "CLIENT", None)
ROOT = Caller(UUID(int=2), "ADMIN", None)
TOKENS = Tokens(b"a secret of these tests, long enough", timedelta(hours=1))
REQUEST = WebRequest("POST", "/things", (), {}, b"", "203.0.113.1", "the-id")


@frozen
class Thing:
    name: str


@define
class FakePool:
    """Its connections are nothing; what they fail with is told."""

    error: Exception | None = None
    lent: int = 0
    # As when all are lent, and one has to wait for one of them.
    free: trio.Event | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        self.lent += 1
        if self.error is not None:
            raise self.error
        if self.free is not None:
            await self.free.wait()
        yield None


@define
class Desk:
    pool: FakePool
    responder: Responder
    asked: list[Claims]

    async def answer(self, endpoint: Endpoint, request: WebRequest = REQUEST, **ids: str) -> Reply:
        return await self.responder.respond(endpoint, request, ids)


def desk(*known: Caller, error: Exception | None = None) -> Desk:
    asked: list[Claims] = []

    async def find_caller(_: Any, claims: Claims) -> Caller | None:
        asked.append(claims)
        return {caller.id: caller for caller in known}.get(claims.user_id)

    pool: Any = FakePool(error)
    responder = Responder(Api(pool, TOKENS, find_caller), Origins(frozenset()), Proxies(()), Metrics())
    return Desk(pool, responder, asked)


async def thing(call: Call, _: Any = None) -> Answer:
    return Answer(call.body or Thing("none"), 201)


def by(caller: Caller, request: WebRequest = REQUEST, **changes: Any) -> WebRequest:
    token = TOKENS.issue(caller.id, caller.role, 1, now=utc_now())
    return evolve(request, headers={"authorization": f"Bearer {token}"}, **changes)


def told(reply: Reply) -> tuple[int, str]:
    assert reply.content_type == "application/problem+json"
    body = json.loads(reply.body)
    assert (body["status"], body["traceId"]) == (reply.status, "the-id")
    return body["status"], body["code"]


UNIT = Endpoint("POST", "/things", "Make a thing", {201: Thing}, unit=thing, body=Thing)
HANDLER = Endpoint("POST", "/things", "Make a thing", {201: Thing}, handler=thing, body=Thing)
BOTH = pytest.mark.parametrize("endpoint", [UNIT, HANDLER])
GOOD = b'{"name": "x"}'


@BOTH
async def test_what_fits_is_answered(endpoint: Endpoint) -> None:
    reply = await desk(ANA).answer(endpoint, by(ANA, body=GOOD))
    assert (reply.status, reply.body, reply.content_type) == (201, b'{"name":"x"}', "application/json")
    assert dict(reply.headers) == {"X-Request-ID": "the-id"}


@BOTH
async def test_who_comes_before_what(endpoint: Endpoint) -> None:
    """A stranger learns nothing of what would fit."""
    made = desk(ANA)
    for request in (REQUEST, by(ROOT), evolve(REQUEST, headers={"authorization": "Bearer x"})):
        assert told(await made.answer(endpoint, evolve(request, body=b"nonsense"))) == (401, "UNAUTHENTICATED")
    assert told(await made.answer(evolve(endpoint, access=Access.ADMIN), by(ANA, body=b"nonsense"))) == (
        403,
        "FORBIDDEN",
    )
    assert told(await made.answer(endpoint, by(ANA, body=b"nonsense"))) == (400, "INVALID_JSON")


@BOTH
async def test_a_bad_token_costs_no_connection(endpoint: Endpoint) -> None:
    made = desk(ANA)
    await made.answer(endpoint)
    await made.answer(endpoint, evolve(REQUEST, headers={"authorization": "Bearer x.y.z"}))
    assert made.pool.lent == 0


@BOTH
@pytest.mark.parametrize(("caller", "status"), [(ANA, 403), (ROOT, 201)])
async def test_what_is_for_admins_is_for_admins(endpoint: Endpoint, caller: Caller, status: int) -> None:
    reply = await desk(ANA, ROOT).answer(evolve(endpoint, access=Access.ADMIN), by(caller, body=GOOD))
    assert reply.status == status


@BOTH
async def test_what_is_for_anyone_looks_at_no_token(endpoint: Endpoint) -> None:
    made = desk()
    reply = await made.answer(evolve(endpoint, access=Access.ANYONE), by(ANA, body=GOOD))
    assert (reply.status, made.asked) == (201, [])


async def test_a_hot_call_looks_its_user_up_itself() -> None:
    made = desk()
    reply = await made.answer(evolve(HANDLER, hot=True), by(ANA, body=GOOD))
    assert (reply.status, made.asked, made.pool.lent) == (201, [], 0)


@BOTH
async def test_ids_that_are_none_name_nothing(endpoint: Endpoint) -> None:
    made = desk(ANA)
    for text in ("x", "", "0" * 32, "{00000000-0000-0000-0000-000000000001}"):
        assert told(await made.answer(endpoint, by(ANA, body=GOOD), id=text)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("method", "status"), [("POST", 400), ("PUT", 400), ("GET", 201), ("DELETE", 201)])
async def test_only_some_methods_have_bodies(method: str, status: int) -> None:
    endpoint = evolve(UNIT, method=method, body=None)
    assert (await desk(ANA).answer(endpoint, by(ANA, body=b"nonsense"))).status == status
    for body in (b"", b" ", b"{}"):
        assert (await desk(ANA).answer(endpoint, by(ANA, body=body))).status == 201


async def test_an_optional_body_may_be_empty() -> None:
    @frozen
    class Option:
        name: str = "unnamed"

    endpoint = evolve(UNIT, body=Option, body_optional=True)
    for body, name in [(b"", "unnamed"), (b"{}", "unnamed"), (b'{"name": "x"}', "x")]:
        assert json.loads((await desk(ANA).answer(endpoint, by(ANA, body=body))).body) == {"name": name}


async def test_an_answer_of_nothing_has_no_body() -> None:
    async def nothing(_: Call, __: Any = None) -> Answer:
        return Answer(status=204)

    for endpoint in (evolve(UNIT, unit=nothing, body=None), evolve(HANDLER, handler=nothing, body=None)):
        reply = await desk(ANA).answer(endpoint, by(ANA))
        assert (reply.status, reply.body) == (204, b"")


# Shares


@BOTH
async def test_one_address_takes_no_more_than_its_share_of_the_database(endpoint: Endpoint) -> None:
    made, replies = desk(ANA), list[Reply]()
    made.pool.free = trio.Event()
    good = by(ANA, body=GOOD)

    async def one(request: WebRequest = good) -> None:
        replies.append(await made.answer(endpoint, request))

    async with trio.open_nursery() as nursery:
        for _ in range(CALLS_OF_ONE):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        refused = await made.answer(endpoint, good)
        assert (told(refused), dict(refused.headers)["Retry-After"]) == ((503, "OVERLOADED"), "1")
        nursery.start_soon(one, evolve(good, address="203.0.113.2"))
        await trio.testing.wait_all_tasks_blocked()
        assert made.pool.lent == CALLS_OF_ONE + 1
        assert (await made.answer(evolve(HANDLER, hot=True), good)).status == 201
        made.pool.free.set()
    assert [reply.status for reply in replies] == [201] * (CALLS_OF_ONE + 1)
    assert (await made.answer(endpoint, good)).status == 201


# When it fails


def failing(error: BaseException) -> Callable[[Call], Any]:
    async def fail(_: Call) -> Answer:
        raise error

    return fail


async def forever(_: Call) -> Answer:
    await trio.sleep_forever()


async def failed(error: BaseException) -> tuple[Reply, list[Any]]:
    endpoint = evolve(HANDLER, handler=failing(error), body=None, access=Access.ANYONE)
    with capture_logs() as logs:
        return await desk().answer(endpoint), logs


async def test_what_nobody_expected_is_told_to_the_log_and_not_to_the_caller() -> None:
    error = RuntimeError("SELECT secret FROM hush")
    reply, logs = await failed(error)
    assert told(reply) == (500, "INTERNAL")
    assert b"hush" not in reply.body
    assert b"RuntimeError" not in reply.body
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["traceId"], line["exc_info"]) == ("http.failed", "the-id", error)


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("at 10.0.0.1"), psycopg.InterfaceError("the connection is closed")]
)
async def test_a_database_that_is_away_is_503(error: Exception) -> None:
    reply, logs = await failed(error)
    assert told(reply) == (503, "DATABASE_UNAVAILABLE")
    assert dict(reply.headers)["Retry-After"] == "5"
    assert b"10.0.0.1" not in reply.body
    assert [line["log_level"] for line in logs if line["event"] == "http.unavailable"] == ["warning"]
    assert told(await desk(ANA, error=error).answer(UNIT, by(ANA, body=GOOD))) == (503, "DATABASE_UNAVAILABLE")


async def test_of_many_who_are_told_so_the_log_has_one_line_a_minute_for_each_route_and_code(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made = desk()

    async def answer(error: Exception, path: str) -> None:
        await made.answer(evolve(HANDLER, path=path, handler=failing(error), body=None, access=Access.ANYONE))

    async def flood() -> list[tuple[str, str, int]]:
        with capture_logs() as logs:
            for error in [Overloaded()] * 9 + [psycopg.OperationalError()] * 3:
                await answer(error, "/things")
            await answer(Overloaded(), "/others")
        warnings = [line for line in logs if line["event"] == "http.unavailable"]
        return [(line["route"], line["error"].partition("(")[0], line["unsaid"]) for line in warnings]

    first = [("/things", "Overloaded", 0), ("/things", "OperationalError", 0), ("/others", "Overloaded", 0)]
    assert [await flood(), await flood()] == [first, []]
    await trio.sleep(60)
    assert await flood() == [
        ("/things", "Overloaded", 17),
        ("/things", "OperationalError", 5),
        ("/others", "Overloaded", 1),
    ]


@pytest.mark.parametrize("error", [Forbidden("no"), NotFound(), OpenDeskError("odd")])
async def test_an_expected_error_is_told_and_logged_as_no_error(error: OpenDeskError) -> None:
    reply, logs = await failed(error)
    assert told(reply) == (error.status, error.code)
    assert json.loads(reply.body)["detail"] == error.detail
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_being_cancelled_is_no_error() -> None:
    endpoint = evolve(HANDLER, handler=forever, body=None, access=Access.ANYONE)
    with trio.CancelScope() as scope:
        scope.cancel()
        await desk().answer(endpoint)
    assert scope.cancelled_caught


async def test_a_call_that_takes_too_long_is_503(autojump_clock: trio.testing.MockClock) -> None:
    endpoint = evolve(HANDLER, handler=forever, body=None, access=Access.ANYONE)
    begun_s = trio.current_time()
    reply = await desk().answer(endpoint)
    assert told(reply) == (503, "DATABASE_UNAVAILABLE")
    assert dict(reply.headers)["Retry-After"] == "5"
    assert trio.current_time() - begun_s == pytest.approx(CALL_S)


async def test_a_call_that_waits_for_a_batch_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(_: Call) -> Answer:
        await trio.sleep(CALL_S + 1)
        return Answer(Thing("late"))

    endpoint = evolve(HANDLER, handler=slow, body=None, access=Access.ANYONE, hot=True)
    assert (await desk().answer(endpoint)).status == 200


async def test_a_call_that_waits_for_something_slower_has_a_limit_of_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    endpoint = evolve(HANDLER, handler=forever, body=None, access=Access.ANYONE, limit_s=CALL_S + 10)
    begun_s = trio.current_time()
    assert told(await desk().answer(endpoint)) == (503, "DATABASE_UNAVAILABLE")
    assert trio.current_time() - begun_s == pytest.approx(CALL_S + 10)


# Calls of programs

PROGRAMS = pytest.mark.parametrize("access", [Access.RELAY, Access.INTERNAL])


@BOTH
@PROGRAMS
async def test_what_is_for_programs_asks_for_no_user(endpoint: Endpoint, access: Access) -> None:
    made, asked = desk(), list[tuple[WebRequest, Access]]()

    async def admit(request: WebRequest, kind: Access) -> None:
        asked.append((request, kind))

    made.responder.api.admit_program = admit
    request = evolve(REQUEST, body=GOOD)
    assert (await made.answer(evolve(endpoint, access=access), request)).status == 201
    assert (asked, made.asked) == ([(request, access)], [])


@BOTH
@PROGRAMS
async def test_a_program_that_may_not_is_refused_before_anything_else(endpoint: Endpoint, access: Access) -> None:
    made = desk()

    async def refuse(_: WebRequest, __: Access) -> None:
        raise Forbidden

    made.responder.api.admit_program = refuse
    for request in (REQUEST, evolve(REQUEST, body=b"nonsense"), by(ROOT)):
        assert told(await made.answer(evolve(endpoint, access=access), request)) == (403, "FORBIDDEN")
    assert made.pool.lent == 0


@BOTH
@PROGRAMS
async def test_of_an_api_that_asks_nobody_no_program_may_call(endpoint: Endpoint, access: Access) -> None:
    reply = await desk(ROOT).answer(evolve(endpoint, access=access), by(ROOT, body=GOOD))
    assert told(reply) == (503, "NETWORK_API_DISABLED")
    assert int(dict(reply.headers)["Retry-After"]) > 0


@BOTH
async def test_what_does_not_fit_is_400_for_programs(endpoint: Endpoint) -> None:
    made = desk(ANA)

    async def admit(_: WebRequest, __: Access) -> None:
        return

    made.responder.api.admit_program = admit
    reply = await made.answer(evolve(endpoint, access=Access.RELAY), evolve(REQUEST, body=b"{}"))
    assert (told(reply), json.loads(reply.body)["errors"]) == (
        (400, "VALIDATION_FAILED"),
        [{"pointer": "/name", "detail": "is missing"}],
    )
    assert told(await made.answer(endpoint, by(ANA, body=b"{}"))) == (422, "VALIDATION_FAILED")


async def test_a_refusal_counts_and_has_its_headers() -> None:
    made = desk()
    reply = await made.responder.refuse(REQUEST, MethodNotAllowed("GET, HEAD"))
    assert told(reply) == (405, "METHOD_NOT_ALLOWED")
    assert dict(reply.headers)["Allow"] == "GET, HEAD"
    figures = made.responder.metrics.render().decode()
    assert 'opendesk_http_requests_total{method="POST",route="unmatched",status="405"} 1.0' in figures


async def test_what_is_tried_again_is_counted_once_and_what_fails_never() -> None:
    """A unit may run several times; what it says is to be counted counts when it is committed."""
    counted, fails = list[str](), [psycopg.errors.DeadlockDetected("again"), None, Forbidden()]

    async def unit(_: Call, __: Any) -> Answer:
        if (error := fails.pop(0)) is not None:
            raise error
        return Answer(Thing("made"), 201, lambda: counted.append("made"))

    made, endpoint = desk(ANA), evolve(UNIT, unit=unit)
    assert (await made.answer(endpoint, by(ANA, body=GOOD))).status == 201
    assert counted == ["made"]
    assert told(await made.answer(endpoint, by(ANA, body=GOOD))) == (403, "FORBIDDEN")
    assert counted == ["made"]
