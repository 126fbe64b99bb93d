"""Wrong, missing and hostile input to the calls of tunnels: told of in its place, and nothing comes of it."""

import json
from typing import Any, Final

import httpx
import pytest

from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import Behind, aged_router, good, refused
from tests.network.tunnels.calling import (
    ACCESS,
    APPLY,
    BINDING,
    BOOTSTRAP,
    DEVICE,
    MANAGED,
    PEERS,
    PROBE,
    ROUTER,
    SECRET_KEY,
    key,
    tunnelled,
)

BODIES: Final[dict[str, dict[str, Any]]] = {
    "/devices": {
        **DEVICE, "tunnelIp": "10.200.0.7", "endpoint": "192.0.2.1:1", "keepalive": 5, "presharedKey": SECRET_KEY, "meta": {},
    },
    "/relay/routers/register": {**ROUTER, "allowedIps": [], "endpoint": "192.0.2.1:1", "keepalive": 1, "presharedKey": SECRET_KEY},
    "/relay/manager/register": {**MANAGED, "deviceName": "Bus 1"},
    "/mikrotik/bootstrap": {**BOOTSTRAP, "devicePublicKey": key(1), "allowedIps": []},
    f"{PEERS}/bind": BINDING,
    "/internal/mikrotik/probe": PROBE,
    "/internal/mikrotik/apply": {**APPLY, "dryRun": True, "technicalUser": {"password": "x"}},
}  # fmt: skip
MISFIT: Final = (400, "VALIDATION_FAILED")

# Not one value of any field of these calls; null is for those that may be left out.
WRONG: Final[list[Any]] = [True, 1.5, -1, 10**20, [["x"]], "", "x" * 5000, "\0", "a\0b", "\u202e"]
# Fields that take one of them all the same.
TAKES: Final[dict[str, list[Any]]] = {
    "deviceName": ["\u202e"],
    "password": ["", "\u202e"],
    "username": ["\u202e"],
    "dryRun": [True],
}
TABLES: Final = ("tunnel_devices", "tunnel_keys", "tunnel_bindings", "routers")


async def untouched(net: Behind, wireguard: SimulatedWireguard) -> bool:
    found = [await net.sql(f"SELECT 1 FROM {table}") for table in TABLES]
    return not any(found) and not wireguard.peers and not net.routers["r1"].rows("/interface/wireguard")


def pointers(answer: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in answer.json()["errors"]]


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_that_are_none(conninfo: str, path: str) -> None:
    bodies = [b"", b"{", b"\xff\xfe", b"nul", b"{}{}", b'{"keepalive": NaN}', b"[" * 100_000, b'{"a":' * 50_000]
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        for body in bodies:
            answer = await net.call(path, content=body)
            assert refused(answer)[0] == 400, (body[:20], answer.text)
        values: list[Any] = [[], "x", 7, None, True, {}]
        for value in values:
            assert refused(await net.call(path, content=json.dumps(value).encode()))[0] == 400
        assert (await net.call(path, content=b'{"deviceId": "' + b"x" * 3_000_000 + b'"}')).status_code == 413
        assert await untouched(net, wg)


@pytest.mark.parametrize("path", BODIES)
async def test_each_field_of_the_wrong_kind_or_unknown(conninfo: str, path: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        for name in BODIES[path]:
            for value in WRONG:
                if value in TAKES.get(name, []):
                    continue
                answer = await net.call(path, {**BODIES[path], name: value})
                assert refused(answer) == MISFIT, (name, value, answer.text)
                assert pointers(answer)[0].startswith(f"/{name}"), (name, value, answer.text)
        answer = await net.call(path, {**BODIES[path], "__proto__": {}, "a/b~": 1})
        assert (refused(answer), set(pointers(answer))) == (MISFIT, {"/__proto__", "/a~1b~0"})
        assert await untouched(net, wg)


BAD_PREFIXES: Final = [
    "10.0.0.1/24", "0.0.0.0/0", "::/0", "10.0.0.0/7", "127.0.0.0/8", "169.254.1.0/24", "224.0.0.0/24", "10.0.0.0/33",
    "10.0.0.0/255.255.255.0", "fe80::/64", "010.0.0.0/8", "10.0.0.0/", "/8", "10.200.0.1/32", "10.200.0.0/16", "::ffff:10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("prefix", BAD_PREFIXES)
async def test_prefixes_that_no_device_may_have(conninfo: str, prefix: str) -> None:
    """The last but one of ours cover the VPS's own address."""
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        answer = await net.call("/devices", {**DEVICE, "allowedIps": [prefix]})
        assert refused(answer) in {MISFIT, (409, "ALLOWED_IPS_TAKEN")}, answer.text
        assert await untouched(net, wg)


BAD_KEYS: Final = [
    key(1)[:-1],
    key(1) + "=",
    "A" * 43 + "=",
    key(1)[:-2] + "B=",
    key(1).replace("=", "\n"),
    " " + key(1),
    key(1)[:43] + "\u2261",
]


@pytest.mark.parametrize("wrong", BAD_KEYS)
async def test_keys_that_are_none_are_not_quoted(conninfo: str, wrong: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        for body, where in (({"publicKey": wrong}, "/publicKey"), ({"presharedKey": wrong}, "/presharedKey")):
            answer = await net.call("/devices", {**DEVICE, **body})
            assert (refused(answer), pointers(answer)) == (MISFIT, [where])
            assert wrong not in answer.json()["detail"]
        assert await untouched(net, wg)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tunnelIp": "10.200.0.7/32"}, "/tunnelIp"),
        ({"tunnelIp": "127.0.0.1"}, "/tunnelIp"),
        ({"tunnelIp": "fe80::1%eth0"}, "/tunnelIp"),
        ({"endpoint": "host"}, "/endpoint"),
        ({"endpoint": "host:99999"}, "/endpoint"),
        ({"endpoint": "2001:db8::1:51820"}, "/endpoint"),
        ({"keepalive": 65_536}, "/keepalive"),
        ({"allowedIps": [f"10.9.{n}.0/24" for n in range(65)]}, "/allowedIps"),
        ({"meta": {"a": "x" * 20_000}}, "/meta"),
        ({"meta": {"a": "\0"}}, "/meta"),
        ({"meta": {"\0": 1}}, "/meta/\0"),
        ({"deviceId": "a b"}, "/deviceId"),
    ],
)
async def test_what_has_more_to_it_than_its_shape(conninfo: str, change: dict[str, Any], where: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        answer = await net.call("/devices", {**DEVICE, **change})
        assert (refused(answer), pointers(answer)) == (MISFIT, [where])
        assert await untouched(net, wg)


async def test_faults_within_are_told_where_they_are(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        body = {**ROUTER, "mikrotik": {**ACCESS, "apiPort": 0, "apiUser": "a\0", "publicIp": ""}}
        answer = await net.call("/relay/routers/register", body)
        assert set(pointers(answer)) == {"/mikrotik/apiPort", "/mikrotik/apiUser", "/mikrotik/publicIp"}
        answer = await net.call("/relay/routers/register", {**ROUTER, "mikrotik": {**ACCESS, "publicIp": "a..b"}})
        assert pointers(answer) == ["/mikrotik/publicIp"]
        answer = await net.call("/devices", {**DEVICE, "allowedIps": ["x", 7]})
        assert pointers(answer) == ["/allowedIps/0", "/allowedIps/1"]
        answer = await net.call("/mikrotik/bootstrap", {**BOOTSTRAP, "tunnelIp": "fd00::7"})
        assert pointers(answer) == ["/tunnelIp"]


async def test_a_router_is_not_called_as_a_path_beside_it(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        answer = await net.call("/relay/routers/register", {**ROUTER, "deviceId": "register"})
        assert pointers(answer) == ["/deviceId"]
        answer = await net.client.delete("/relay/routers/register")
        assert (refused(answer), answer.headers["allow"]) == ((405, "METHOD_NOT_ALLOWED"), "POST")


async def test_lists_refuse_what_is_no_cursor(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        for query in ("cursor=", "cursor=g", "cursor=" + "f" * 16, "limit=0", "limit=101", "unknown=1", "cursor=-1"):
            assert refused(await net.call(f"/devices?{query}")) == MISFIT, query
        assert good(await net.call("/devices?cursor=" + "f" * 15))["items"] == []


async def test_hostile_names_do_not_get_into_a_script(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        for name in ('a"b', "a;b", "a\nb", "[/user]", "$x", "a b", "\\", "a}"):
            answer = await net.call("/mikrotik/bootstrap", {**BOOTSTRAP, "deviceId": name})
            assert (refused(answer), pointers(answer)) == (MISFIT, ["/deviceId"])
