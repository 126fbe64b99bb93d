"""What a device behind a hotspot is told, and what is kept of it."""

from hashlib import sha256

import pytest

from tests.network.behind import IP, MAC, behind, good, refused


async def test_a_device_without_a_token_is_given_one(conninfo: str) -> None:
    async with behind(conninfo) as net:
        body = {"mikId": "r1", "ip": IP, "mac": "aabb.ccdd.ee01", "userAgent": "a browser"}
        told = good(await net.call("/relay/device/hello", body))
        token = told.pop("deviceToken")
        assert told == {"ok": True, "mikId": "r1", "ipAtual": IP, "macAtual": MAC}
        assert len(token) >= 22  # 128 bits in base64
        assert await net.hello() != token
        # Only its hash is kept.
        rows = await net.sql("SELECT token_hash, hotspot_devices::text FROM hotspot_devices")
        assert sha256(token.encode()).digest() in {bytes(row[0]) for row in rows}
        assert not any(token in row[1] for row in rows)
        assert token not in net.log.getvalue()


async def test_a_device_with_a_token_is_where_it_says_and_its_last_twenty_places_are_kept(conninfo: str) -> None:
    async with behind(conninfo) as net:
        token = await net.hello()
        for number in range(25):
            assert await net.hello(ip=f"10.5.51.{number}", deviceToken=token) == token
        [(ip, addresses)] = await net.sql("SELECT host(ip), addresses FROM hotspot_devices")
        assert ip == "10.5.51.24"
        assert addresses == [[f"10.5.51.{number}", MAC] for number in range(5, 25)]
        told = good(await net.authorize(deviceToken=token))
        assert told["ip"] == "10.5.51.24"


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"ip": "10.5.50.300"}, "/ip"),
        ({"ip": "10.5.50.0/24"}, "/ip"),
        ({"ip": "fe80::1%eth0"}, "/ip"),
        ({"ip": "0x7f.1"}, "/ip"),
        ({"ip": " 10.5.50.7"}, "/ip"),
        ({"mac": "AA:BB:CC:DD:EE"}, "/mac"),
        ({"mac": "AA:BB:CC:DD:EE:GG"}, "/mac"),
        ({"mac": ""}, "/mac"),
        ({"mikId": "r 1"}, "/mikId"),
        ({"mikId": ""}, "/mikId"),
        ({"deviceToken": ""}, "/deviceToken"),
        ({"userAgent": "x" * 1001}, "/userAgent"),
        ({"userAgent": 7}, "/userAgent"),
        ({"isAdmin": True}, "/isAdmin"),
    ],
)
async def test_a_greeting_that_does_not_fit(conninfo: str, wrong: dict[str, object], pointer: str) -> None:
    async with behind(conninfo) as net:
        answer = await net.call("/relay/device/hello", {"mikId": "r1", "ip": IP, "mac": MAC, **wrong})
        assert refused(answer) == (400, "VALIDATION_FAILED")
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def test_a_device_of_another_router_does_not_move(conninfo: str) -> None:
    async with behind(conninfo) as net:
        token = await net.hello()
        answer = await net.call(
            "/relay/device/hello", {"mikId": "r9", "ip": "10.9.9.9", "mac": MAC, "deviceToken": token}
        )
        assert refused(answer) == (404, "ROUTER_NOT_FOUND")
        assert await net.sql("SELECT host(ip) FROM hotspot_devices") == [(IP,)]
