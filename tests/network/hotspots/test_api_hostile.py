"""Wrong, missing and hostile input to each call: told of in its place, and nothing comes of it."""

import json
from typing import Any, Final

import httpx
import pytest

from tests.network.behind import HERE, IP, MAC, Behind, behind, good, refused

AUTHORIZE: Final = {"mikId": "r1", "pedidoId": "1", **HERE}
RESYNC: Final = {"mikId": "r1", "pedidoId": "1", "deviceToken": "t", **HERE}
REVOKE: Final = {"mikId": "r1", "ip": IP}
HELLO: Final = {"mikId": "r1", "ip": IP, "mac": MAC}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/relay/device/hello": HELLO,
    "/relay/authorize-by-pedido": AUTHORIZE,
    "/relay/resync-device": RESYNC,
    "/relay/revoke": REVOKE,
    "/relay/action": {"action": "AUTHORIZE_BY_PEDIDO", "payload": AUTHORIZE},
}
ACTIONS: Final = {"AUTHORIZE_BY_PEDIDO": AUTHORIZE, "RESYNC_DEVICE": RESYNC, "REVOKE_SESSION": REVOKE}
MISFIT: Final = (400, "VALIDATION_FAILED")
NOBODYS: Final = "018f9a2e-0000-7000-8000-000000000000"

# Not one value of any field of these calls.
WRONG: Final[list[Any]] = [None, True, 7, 1.5, [], {}, [["x"]], "", "x" * 5000, "\0", "a\0b"]


async def untouched(net: Behind) -> bool:
    rows = await net.sql(
        "SELECT 1 FROM jobs UNION ALL SELECT 1 FROM hotspot_grants UNION ALL SELECT 1 FROM hotspot_devices"
    )
    return not rows


def pointers(answer: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in answer.json()["errors"]]


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_that_are_none(conninfo: str, path: str) -> None:
    bodies = [
        b"",
        b"{",
        b"\xff\xfe",
        b"nul",
        b"{}{}",
        b'{"mikId": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"{'a': 1}",
    ]
    async with behind(conninfo) as net:
        for body in bodies:
            answer = await net.call(path, content=body)
            assert refused(answer)[0] == 400, (body[:20], answer.text)
        values: list[Any] = [[], "x", 7, None, True]
        for value in values:
            assert refused(await net.call(path, content=json.dumps(value).encode()))[0] == 400
        huge = await net.call(path, content=b'{"mikId": "' + b"x" * 3_000_000 + b'"}')
        assert huge.status_code == 413
        assert await untouched(net)


@pytest.mark.parametrize("path", BODIES)
async def test_each_field_missing_of_the_wrong_kind_or_unknown(conninfo: str, path: str) -> None:
    async with behind(conninfo) as net:
        for name in BODIES[path]:
            for value in WRONG:
                if (name, value) == ("payload", {}):
                    continue  # an object it is; what it lacks is told below
                answer = await net.call(path, {**BODIES[path], name: value})
                assert answer.status_code in {400, 403}, (name, value, answer.text)
                if answer.status_code == 400:
                    assert pointers(answer)[0].startswith(f"/{name}"), (name, value, answer.text)
        answer = await net.call(path, {})
        assert refused(answer) == MISFIT
        answer = await net.call(path, {**BODIES[path], "__proto__": {}, "a/b~": 1})
        assert refused(answer) == MISFIT
        assert set(pointers(answer)) == {"/__proto__", "/a~1b~0"}
        assert await untouched(net)


@pytest.mark.parametrize("action", ACTIONS)
async def test_faults_of_a_payload_are_told_where_they_are(conninfo: str, action: str) -> None:
    payload = ACTIONS[action]
    async with behind(conninfo) as net:

        async def told(given: Any) -> list[str]:
            answer = await net.call("/relay/action", {"action": action, "payload": given})
            assert refused(answer) == MISFIT, answer.text
            return pointers(answer)

        assert "/payload/mikId" in await told({})
        for name in payload:
            assert await told({**payload, name: 7}) == [f"/payload/{name}"]
        ip = "ip" if action == "REVOKE_SESSION" else "ipAtual"
        assert await told({**payload, ip: "10.5.50.700"}) == [f"/payload/{ip}"]
        assert await told({**payload, "extra": 1}) == ["/payload/extra"]
        assert await untouched(net)


@pytest.mark.parametrize(
    "name", ["authorize_by_pedido", "DROP", "REVOKE_SESSION ", "x" * 64, "__init__", "END_GRANT", "RESTORE_GRANTS"]
)
async def test_actions_that_there_are_not(conninfo: str, name: str) -> None:
    async with behind(conninfo) as net:
        answer = await net.call("/relay/action", {"action": name, "payload": {}})
        assert refused(answer) == (403, "ACTION_NOT_ALLOWED")
        assert await untouched(net)


async def test_what_is_missing_is_told_with_its_place(conninfo: str) -> None:
    async with behind(conninfo) as net:
        answer = await net.call("/relay/revoke", {"mikId": "r1"})
        assert (refused(answer), pointers(answer)) == (MISFIT, ["/ip"])
        answer = await net.call("/relay/authorize-by-pedido", {"mikId": "r1", "pedidoId": "1"})
        assert (refused(answer), pointers(answer)) == (MISFIT, ["/ipAtual", "/macAtual"])
        answer = await net.call("/relay/authorize-by-pedido", {"mikId": "r1", "pedidoId": "1", "ipAtual": IP})
        assert (refused(answer), pointers(answer)) == (MISFIT, ["/macAtual"])
        answer = await net.call("/relay/authorize-by-pedido", {**AUTHORIZE, "ipAtual": "x", "macAtual": "y"})
        assert (refused(answer), pointers(answer)) == (MISFIT, ["/ipAtual", "/macAtual"])
        for minutes in (0, -1, 525_601, 10**30, 1.5, "5", True):
            answer = await net.call("/relay/authorize-by-pedido", {**AUTHORIZE, "minutes": minutes})
            assert (refused(answer), pointers(answer)) == (MISFIT, ["/minutes"]), minutes
        assert await untouched(net)


@pytest.mark.parametrize(
    "pedido", ["\\u0000", "a\\u0000b", "\\ud800", "x\\udfff", "\\u202e", "\\u0007", "😀", "' OR 1=1 --"]
)
async def test_texts_that_databases_and_routers_choke_on(conninfo: str, pedido: str) -> None:
    """They are refused, or they go through; nothing is half done."""
    async with behind(conninfo) as net:
        body = json.dumps(AUTHORIZE).replace('"pedidoId": "1"', f'"pedidoId": "{pedido}"')
        answer = await net.call("/relay/authorize-by-pedido", content=body.encode())
        if answer.status_code != 200:
            assert answer.status_code == 400, answer.text
            assert await untouched(net)
        else:
            [row] = net.routers["r1"].rows("/ip/hotspot/ip-binding")
            assert row["comment"] == f"pedido:{answer.json()['pedidoId']}"
        for name in ("deviceToken", "userAgent"):
            greeting = json.dumps({**HELLO, name: "?"}).replace('"?"', f'"{pedido}"')
            assert (await net.call("/relay/device/hello", content=greeting.encode())).status_code in {200, 400, 404}
        found = json.dumps(RESYNC).replace('"t"', f'"{pedido}"')
        assert (await net.call("/relay/resync-device", content=found.encode())).status_code in {400, 404}
        action = json.dumps({"action": "REVOKE_SESSION", "payload": REVOKE, "source": "?"}).replace(
            '"?"', f'"{pedido}"'
        )
        assert (await net.call("/relay/action", content=action.encode())).status_code in {200, 400}


@pytest.mark.parametrize("trace", ["a b", "x" * 65, "a\nb", "", "é"])
async def test_trace_ids_that_do_not_fit(conninfo: str, trace: str) -> None:
    async with behind(conninfo) as net:
        answer = await net.call("/relay/action", {"action": "REVOKE_SESSION", "payload": REVOKE, "traceId": trace})
        assert (refused(answer), pointers(answer)) == (MISFIT, ["/traceId"])


async def test_without_the_token_nobody_is_told_anything(conninfo: str) -> None:
    async with behind(conninfo) as net:
        calls = [("POST", path) for path in BODIES] + [("GET", "/relay/routers"), ("GET", f"/relay/jobs/{NOBODYS}")]
        for method, path in calls:
            for headers in ({"x-relay-token": ""}, {"x-relay-token": "wrong"}):
                answer = await net.client.request(method, path, json=BODIES.get(path), headers=headers)
                assert refused(answer) == (401, "UNAUTHORIZED")
        assert await untouched(net)


async def test_jobs_that_there_are_not(conninfo: str) -> None:
    async with behind(conninfo) as net:
        assert refused(await net.call(f"/relay/jobs/{NOBODYS}")) == (404, "JOB_NOT_FOUND")
        for name in ("x", "1", "%00", "..%2f..", NOBODYS + "0"):
            assert (await net.call(f"/relay/jobs/{name}")).status_code == 404
        job = good(await net.call("/relay/revoke", REVOKE))["jobId"]
        told = await net.job(job)
        assert told.keys() == {"id", "type", "state", "attempts", "runAt", "lastError", "result"}
        assert (told["type"], told["state"], told["attempts"]) == ("REVOKE_SESSION", "done", 1)
