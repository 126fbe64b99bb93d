"""The API's answers, as a program outside gets them."""

from collections.abc import Callable
import json

import httpx
import pytest
import trio
from trio.testing import MockClock

from opendesk.simulators.api_client import MAX_PAGES, Api, ApiError, ApiUnreachable, TooManyPages

Handler = Callable[[httpx.Request], httpx.Response]


def api_of(handler: Handler) -> Api:
    return Api(httpx.AsyncClient(base_url="http://daemon", transport=httpx.MockTransport(handler)))


async def test_a_token_and_a_key_go_with_the_request() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer t"
        assert request.headers["Idempotency-Key"] == "k"
        assert json.loads(request.content) == {"pcId": "p"}
        return httpx.Response(201, json={"ok": True}, headers={"Idempotent-Replayed": "true"})

    reply = await api_of(answer).acting_as("t").post("/sessions", {"pcId": "p"}, key="k")
    assert (reply.status, reply.body, reply.replayed) == (201, {"ok": True}, True)


async def test_an_answer_without_a_body_has_none() -> None:
    reply = await api_of(lambda _: httpx.Response(204)).call("DELETE", "/pcs/1")
    assert (reply.body, reply.replayed) == (None, False)


async def test_a_problem_is_an_exception_with_its_code() -> None:
    problem = {"code": "PC_BUSY", "detail": "The PC is taken.", "status": 409}
    with pytest.raises(ApiError) as caught:
        await api_of(lambda _: httpx.Response(409, json=problem)).post("/sessions", {})
    assert (caught.value.status, caught.value.code, caught.value.detail) == (409, "PC_BUSY", "The PC is taken.")


@pytest.mark.parametrize(("header", "wait_s"), [("7", 7), ("Fri, 31 Dec 1999 23:59:59 GMT", None), (None, None)])
async def test_how_long_to_wait_is_told_when_it_is_a_number(header: str | None, wait_s: int | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    response = httpx.Response(429, json={"code": "RATE_LIMITED", "detail": "Later."}, headers=headers)
    with pytest.raises(ApiError) as caught:
        await api_of(lambda _: response).get("/pcs")
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 1}'])
async def test_an_error_that_is_no_problem_is_still_an_api_error(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        await api_of(lambda _: httpx.Response(502, content=body)).get("/pcs")
    assert (caught.value.status, caught.value.code) == (502, "NOT_A_PROBLEM")


async def test_no_connection_is_unreachable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ApiUnreachable):
        await api_of(refuse).get("/pcs")


async def test_no_answer_in_time_is_unreachable(autojump_clock: MockClock) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()

    api = Api(httpx.AsyncClient(base_url="http://daemon", transport=httpx.MockTransport(hang)))
    with pytest.raises(ApiUnreachable):
        await api.get("/pcs")


async def test_a_list_is_read_page_by_page_with_its_filters() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["status"] == "ONLINE"
        at = int(request.url.params.get("cursor", "0"))
        return httpx.Response(200, json={"items": [{"n": at}], "nextCursor": str(at + 1) if at < 2 else None})

    assert await api_of(answer).list_all("/pcs", status="ONLINE", category=None) == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_a_list_without_end_is_not_read_for_ever() -> None:
    asked = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json={"items": [], "nextCursor": "more"})

    with pytest.raises(TooManyPages):
        await api_of(answer).list_all("/pcs")
    assert asked == MAX_PAGES


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(api_of(lambda _: httpx.Response(204)).acting_as("secret"))
