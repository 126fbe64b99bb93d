"""A router row follows its device: where it is dialled, when it goes, and what it logs in with once a new key has proven itself."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
import time
from typing import Any

import pytest

from opendesk.network.routeros.transport import Target
from opendesk.network.routers.link import Api, Connect
from opendesk.network.routers.registry import NewRouter, put
from opendesk.network.routers.sealing import password_of
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.device import Login, NewDevice
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network import behind
from tests.network.behind import Behind, aged_router, good, nodes, refused, until
from tests.network.tunnels.calling import (
    ACCESS,
    BINDING,
    DEVICE,
    DRY,
    MANAGED,
    PEERS,
    PROBE,
    ROUTER,
    TUNNEL_IP,
    Json,
    escaped,
    key,
    rows,
    tunnelled,
)
from tests.network.tunnels.test_devices import SEALER

PROBING = "/internal/mikrotik/probe"
REGISTER = "/relay/routers/register"
MANAGER = "/relay/manager/register"
MOVED: dict[str, Any] = {**DEVICE, "allowedIps": [], "tunnelIp": "10.200.0.8"}
OTHER_LOGIN: dict[str, Any] = {**ACCESS, "apiUser": "next", "apiPassword": "another one", "apiPort": 8729}


async def bound(net: Behind) -> dict[str, str]:
    return {one["publicKey"]: one["mikrotikIp"] for one in good(await net.call(f"{PEERS}/bindings"))["bindings"]}


# ---- it goes with its device


@pytest.mark.parametrize("path", ["/devices/bus-1", f"{PEERS}/{escaped(key(1))}"])
async def test_the_router_goes_with_its_device_and_its_address_is_given_again(conninfo: str, path: str) -> None:
    async with tunnelled(conninfo, aged_router()) as net:
        good(await net.call(REGISTER, {**ROUTER, "tunnelIp": TUNNEL_IP}), 201)
        await until(lambda: net.services.network.fleet.get("bus-1") is not None)
        assert good(await net.authorize(router="bus-1"))["ok"]
        good(await net.client.delete(path))
        assert [await rows(net, table) for table in ("routers", "tunnel_devices", "tunnel_bindings")] == [0, 0, 0]
        assert await rows(net, "hotspot_grants WHERE ended_at IS NULL") == 0
        assert net.lines("audit", outcome="success")[-1]["grants"] == 1
        await until(lambda: net.services.network.fleet.get("bus-1") is None)
        other = {**MANAGED, "deviceId": "bus-2", "wireguard": {"peerPublicKey": key(2)}}
        assert good(await net.call(MANAGER, other), 201)["tunnelIp"] == "10.200.0.2"


async def test_a_router_that_is_dialled_elsewhere_is_not_its_devices(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        await net.sql("UPDATE routers SET host = '192.0.2.1'")
        good(await net.call("/devices", MOVED))
        assert await net.sql("SELECT host FROM routers") == [("192.0.2.1",)]
        good(await net.client.delete("/devices/bus-1"))
        assert await net.sql("SELECT host FROM routers") == [("192.0.2.1",)]


async def test_the_key_that_waits_takes_no_router_with_it(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        good(await net.call(REGISTER, {**ROUTER, "mikrotikPublicKey": key(2)}), 202)
        assert good(await net.client.delete(f"{PEERS}/{escaped(key(2))}"))["removed"]
        assert await rows(net, "routers") == 1


async def test_a_router_goes_with_what_was_bound_to_it_by_hand(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        for number, name in ((7, "bus-1"), (8, "bus-2")):
            body = {"publicKey": key(number), "deviceId": name, "mikrotikIp": "10.200.0.9"}
            good(await net.call(f"{PEERS}/bind", body))
        good(await net.client.delete("/relay/routers/bus-1"))
        assert await bound(net) == {key(8): "10.200.0.9"}


async def test_pretending_takes_no_real_router_away_and_moves_none(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
    async with tunnelled(conninfo, **DRY) as dry:
        good(await dry.call("/devices", {**DEVICE, "tunnelIp": TUNNEL_IP}), 201)
        assert await bound(dry) == {key(1): TUNNEL_IP}
        good(await dry.call("/devices", MOVED))
        good(await dry.client.delete("/devices/bus-1"))
        assert await dry.sql("SELECT host FROM routers") == [(TUNNEL_IP,)]


# ---- it is dialled where its device is


async def test_a_router_is_dialled_where_its_device_has_gone(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        await net.sql("UPDATE routers SET tls = true, timeout_ms = 900, port = 99")
        await net.sql(
            "INSERT INTO router_states (router_id, leased_by, leased_until, failures, booted_at)"
            " VALUES ('bus-1', gen_random_uuid(), now(), 5, now())"
            " ON CONFLICT (router_id) DO UPDATE SET failures = 5, booted_at = now()"
        )
        before = await net.sql("SELECT password_sealed, username FROM routers")
        good(await net.call("/devices", MOVED))
        told = "SELECT host, port, tls, timeout_ms FROM routers"
        assert await net.sql(told) == [("10.200.0.8", 99, True, 900)]
        assert await net.sql("SELECT password_sealed, username FROM routers") == before
        assert await net.sql("SELECT booted_at, moved FROM router_states WHERE router_id = 'bus-1'") == [(None, True)]
        assert await bound(net) == {key(1): "10.200.0.8"}


# ---- nobody else is dialled there


@pytest.mark.parametrize("is_named", [False, True], ids=["a row", "MIKROTIK_NODES"])
async def test_no_second_router_comes_to_be_dialled_at_one_address(conninfo: str, *, is_named: bool) -> None:
    more: Json = {"MIKROTIK_NODES": nodes({"depot": 9}, host="10.200.0.9")} if is_named else {}
    async with tunnelled(conninfo, **more) as net:
        if not is_named:
            await net.sql("INSERT INTO routers (id, host) VALUES ('depot', '10.200.0.9')")
        here = {**ROUTER, "tunnelIp": "10.200.0.9"}
        answer = await net.call(REGISTER, here)
        assert refused(answer) == (409, "TUNNEL_IP_TAKEN")
        assert (answer.json()["detail"], answer.json()["deviceId"]) == (
            "router depot is dialled at 10.200.0.9",
            "depot",
        )
        assert await rows(net, "tunnel_devices") == 0
        good(await net.call("/devices", {**DEVICE, "allowedIps": [], "tunnelIp": "10.200.0.9"}), 201)
        assert refused(await net.call(MANAGER, MANAGED)) == (409, "TUNNEL_IP_TAKEN")
        assert await rows(net, "routers WHERE id = 'bus-1'") == 0
        # One that is there already stays as it is, and may be registered again.
        await net.sql("INSERT INTO routers (id, host) VALUES ('bus-1', '10.200.0.9')")
        good(await net.call(REGISTER, here))


# ---- its login goes with its key


async def everything(net: Behind) -> list[tuple[Any, ...]]:
    return [
        *await net.sql("SELECT host, port, username, password_sealed, updated_at FROM routers"),
        *await net.sql("SELECT public_key, tunnel_ip, allowed_ips, endpoint, keepalive FROM tunnel_devices"),
        *await net.sql("SELECT public_key, device_id, mikrotik_ip FROM tunnel_bindings"),
    ]


@pytest.mark.parametrize("path", [REGISTER, MANAGER])
async def test_a_rotation_that_never_completes_changes_nothing(conninfo: str, path: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        before = await everything(net)
        body = {**ROUTER, "mikrotikPublicKey": key(2)} if path == REGISTER else MANAGED
        body = {
            **body,
            "mikrotik": OTHER_LOGIN,
            **({"wireguard": {"peerPublicKey": key(2)}} if path == MANAGER else {}),
        }
        good(await net.call(path, body), 202)
        assert await everything(net) == before
        waiting = await net.sql("SELECT next_username, next_port, xmin FROM tunnel_devices")
        assert waiting[0][:2] == ("next", 8729)
        good(await net.call(path, body), 202)
        assert await net.sql("SELECT next_username, next_port, xmin FROM tunnel_devices") == waiting
        assert "another one" not in net.log.getvalue()
        good(await net.client.delete(f"{PEERS}/{escaped(key(2))}"))
        assert await everything(net) == before
        assert await net.sql("SELECT next_username, next_password_sealed, next_port FROM tunnel_devices") == [
            (None, None, None)
        ]


async def test_with_its_first_handshake_a_key_brings_its_login(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call(REGISTER, ROUTER), 201)
        await net.sql("UPDATE routers SET tls = true, timeout_ms = 900")
        good(await net.call(REGISTER, {**ROUTER, "mikrotikPublicKey": key(2), "mikrotik": OTHER_LOGIN}), 202)
        wg.handshake(key(2), round(time.time()) + 1)
        await net.finds("SELECT 1 FROM tunnel_devices WHERE public_key = %(key)s", key=key(2))
        stored = "SELECT host, port, username, tls, timeout_ms FROM routers"
        assert await net.sql(stored) == [(TUNNEL_IP, 8729, "next", True, 900)]


@pytest.mark.parametrize("has_row", [True, False])
async def test_a_login_that_waited_is_the_routers_and_opens_there(conn: TrioConnection, *, has_row: bool) -> None:
    if has_row:
        old = NewRouter(id="a", host="10.200.0.7", user="old", password=Secret("old"))
        await put(conn, old, SEALER)
        await conn.run("INSERT INTO router_states (router_id, leased_by, leased_until, failures)"
                       " VALUES ('a', gen_random_uuid(), now(), 5)")  # fmt: skip
    await devices.put(conn, NewDevice(id="a", public_key=key(1), tunnel_ip="10.200.0.7"), SEALER, dry_run=False)
    login = Login("next", Secret("hush"), None)
    new = NewDevice(id="a", public_key=key(2), login=login)
    waiting = await devices.put(conn, new, SEALER, dry_run=False)
    assert "hush" not in repr(new) + repr(waiting)
    assert "sealed" not in repr(waiting)
    assert await devices.complete_rotation(conn, "a", key(2), dry_run=False)
    [(host, user, sealed)] = await conn.fetch("SELECT host, username, password_sealed FROM routers")
    assert (host, user, SEALER.open(sealed, about=password_of("a"))) == ("10.200.0.7", "next", Secret("hush"))
    assert await conn.fetch("SELECT failures, resets FROM router_states") == [(0, 1)] * has_row
    [left] = await devices.some(conn, ["a"], dry_run=False)
    assert (left.next_username, left.next_password_sealed, left.next_port) == (None, None, None)


async def test_a_login_goes_with_the_key_that_it_came_with(conn: TrioConnection) -> None:
    async def ask(number: int, login: Login | None = None) -> devices.Device:
        new = NewDevice(id="a", public_key=key(number), tunnel_ip="10.200.0.7", login=login)
        return (await devices.put(conn, new, SEALER, dry_run=False)).device

    await ask(1, Login("nobody", None, 1))
    assert (await ask(2)).next_username is None
    first = await ask(2, Login("x", Secret("p"), 5))
    assert (await ask(2)) == first == await ask(2, Login("x", Secret("p"), 5))
    assert (await ask(2, Login("x", Secret("q"), 5))).next_password_sealed != first.next_password_sealed
    third = await ask(3)
    assert (third.next_public_key, third.next_username, third.next_port) == (key(3), None, None)
    await ask(3, Login("y", Secret("p"), 6))
    await devices.expire_rotations(conn, 0, dry_run=False)
    assert await conn.fetch("SELECT FROM tunnel_devices WHERE next_username IS NOT NULL") == []


MORE = [
    ({"tunnelIp": "10.200.0.8"}, "tunnelIp, allowedIps"),
    ({"allowedIps": ["10.200.0.7", "192.168.7.0/24"]}, "allowedIps"),
    ({"endpoint": "192.0.2.1:51820"}, "endpoint"),
    ({"keepalive": 7}, "keepalive"),
]


@pytest.mark.parametrize(("more", "told"), MORE, ids=range(4))
async def test_a_key_comes_alone(conninfo: str, more: dict[str, Any], told: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call("/devices", {**DEVICE, "tunnelIp": TUNNEL_IP}), 201)
        before = await everything(net)
        for number in (2, 3):
            answer = await net.call("/devices", {**DEVICE, "publicKey": key(number), **more})
            assert refused(answer) == (409, "ROTATION_CHANGES_MORE")
            assert f"another {told}: the key first" in answer.json()["detail"]
            # What is as it is may be said, and the notes may change.
            same = {"tunnelIp": TUNNEL_IP, "keepalive": 25, "meta": {"number": number}}
            good(await net.call("/devices", {**DEVICE, "publicKey": key(number), **same}), 202)
        assert await everything(net) == before


# ---- what is audited


async def test_the_audit_says_which_device_it_was_and_what_became_of_it(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        nameless = {name: value for name, value in DEVICE.items() if name != "deviceId"}
        name = good(await net.call("/devices", nameless), 201)["deviceId"]
        good(await net.call("/devices", nameless))
        good(await net.call("/devices", {**nameless, "keepalive": 1}))
        good(await net.call("/devices", {**nameless, "deviceId": name, "publicKey": key(2)}), 202)
        told = net.lines("audit", action="TUNNEL_DEVICE_PUT", outcome="success")
        assert [(line["device"], line["became"]) for line in told] == [
            (name, became) for became in ("made", "same", "changed", "rotating")
        ]
        good(await net.call(REGISTER, {**ROUTER, "mikrotikPublicKey": key(5), "tunnelIp": "10.200.0.9"}), 201)
        managed = {**MANAGED, "wireguard": {"peerPublicKey": key(6)}}
        good(await net.call(MANAGER, managed), 202)
        asked = {"deviceId": "bus-1", "tunnelIp": "10.200.0.9", "devicePublicKey": key(5)}
        good(await net.call("/mikrotik/bootstrap", asked))
        told = [line for line in net.lines("audit", outcome="success") if line["action"] != "TUNNEL_DEVICE_PUT"]
        assert [line["became"] for line in told] == ["made", "rotating", "same"]


# ---- a probe


async def test_a_probe_dials_as_the_router_is_registered_that_is_there(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, dialled = {**PROBE, "username": "prober"}, list[tuple[int, bool, bytes | None]]()
    really = behind._connect_to

    def recording(ports: Mapping[str, int]) -> Connect:
        def connect(target: Target) -> AbstractAsyncContextManager[Api]:
            if target.user == asked["username"]:
                dialled.append((target.port, target.tls, target.tls_sha256))
            return really(ports)(target)

        return connect

    monkeypatch.setattr(behind, "_connect_to", recording)
    async with tunnelled(conninfo) as net:
        good(await net.call(f"{PEERS}/bind", {**BINDING, "mikrotikIp": "10.200.0.9"}))
        assert refused(await net.call(PROBING, asked)) == (502, "UNREACHABLE")
        await net.sql(
            "INSERT INTO routers (id, host, port, tls, tls_sha256) VALUES ('bus-1', '10.200.0.9', 9443, true, %(pin)s)",
            pin=b"p" * 32,
        )
        assert refused(await net.call(PROBING, asked)) == (502, "UNREACHABLE")
        await net.sql("UPDATE routers SET host = '10.200.0.10'")
        assert refused(await net.call(PROBING, asked)) == (502, "UNREACHABLE")
    assert dialled == [(8728, False, None), (9443, True, b"p" * 32), (8728, False, None)]
