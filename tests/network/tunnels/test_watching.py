"""Devices that fall silent and come back, and keys that take over, as the daemon sees them."""

from base64 import b64encode
from math import inf
from typing import Any

import pytest
from structlog.testing import capture_logs

from opendesk.network.tunnels.keeping import keeper as keeping
from opendesk.network.tunnels.keeping import watching
from opendesk.network.tunnels.registry import devices
from opendesk.settings.secret import Secret
from tests.network.tunnels.tunnelled import On, key, tunnels_on, until

PSK = b64encode(bytes(range(32))).decode()
HOST = "10.200.0.2"


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 0.02)
    monkeypatch.setattr(keeping, "ROTATION_LOOK_S", 0.02)
    monkeypatch.setattr(keeping, "RETRY_S", 0.02)


def shake(on: On, name: str) -> None:
    on.wireguard.handshake(key(name), int(on.now()))


async def connect(on: On, name: str) -> None:
    """For the first time; it has been seen before."""
    await until(lambda: on.figures("opendesk_tunnel_peers").get("NEVER_CONNECTED") == 1)
    shake(on, name)
    await until(lambda: on.back == [HOST])


def named(logs: Any, *events: str) -> list[tuple[str, str]]:
    return [(line["event"], line["device"]) for line in logs if line["event"] in events]


# ---- presence


@pytest.mark.usefixtures("_quick")
async def test_going_offline_and_coming_back_are_told_counted_and_known(conninfo: str) -> None:
    async with tunnels_on(conninfo, online_s=180, offline_max_age_s=300) as on:
        await on.put("a", tunnel_ip=HOST)
        await connect(on, "a")
        assert on.tunnels.offline_for(HOST) is None
        with capture_logs() as logs:
            on.now.ahead_s = 200  # offline, and still to be sent to
            await until(lambda: on.figures("opendesk_tunnel_transitions_total").get("OFFLINE") == 1)
            assert on.tunnels.offline_for(HOST) is None
            on.now.ahead_s = 400
            await until(lambda: on.tunnels.offline_for(HOST) is not None)
            age_s = on.tunnels.offline_for(HOST)
            assert age_s is not None
            assert age_s >= 399
            assert on.figures("opendesk_tunnel_peers") == {"OFFLINE": 1}
            shake(on, "a")
            await until(lambda: on.back == [HOST, HOST])
        assert on.tunnels.offline_for(HOST) is None
        assert named(logs, "tunnel.peer_offline", "tunnel.peer_back") == [
            ("tunnel.peer_offline", "a"),
            ("tunnel.peer_back", "a"),
        ]
        assert on.figures("opendesk_tunnel_peers") == {"ONLINE": 1}
        assert on.figures("opendesk_tunnel_transitions_total") == {"ONLINE": 2, "OFFLINE": 1}


@pytest.mark.usefixtures("_quick")
async def test_a_peer_is_silent_by_its_key_whatever_address_it_has(conninfo: str) -> None:
    async with tunnels_on(conninfo, offline_max_age_s=300) as on:
        await on.put("a", tunnel_ip=HOST)
        await on.put("b")
        assert on.tunnels.peer_silent_for(key("nobody")) is None
        await until(lambda: on.tunnels.peer_silent_for(key("a")) == inf)  # it was never heard of
        shake(on, "a")
        shake(on, "b")
        await until(lambda: on.tunnels.peer_silent_for(key("a")) is None)
        await until(lambda: on.tunnels.peer_silent_for(key("b")) is None)
        on.now.ahead_s = 301
        shake(on, "b")
        await until(lambda: on.tunnels.peer_silent_for(key("a")) is not None)
        assert 300 < (on.tunnels.peer_silent_for(key("a")) or 0) < inf
        assert on.tunnels.peer_silent_for(key("b")) is None


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("keepalive", "max_age_s"), [(0, 300), (25, 0)], ids=["no keepalive", "switched off"])
async def test_no_peer_is_silent_without_a_keepalive_or_where_it_is_off(
    conninfo: str, keepalive: int, max_age_s: float
) -> None:
    async with tunnels_on(conninfo, offline_max_age_s=max_age_s) as on:
        await on.put("a", tunnel_ip=HOST, keepalive=keepalive)
        await until(lambda: on.figures("opendesk_tunnel_peers").get("NEVER_CONNECTED") == 1)
        assert on.tunnels.peer_silent_for(key("a")) is None


@pytest.mark.usefixtures("_quick")
async def test_when_nobody_looks_no_peer_is_silent(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnels_on(conninfo, offline_max_age_s=300) as on:
        await on.put("a", tunnel_ip=HOST)
        await until(lambda: on.tunnels.peer_silent_for(key("a")) == inf)
        monkeypatch.setattr(watching, "STALE_S", -1.0)
        assert on.tunnels.peer_silent_for(key("a")) is None


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("keepalive", "max_age_s"), [(0, 300), (25, 0)])
async def test_nobody_is_silent_without_a_keepalive_or_where_it_is_off(
    conninfo: str, keepalive: int, max_age_s: float
) -> None:
    async with tunnels_on(conninfo, offline_max_age_s=max_age_s) as on:
        await on.put("a", tunnel_ip=HOST, keepalive=keepalive)
        await on.put("b", tunnel_ip="10.200.0.3")
        await until(lambda: on.figures("opendesk_tunnel_peers").get("NEVER_CONNECTED") == 2)
        shake(on, "a")
        shake(on, "b")
        await until(lambda: len(on.back) == 2)
        on.now.ahead_s = 10_000
        shake(on, "b")
        await until(lambda: on.figures("opendesk_tunnel_peers") == {"ONLINE": 1, "OFFLINE": 1})
        assert on.tunnels.offline_for(HOST) is None


@pytest.mark.usefixtures("_quick")
async def test_who_never_connected_is_not_silent(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", tunnel_ip=HOST)
        await on.put("b", tunnel_ip="10.200.0.3")
        shake(on, "b")
        await until(lambda: on.figures("opendesk_tunnel_peers") == {"ONLINE": 1, "NEVER_CONNECTED": 1})
        assert on.tunnels.offline_for(HOST) is None


@pytest.mark.usefixtures("_quick")
async def test_while_nobody_can_look_nobody_is_said_to_be_silent(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", tunnel_ip=HOST)
        await connect(on, "a")
        on.now.ahead_s = 400
        await until(lambda: on.tunnels.offline_for(HOST) is not None)
        monkeypatch.setattr(watching, "STALE_S", 0.05)
        on.wireguard.is_gone = True
        await until(lambda: on.back == [HOST, HOST])
        assert on.tunnels.offline_for(HOST) is None


@pytest.mark.usefixtures("_quick")
async def test_an_interface_made_anew_is_filled_again_and_turns_nobody_offline(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", tunnel_ip=HOST)
        await connect(on, "a")
        on.wireguard.is_gone = True
        await until(lambda: "unreadable" in on.figures("opendesk_tunnel_passes_total"))
        on.wireguard.clear()
        on.wireguard.private_key = PSK
        on.wireguard.is_gone = False
        await until(lambda: on.held() == {key("a"): [f"{HOST}/32"]})
        on.wireguard.calls.clear()
        await until(lambda: len(on.wireguard.calls) > 3)
        assert on.figures("opendesk_tunnel_transitions_total") == {"ONLINE": 1}


# ---- rotation


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("own_psk", [None, Secret(b64encode(bytes(range(1, 33))).decode())])
async def test_a_new_key_takes_over_when_it_is_proven(conninfo: str, own_psk: Secret[str] | None) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", tunnel_ip=HOST, preshared_key=Secret(PSK))
        shake(on, "a")
        await on.put("a", public_key=key("new"), preshared_key=own_psk)
        assert on.held() == {key("a"): [f"{HOST}/32"], key("new"): []}
        assert on.wireguard.peers[key("new")].preshared_key == (PSK if own_psk is None else own_psk.reveal())
        await until(lambda: len([call for call in on.wireguard.calls if call[1] == "show"]) > 6)
        assert on.held() == {key("a"): [f"{HOST}/32"], key("new"): []}
        on.wireguard.calls.clear()
        with capture_logs() as logs:
            shake(on, "new")
            await until(lambda: on.held() == {key("new"): [f"{HOST}/32"]})
        assert named(logs, "tunnel.rotated") == [("tunnel.rotated", "a")]
        [only] = on.sets()
        assert only.index(key("new")) < only.index(key("a"))
        assert on.figures("opendesk_tunnel_drift_total") == {}


@pytest.mark.usefixtures("_quick")
async def test_a_new_key_that_never_shakes_hands_goes_and_nothing_else_changes(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", tunnel_ip=HOST)
        await on.put("a", public_key=key("new"))
        async with on.pool.connection() as conn:
            await conn.run("UPDATE tunnel_devices SET next_since = now() - interval '25 hours'")
        with capture_logs() as logs:
            await until(lambda: on.held() == {key("a"): [f"{HOST}/32"]})
        assert named(logs, "tunnel.rotation_expired", "tunnel.rotated") == [("tunnel.rotation_expired", "a")]
        assert [one.peers[0].public_key for one in on.tunnels.registry.known.values()] == [key("a")]


@pytest.mark.usefixtures("_quick")
async def test_a_rotation_outlives_the_daemon(conninfo: str) -> None:
    async with tunnels_on(conninfo) as before:
        await before.put("a", tunnel_ip=HOST)
        await before.put("a", public_key=key("new"))
    shake(before, "new")
    async with tunnels_on(conninfo, before.wireguard) as after:
        await until(lambda: after.held() == {key("new"): [f"{HOST}/32"]})
        async with after.pool.connection() as conn:
            device = await devices.get(conn, "a", dry_run=False)
        assert (device.public_key, device.next_public_key) == (key("new"), None)
