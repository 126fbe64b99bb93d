"""The interface is as the registry has it, whatever somebody does to it."""

from base64 import b64encode
from typing import Any

import pytest
from structlog.testing import capture_logs
import trio

from opendesk.network.tunnels.errors import TunnelsOff, WireguardUnavailable
from opendesk.network.tunnels.keeping import keeper as keeping
from opendesk.network.tunnels.keeping.passing import How
from opendesk.network.tunnels.keeping.plan import Kind
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.tunnels.tunnelled import key, tunnels_on, until, until_in_db

PSK = b64encode(bytes(range(32))).decode()
OTHER_PSK = b64encode(bytes(range(1, 33))).decode()


def named(logs: Any, event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in logs if line["event"] == event]


# ---- what calls ask for


async def test_what_was_registered_is_on_the_interface_when_the_call_answers(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32", preshared_key=Secret(PSK), endpoint="192.0.2.1:51820", keepalive=7)
        peer = on.wireguard.peers[key("a")]
        assert (peer.allowed_ips, peer.keepalive) == (["10.200.0.2/32"], 7)
        assert (peer.preshared_key, peer.endpoint) == (PSK, "192.0.2.1:51820")
        await on.put("a", "10.200.0.3/32", preshared_key=Secret(OTHER_PSK))
        assert (peer.allowed_ips, peer.preshared_key) == (["10.200.0.3/32"], OTHER_PSK)
        assert on.figures("opendesk_tunnel_drift_total") == {}


async def test_it_is_without_the_service_too(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", "10.200.0.2/32")
        assert on.held() == {key("a"): ["10.200.0.2/32"]}
        await on.remove("a")
        assert on.held() == {}


async def test_what_is_right_is_not_set_again(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        before = len(on.sets())
        await on.put("a", "10.200.0.2/32")
        await on.tunnels.pass_once(remove_unknown=False)
        assert len(on.sets()) == before == 1


async def test_a_removed_device_goes_and_its_tombstone_is_buried(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        await on.remove("a")
        assert (on.held(), await on.tombstones()) == ({}, frozenset({key("a")}))
        await on.age_tombstones()
        await on.tunnels.pass_once(remove_unknown=False)
        assert await on.tombstones() == frozenset()


async def test_what_a_set_of_long_ago_puts_back_after_its_removal_goes_again(conninfo: str) -> None:
    """Planned by another process, or by one that is dead: its `wg set` comes when the key was seen gone already."""
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        await on.remove("a")
        await on.tunnels.pass_once(remove_unknown=False)
        on.wireguard.add(key("a"), "10.200.0.2/32", keepalive=25)
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {}


async def test_without_an_interval_what_came_back_goes_too(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FULL_APART_S", 0.05)
    monkeypatch.setattr(keeping, "BURIED_AFTER_S", 0.05)
    async with tunnels_on(conninfo, interval_s=0) as on:
        await on.put("a", "10.200.0.2/32")
        await on.remove("a")
        on.wireguard.add(key("a"), "10.200.0.2/32", keepalive=25)
        await until(lambda: on.held() == {})


async def test_who_puts_what_was_removed_meanwhile_takes_it_away_itself(conninfo: str) -> None:
    """As `opendesk tunnel apply` does, which nobody tells of changes."""
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", "10.200.0.2/32", settles=False)
        run = on.wireguard.run

        async def slow(command: Any, **rest: Any) -> Any:
            if command[1] == "set" and key("a") in command and "remove" not in command:
                await on.remove("a", settles=False)
            return await run(command, **rest)

        on.tunnels._wg.run = slow  # type: ignore[union-attr]  # it has one
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert (on.held(), report.left.changes) == ({}, ())


async def test_what_others_registered_is_told_by_the_database(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        await on.put("b", "10.200.0.3/32", settles=False)
        await until(lambda: key("b") in on.wireguard.peers)
        await on.remove("a", settles=False)
        await until(lambda: key("a") not in on.wireguard.peers)


async def test_many_calls_at_once_share_their_passes(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("first", "10.200.9.9/32")
        on.wireguard.calls.clear()
        names = [f"d{number}" for number in range(40)]
        for number, name in enumerate(names):
            await on.put(name, f"10.200.1.{number}/32", settles=False)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(on.tunnels.settle, {name})
        assert {key(name) for name in names} <= on.held().keys()
        assert len(on.wireguard.calls) < len(names) / 2


async def test_a_changed_endpoint_is_dialled_and_then_may_roam(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32", endpoint="192.0.2.1:1")
        peer = on.wireguard.peers[key("a")]
        await on.put("a", "10.200.0.2/32", endpoint="192.0.2.2:2")
        assert peer.endpoint == "192.0.2.2:2"
        peer.endpoint = "198.51.100.1:9"
        await on.put("a", "10.200.0.3/32")
        assert (peer.endpoint, peer.allowed_ips) == ("198.51.100.1:9", ["10.200.0.3/32"])


# ---- what others do to the interface


async def test_what_somebody_changed_is_put_right_counted_and_told(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        await on.put("b", "10.200.0.3/32")
        await on.put("c", "10.200.0.4/32")
        on.wireguard.remove(key("a"))
        on.wireguard.peers[key("b")].keepalive = 0
        on.wireguard.steal("10.200.0.4/32", key("b"))
        with capture_logs() as logs:
            await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {
            key("a"): ["10.200.0.2/32"],
            key("b"): ["10.200.0.3/32"],
            key("c"): ["10.200.0.4/32"],
        }
        assert {(line["kind"], line["device"]) for line in named(logs, "tunnel.drift")} == {
            ("missing", "a"), ("keepalive", "b"), ("allowed_ips", "b"), ("stolen", "c"),
        }  # fmt: skip
        drift = {"missing": 1, "keepalive": 1, "allowed_ips": 1, "stolen": 1}
        assert on.figures("opendesk_tunnel_drift_total") == drift
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.figures("opendesk_tunnel_drift_total") == drift


async def test_the_service_sees_to_it_every_so_often(conninfo: str) -> None:
    async with tunnels_on(conninfo, interval_s=0.05) as on:
        await on.put("a", "10.200.0.2/32")
        on.wireguard.remove(key("a"))
        await until(lambda: on.held() == {key("a"): ["10.200.0.2/32"]})


async def test_missing_bindings_are_made(conninfo: str) -> None:
    async with tunnels_on(conninfo, interval_s=0.05) as on:
        await on.put("a", tunnel_ip="10.200.0.2")

        async def is_bound() -> bool:
            async with on.pool.connection() as conn:
                return key("a") in await bindings.keys(conn, dry_run=False)

        await until_in_db(is_bound)


async def test_what_the_interface_does_not_keep_is_told(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        on.wireguard.lies = True
        on.wireguard.remove(key("a"))
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert [one.kind for one in report.left.drift] == [Kind.MISSING]
        assert on.figures("opendesk_tunnel_passes_total")["not_held"] == 1


async def test_a_set_that_does_nothing_is_noticed(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        on.wireguard.lies = True
        with pytest.raises(WireguardUnavailable, match="doesn't keep") as told:
            await on.put("a", "10.200.0.2/32")
        assert told.value.members == {"deviceId": "a"}
        on.wireguard.lies = False
        await on.tunnels.settle({"a"})
        assert on.held() == {key("a"): ["10.200.0.2/32"]}


async def test_a_set_that_stops_halfway_is_finished(conninfo: str) -> None:
    """What is refused is found by halves; here every set that has more than one peer is."""
    async with tunnels_on(conninfo, runs=False) as on:
        for number in range(8):
            await on.put(f"d{number}", f"10.200.0.{number}/32", settles=False)
        on.wireguard.stops_after = 1
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert (len(on.wireguard.peers), report.left.changes) == (8, ())


# ---- peers nobody asked for


async def test_an_unknown_peer_is_reported_once_and_stays(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        on.wireguard.add(key("stranger"), "10.9.0.1/32")
        with capture_logs() as logs:
            for _ in range(3):
                await on.tunnels.pass_once(remove_unknown=False)
        [line] = named(logs, "tunnel.unknown_peers")
        assert (line["count"], line["some"], key("stranger") in on.held()) == (1, (key("stranger"),), True)
        assert on.figures("opendesk_tunnel_unknown_peers") == {"": 1}
        assert on.figures("opendesk_tunnel_drift_total") == {"unknown": 1}


async def test_a_tenth_of_them_goes_in_a_pass_and_the_rest_is_held_back(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        for number in range(30):
            on.wireguard.add(key(f"{number}"))
        with capture_logs() as logs:
            report = await on.tunnels.pass_once(remove_unknown=True)
        assert (len(on.held()), len(report.done), report.found.held_back) == (27, 3, 27)
        [line] = named(logs, "tunnel.mass_removal_held_back")
        assert (line["count"], line["removed"]) == (27, 3)
        await on.tunnels.pass_once(remove_unknown=True, most=100)
        assert on.held() == {}


async def test_calls_do_not_add_up_to_a_mass_removal(conninfo: str) -> None:
    async with tunnels_on(conninfo, remove_unknown=True) as on:
        await on.put("a", "10.200.0.2/32")
        for number in range(30):
            on.wireguard.add(key(f"{number}"))
        for number in range(10):
            await on.put("a", f"10.200.1.{number}/32")
        assert len(on.held()) == 31


async def test_what_was_registered_a_moment_ago_and_not_told_yet_is_not_unknown(conninfo: str) -> None:
    """Another process puts its peer before we hear of it."""
    async with tunnels_on(conninfo, runs=False) as on:
        await on.tunnels.pass_once(remove_unknown=False)
        on.tunnels.registry._read_all = False
        await on.put("a", "10.200.0.2/32", settles=False)
        on.wireguard.add(key("a"), "10.200.0.2/32", keepalive=25)
        keeper = on.tunnels._keeper
        assert keeper is not None
        report = await keeper.one(How(remove_unknown=True))
        assert (report.found.unknown, on.held()) == ((), {key("a"): ["10.200.0.2/32"]})


async def test_a_bound_peer_is_known(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        on.wireguard.add(key("bound"), "10.9.0.1/32")
        async with on.pool.connection() as conn:
            await bindings.bind(conn, key("bound"), "x", "10.9.0.1", dry_run=False)
        report = await on.tunnels.pass_once(remove_unknown=True)
        assert (report.found.unknown, report.done) == ((), ())


async def test_a_tombstone_goes_whatever_the_setting(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        for number in range(20):
            await on.put(f"d{number}", f"10.200.0.{number}/32", settles=False)
        await on.tunnels.pass_once(remove_unknown=False)
        for number in range(20):
            await on.remove(f"d{number}", settles=False)
        await on.tunnels.pass_once(remove_unknown=False)
        assert (on.held(), len(await on.tombstones())) == ({}, 20)


async def test_a_plan_that_is_only_shown_changes_nothing(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", "10.200.0.2/32", settles=False)
        await on.put("gone", "10.200.0.3/32", settles=False)
        await on.remove("gone", settles=False)
        report = await on.tunnels.pass_once(remove_unknown=True, apply=False)
        assert [change.public_key for change in report.found.changes] == [key("a")]
        assert (report.done, on.sets(), await on.tombstones()) == ((), [], frozenset({key("gone")}))


# ---- an interface that can't be read


@pytest.mark.parametrize("fault", ["is_gone", "forbidden", "missing", "cuts_dump"])
async def test_what_cannot_be_read_is_unknown_and_nothing_is_changed(conninfo: str, fault: str) -> None:
    async with tunnels_on(conninfo, remove_unknown=True, interval_s=0.05) as on:
        await on.put("a", "10.200.0.2/32")
        setattr(on.wireguard, fault, True)
        before = on.held()
        with pytest.raises(WireguardUnavailable):
            await on.put("b", "10.200.0.3/32")
        setattr(on.wireguard, fault, False)
        assert {public_key: ips for public_key, ips in on.held().items() if public_key != key("b")} == before
        await on.tunnels.settle({"b"})
        assert on.held() == {key("a"): ["10.200.0.2/32"], key("b"): ["10.200.0.3/32"]}


async def test_an_outage_is_said_once_and_so_is_its_end(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.01)
    async with tunnels_on(conninfo) as on:
        await on.put("a", "10.200.0.2/32")
        with capture_logs() as logs:
            on.wireguard.is_gone = True
            with pytest.raises(WireguardUnavailable):
                await on.tunnels.settle({"a"})
            on.tunnels.registry.touch()
            await on.put("b", "10.200.0.3/32", settles=False)
            await until(lambda: on.figures("opendesk_tunnel_passes_total").get("unreadable", 0) > 5)
            on.wireguard.clear()  # made anew, it has neither key nor peers
            on.wireguard.private_key = PSK
            on.wireguard.is_gone = False
            await until(lambda: len(on.held()) == 2)
        assert len(named(logs, "tunnel.interface_unreadable")) == 1
        assert len(named(logs, "tunnel.interface_back")) == 1


async def test_a_caller_is_told_in_time_when_wg_hangs(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE_S", 0.1)
    async with tunnels_on(conninfo, runs=False) as on:
        on.wireguard.hangs = True
        with pytest.raises(WireguardUnavailable):
            await on.put("a", "10.200.0.2/32")
        on.wireguard.hangs = False
        monkeypatch.setattr(keeping, "SETTLE_S", 5)
        await on.tunnels.settle({"a"})
        assert on.held() == {key("a"): ["10.200.0.2/32"]}


async def test_a_preshared_key_that_cannot_be_opened_leaves_its_peer_as_it_is(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False, remove_unknown=True) as on:
        await on.put("a", "10.200.0.2/32", preshared_key=Secret(PSK))
        async with on.pool.connection() as conn:
            await conn.run("UPDATE tunnel_devices SET preshared_key_sealed = 'damaged', keepalive = 99")
        with capture_logs() as logs:
            await on.tunnels.pass_once(remove_unknown=True)
            report = await on.tunnels.pass_once(remove_unknown=True)
        assert (report.found.changes, report.found.unknown) == ((), ())
        assert on.wireguard.peers[key("a")].preshared_key == PSK
        assert [line["device"] for line in named(logs, "tunnel.device_left_as_it_is")] == ["a"]
        assert "can't be opened" in on.tunnels.registry.faults["a"]


# ---- off, and only pretended


async def test_without_an_interface_there_is_nothing_to_settle(conninfo: str) -> None:
    async with tunnels_on(conninfo, has_wg=False) as on:
        assert await on.tunnels.look() is None
        with pytest.raises(TunnelsOff):
            await on.tunnels.settle({"a"})
        with pytest.raises(TunnelsOff):
            await on.tunnels.pass_once(remove_unknown=False)


async def test_a_dry_run_calls_no_wg(conninfo: str) -> None:
    async with tunnels_on(conninfo, dry_run=True) as on:
        async with on.pool.connection() as conn:
            new = devices.NewDevice(id="a", public_key=key("a"), allowed_ips=("10.200.0.2/32",))
            await devices.put(conn, new, on.tunnels._sealer, dry_run=True)
        await on.tunnels.settle({"a"})
        report = await on.tunnels.pass_once(remove_unknown=True)
        assert [change.public_key for change in report.found.changes] == [key("a")]
        assert (await on.tunnels.look(), on.tunnels.offline_for("10.200.0.2")) == (None, None)
        assert (on.wireguard.calls, on.held()) == ([], {})


async def test_the_database_being_away_is_said_once(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.01)
    wireguard = SimulatedWireguard()
    with capture_logs() as logs:
        async with tunnels_on(conninfo, wireguard, interval_s=0.01) as on:
            await on.put("a", "10.200.0.2/32")
            await on.pool.aclose()
            on.tunnels.registry.tell(["a"])
            await until(lambda: bool(named(logs, "tunnel.database_away")))
    assert len(named(logs, "tunnel.database_away")) == 1
    assert list(wireguard.peers) == [key("a")]
