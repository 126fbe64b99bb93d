"""`opendesk import` as somebody at a terminal runs it."""

import base64
from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
import pytest
import trio

from opendesk.cli import group, import_, tunnel_wg
from opendesk.network.hotspots import devices as hotspot_devices
from opendesk.network.routers import registry
from opendesk.network.routers.registry import NewRouter
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import NewDevice
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedPeer, SimulatedWireguard
from tests.network.tunnels.test_devices import key
from tests.system.daemon import url_of

MASTER = bytes(range(32))
MAC = "AA:BB:CC:DD:EE:0F"
DEVICES = {
    "devices": {
        "bus-7": {
            "publicKey": key(1),
            "tunnelIp": "10.200.0.7",
            "allowedIps": "10.200.0.7/32, 192.168.7.0/24",
            "presharedKey": key(9),
            "deviceName": "Bus 7",
            "mikrotik": {"publicIp": "203.0.113.9", "apiUser": "api", "apiPassword": "hunter2", "apiPort": 8729},
        },
        "bus-8": {"publicKey": key(2), "tunnelIp": "10.200.0.8", "colour": "red"},
    },
    "tokens": [{"deviceToken": "token-of-mine", "mikId": "bus-7", "ip": "10.5.50.12", "mac": MAC}],
}
PEERS = {
    key(1): {"deviceId": "bus-7", "mikrotikIp": "10.200.0.7"},
    key(3): {"deviceId": "old", "mikrotikIp": "10.9.9.9"},
}

Import = Callable[..., Result]


@pytest.fixture
def take(conninfo: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Import:
    monkeypatch.setenv("DATABASE_URL", url_of(conninfo))
    monkeypatch.setenv("RELAY_MASTER_KEY", base64.b64encode(MASTER).decode())

    def run(*arguments: object, **settings: str) -> Result:
        names: list[str] = []
        for number, given in enumerate(arguments):
            if isinstance(given, str):
                names.append(given)
            else:
                path = tmp_path / f"f{number}.json"
                path.write_text(json.dumps(given))
                names.append(str(path))
        return CliRunner(env=settings).invoke(group, ["import", *names])

    return run


def outcomes(result: Result) -> list[tuple[str, str]]:
    told = json.loads(result.stdout)
    return [(entry["entry"].split(": ")[1], entry["outcome"]) for entry in told["entries"]]


async def in_thread(work: Callable[[], Result]) -> Result:
    """A command runs a Trio of its own."""
    return await trio.to_thread.run_sync(work)


async def test_all_parts_of_an_entry_are_taken_over_and_again_nothing_changes(
    take: Import, conn: TrioConnection
) -> None:
    first = await in_thread(lambda: take(DEVICES, PEERS, "--json"))
    assert first.exit_code == 0, first.output
    assert outcomes(first) == [("bus-7", "made"), ("bus-8", "made"), ("tokens 1", "made"), (key(3), "made")]
    assert json.loads(first.stdout)["unknownFields"] == ["colour"]
    before = await everything(conn)
    device = await devices.get(conn, "bus-7", dry_run=False)
    assert device.allowed_ips == ("10.200.0.7/32", "192.168.7.0/24")
    assert device.meta == {"deviceName": "Bus 7", "mikrotik": {"publicIp": "203.0.113.9"}}
    router = await registry.get(conn, "bus-7", dry_run=False)
    assert router is not None
    assert (router.host, router.port, router.username) == ("10.200.0.7", 8729, "api")
    assert router.password_sealed is not None
    assert Sealer((Secret(MASTER),)).open(router.password_sealed, about=password_of("bus-7")) == Secret("hunter2")
    assert (await bindings.find(conn, key(3), dry_run=False)).device_id == "old"
    assert (await hotspot_devices.find(conn, "token-of-mine", "bus-7")).place.mac == MAC
    again = await in_thread(lambda: take(DEVICES, PEERS, "--json"))
    assert {outcome for _, outcome in outcomes(again)} == {"same"}
    assert await everything(conn) == before


async def everything(conn: TrioConnection) -> list[Any]:
    tables = ("tunnel_devices", "tunnel_prefixes", "tunnel_keys", "tunnel_bindings", "routers", "hotspot_devices")
    return [await conn.fetch(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]


def test_a_peer_does_not_lose_its_preshared_key_without_a_word(take: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    wireguard = SimulatedWireguard()
    wireguard.peers[key(2)] = SimulatedPeer(preshared_key=key(8))
    monkeypatch.setattr(tunnel_wg, "run", wireguard.run)
    result = take(DEVICES, "--json", WG_INTERFACE="wg0")
    assert dict(outcomes(result)) == {"bus-7": "made", "bus-8": "skipped", "tokens 1": "made"}
    assert "preshared key" in result.stdout
    unseen = take(DEVICES, "--json")
    assert dict(outcomes(unseen))["bus-8"] == "made"
    assert unseen.stderr.count("opendesk tunnel plan") == 1
    assert dict(outcomes(take(DEVICES, "--json", RELAY_DRY_RUN="1")))["bus-8"] == "made"


def test_nothing_secret_is_shown(take: Import) -> None:
    broken = {
        "devices": [{"deviceId": "bus-7", "publicKey": key(2), "presharedKey": "hunter2"}],
        "tokens": {"hunter2": {}},
    }
    shown = [take(DEVICES), take(DEVICES, "--json"), take(broken), take(broken, "--json")]
    for secret in ("hunter2", "token-of-mine", key(9)):
        assert not any(secret in result.output for result in shown)


async def test_a_dry_run_stores_nothing_and_says_what_would_be_done(take: Import, conn: TrioConnection) -> None:
    told = await in_thread(lambda: take(DEVICES, PEERS, "--dry-run"))
    assert told.exit_code == 0, told.output
    assert "4 made, 0 changed, 0 same, 0 skipped (dry run: nothing was stored)" in told.stdout
    assert await everything(conn) == [[], [], [], [], [], []]


async def test_what_is_pretended_is_in_a_world_of_its_own(take: Import, conn: TrioConnection) -> None:
    told = await in_thread(lambda: take(DEVICES, PEERS, RELAY_DRY_RUN="1"))
    assert "only daemons that pretend see it" in told.stdout
    assert await devices.page(conn, None, 10, dry_run=False) == []
    assert len(await devices.page(conn, None, 10, dry_run=True)) == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"deviceId": "b", "publicKey": key(5), "tunnelIp": "10.200.0.7"}, "device bus-7 has the tunnel IP"),
        ({"deviceId": "b", "publicKey": key(5), "allowedIps": ["192.168.0.0/16"]}, "device bus-7 holds 192.168.0.0/16"),
        ({"deviceId": "b", "publicKey": key(5), "allowedIps": ["10.200.0.0/16"]}, "this server's own address"),
        ({"deviceId": "b", "publicKey": key(1), "tunnelIp": "10.200.0.9"}, "device bus-7 has this public key"),
        ({"deviceId": "bus-7", "publicKey": key(5), "tunnelIp": "10.200.0.7"}, "registered with another public key"),
        ({"deviceId": "b", "publicKey": key(5)}, "neither allowed IPs nor a tunnel IP"),
        ({"deviceId": "b", "tunnelIp": "10.200.0.9"}, "it has no public key"),
        ({"deviceId": "b", "mikrotik": {"apiUser": "u"}}, "neither a tunnel IP nor a mikrotikIp"),
        ({"mikrotik": {"apiUser": "u"}, "mikrotikIp": "10.1.1.1"}, "its router has no id"),
        (
            {"deviceId": "b", "tunnelIp": "10.2.2.2", "publicKey": key(5), "mikrotik": {"apiPort": 1}},
            "its router has no apiUser",
        ),
        ({"publicKey": key(5), "mikrotikIp": "10.1.1.1"}, "its public key belongs to no device"),
        ({"publicKey": key(5), "deviceId": "b", "mikrotikIp": "10.1.1.1", "meta": {"a": 1}}, "has no device"),
        ({"deviceToken": "token-of-mine", "mikId": "r9", "ip": "10.5.50.12", "mac": MAC}, "behind another router"),
    ],
    ids=range(13),
)
def test_what_is_not_taken_over_is_said_and_the_rest_is(take: Import, entry: dict[str, Any], said: str) -> None:
    assert take(DEVICES).exit_code == 0
    good = {"deviceId": "good", "publicKey": key(7), "tunnelIp": "10.200.0.77"}
    result = take([entry, good])
    assert result.exit_code == 1
    assert said in result.stderr
    assert "1 made, 0 changed, 0 same, 1 skipped" in result.stdout


async def test_an_entry_is_taken_over_whole_or_not_at_all(take: Import, conn: TrioConnection) -> None:
    token = {"deviceToken": "t", "ip": "10.5.50.12", "mac": MAC}
    other = {**token, "mikId": "r9"}
    entry = {"deviceId": "b", "publicKey": key(5), "tunnelIp": "10.200.0.9", "tokens": [token, other]}
    told = await in_thread(lambda: take([entry]))
    assert told.exit_code == 1
    assert await everything(conn) == [[], [], [], [], [], []]


async def test_without_a_master_key_what_would_need_it_is_skipped(take: Import, conn: TrioConnection) -> None:
    told = await in_thread(lambda: take(DEVICES, RELAY_MASTER_KEY=""))
    assert told.exit_code == 1
    assert "RELAY_MASTER_KEY" in told.stderr
    assert [device.id for device in await devices.page(conn, None, 10, dry_run=False)] == ["bus-8"]


def test_a_changed_entry_changes_what_is_registered(take: Import) -> None:
    assert take(DEVICES).exit_code == 0
    device = {**DEVICES["devices"]["bus-7"], "keepalive": 0}  # type: ignore[index]  # it is a dict
    told = take({"devices": {"bus-7": device}}, "--json")
    assert outcomes(told) == [("bus-7", "changed")]
    assert outcomes(take({"devices": {"bus-7": device}}, "--json")) == [("bus-7", "same")]
    access = {**device["mikrotik"], "apiPassword": "another"}
    assert outcomes(take({"devices": {"bus-7": {**device, "mikrotik": access}}}, "--json")) == [("bus-7", "changed")]


def test_bad_words_are_told_plainly(take: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = take(str(tmp_path / "none.json"))
    assert missing.exit_code == 1
    assert "none.json" in missing.output
    assert take().exit_code == 2
    monkeypatch.setattr(import_, "FILE_MAX_BYTES", 10)
    large = take([PEERS])
    assert large.exit_code == 1
    assert "larger than 10 bytes" in large.output


async def test_no_second_router_comes_to_be_dialled_at_one_address(take: Import, conn: TrioConnection) -> None:
    named = json.dumps([{"id": "named", "host": "10.200.0.8", "user": "u", "pass": "p"}])
    await registry.put(conn, NewRouter(id="depot", host="10.200.0.7"), Sealer(()))
    entries = [
        {"deviceId": f"bus-{n}", "publicKey": key(n), "tunnelIp": f"10.200.0.{n}", "mikrotik": {"apiUser": "u"}}
        for n in (7, 8, 9)
    ]
    told = await in_thread(lambda: take(entries, MIKROTIK_NODES=named))
    assert told.exit_code == 1
    assert "router depot is dialled at 10.200.0.7" in told.stderr
    assert "router named is dialled at 10.200.0.8" in told.stderr
    assert [device.id for device in await devices.page(conn, None, 10, dry_run=False)] == ["bus-9"]
    assert [router.id for router in await registry.list_all(conn)] == ["bus-9", "depot"]


async def test_the_login_of_a_key_that_waits_waits_with_it(take: Import, conn: TrioConnection) -> None:
    def entry(number: int, user: str) -> list[dict[str, Any]]:
        peer = {"deviceId": "bus-7", "publicKey": key(number), "tunnelIp": "10.200.0.7"}
        return [{**peer, "mikrotik": {"apiUser": user, "apiPassword": "hunter2"}}]

    await in_thread(lambda: take(entry(1, "old")))
    await devices.put(conn, NewDevice(id="bus-7", public_key=key(2)), Sealer(()), dry_run=False)
    assert outcomes(await in_thread(lambda: take(entry(2, "next"), "--json")))[0][1] == "changed"
    assert outcomes(await in_thread(lambda: take(entry(2, "next"), "--json")))[0][1] == "same"
    assert [router.username for router in await registry.list_all(conn)] == ["old"]
    assert await devices.complete_rotation(conn, "bus-7", key(2), dry_run=False)
    assert [router.username for router in await registry.list_all(conn)] == ["next"]
