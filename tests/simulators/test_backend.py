"""A backend's calls are signed as the API wants them, each anew; what it is refused comes with the job that goes on."""

from collections.abc import Callable
import json

import httpx
import pytest

from opendesk.network.signatures import Signable, Stamp, verify
from opendesk.simulators.api_client import Api, ApiError
from opendesk.simulators.backend import Backend

SECRET = "a secret of sixteen bytes or more"
JOB = "0190b6a5-0000-7000-8000-000000000001"


def backend(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Backend, httpx.AsyncClient]:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://pretended")
    return Backend(Api(http), "token", SECRET), http


async def test_each_call_has_a_replay_safe_signature_of_its_own() -> None:
    stamps: list[Stamp] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-relay-token"] == "token"
        signed = Signable(request.method, request.url.raw_path, request.content)
        found = verify(request.headers, signed, [SECRET.encode()], plain_allowed=False)
        assert isinstance(found, Stamp)
        stamps.append(found)
        return httpx.Response(200, json={"deviceToken": "t", **json.loads(request.content)})

    calls, http = backend(answer)
    async with http:
        assert await calls.hello("cafe", "10.5.50.7", "AA:BB:CC:00:00:01") == "t"
        paid = await calls.authorize("cafe", "w-1", "t", 30)
        assert paid == {"mikId": "cafe", "pedidoId": "w-1", "deviceToken": "t", "minutes": 30}
        await calls.resync("cafe", "w-1", "t", "10.5.50.8", "AA:BB:CC:00:00:01")
        await calls.revoke("cafe", "AA:BB:CC:00:00:01")
    assert len({stamp.nonce for stamp in stamps}) == calls.calls == 4


async def test_what_waits_for_a_router_is_told_with_its_job() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        problem = {"code": "CIRCUIT_OPEN", "detail": "later", "jobId": JOB}
        return httpx.Response(503, json=problem, headers={"Retry-After": "30"})

    calls, http = backend(answer)
    async with http:
        with pytest.raises(ApiError) as refused:
            await calls.authorize("praia", "w-1", "t", 30)
    assert (refused.value.code, refused.value.job_id, refused.value.retry_after_s) == ("CIRCUIT_OPEN", JOB, 30)


async def test_a_circuit_is_found_among_routers() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/relay/routers")
        items = [{"id": "cafe", "breaker": {"state": "closed"}}, {"id": "praia", "breaker": {"state": "open"}}]
        return httpx.Response(200, json={"items": items, "nextCursor": None})

    calls, http = backend(answer)
    async with http:
        assert (await calls.circuit("cafe"), await calls.circuit("praia")) == ("closed", "open")
