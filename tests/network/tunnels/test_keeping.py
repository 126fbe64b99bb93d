"""What keeps an interface right through outages, other people's clocks, dead resolvers and many calls at once."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs
import trio

from opendesk.network.tunnels.errors import DeviceNotFound, TunnelsOff, WireguardUnavailable
from opendesk.network.tunnels.keeping import answering, wanted
from opendesk.network.tunnels.keeping import keeper as keeping
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.tunnels.tunnelled import PATIENCE_S, On, key, tunnels_on, until

PSK = b64encode(bytes(range(32))).decode()
IP = "10.200.0.2/32"


def named(logs: Any, event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in logs if line["event"] == event]


async def nobody_answers(_host: str, _port: int) -> str | None:
    await trio.sleep_forever()


# ---- names of endpoints


async def test_a_name_that_nobody_answers_for_delays_nobody(conninfo: str) -> None:
    async with tunnels_on(conninfo, look_up=nobody_answers) as on:
        await on.put("a", IP, endpoint="hangs.example:7")
        await on.put("b", "10.200.0.3/32", endpoint="192.0.2.1:1")
        assert on.wireguard.peers[key("a")].endpoint is None
        assert on.wireguard.peers[key("b")].endpoint == "192.0.2.1:1"
        assert not any("hangs.example:7" in call for call in on.wireguard.calls)


async def test_a_name_is_dialled_once_it_is_known_also_when_it_was_changed(conninfo: str) -> None:
    known: dict[str, str] = {}
    asked = trio.Event()

    async def look_up(host: str, port: int) -> str | None:
        asked.set()
        while host not in known:  # noqa: ASYNC110  # a test's resolver
            await trio.sleep(0.005)
        return f"{known[host]}:{port}"

    async with tunnels_on(conninfo, look_up=look_up) as on:
        await on.put("a", IP, endpoint="bus.example:7")
        await asked.wait()
        known["bus.example"] = "192.0.2.7"
        await until(lambda: on.wireguard.peers[key("a")].endpoint == "192.0.2.7:7")
        await on.put("a", IP, endpoint="other.example:8")
        on.wireguard.peers[key("a")].endpoint = "198.51.100.1:9"
        await on.tunnels.pass_once(remove_unknown=False)
        known["other.example"] = "192.0.2.8"
        await until(lambda: on.wireguard.peers[key("a")].endpoint == "192.0.2.8:8")
        on.wireguard.peers[key("a")].endpoint = "198.51.100.1:9"  # it roamed, and may
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.wireguard.peers[key("a")].endpoint == "198.51.100.1:9"
        assert on.figures("opendesk_tunnel_drift_total") == {}


# ---- an endpoint that was changed


@pytest.mark.parametrize(("ago", "dialled"), [("1 minute", "192.0.2.2:2"), ("1 hour", "198.51.100.1:9")])
async def test_an_endpoint_changed_just_before_a_daemon_died_is_dialled_by_the_next(
    conninfo: str, ago: str, dialled: str
) -> None:
    wireguard = await changed_while_nobody_kept_it(conninfo, ago)
    async with tunnels_on(conninfo, wireguard) as on:
        await until(lambda: on.figures("opendesk_tunnel_passes_total") != {} and on.tunnels.registry.is_told)
        await on.tunnels.settle({"a"})
        assert wireguard.peers[key("a")].endpoint == dialled
        wireguard.peers[key("a")].endpoint = "203.0.113.1:1"
        on.tunnels.registry.tell_all()
        await on.tunnels.pass_once(remove_unknown=False)
        assert wireguard.peers[key("a")].endpoint == "203.0.113.1:1"


async def changed_while_nobody_kept_it(conninfo: str, ago: str) -> SimulatedWireguard:
    async with tunnels_on(conninfo) as before:
        await before.put("a", IP, endpoint="192.0.2.1:1")
    before.wireguard.peers[key("a")].endpoint = "198.51.100.1:9"
    async with tunnels_on(conninfo, has_wg=False) as off:
        await off.put("a", IP, endpoint="192.0.2.2:2", settles=False)
        await off.put("a", IP, meta={"n": 1}, settles=False)
        await off.sql(
            f"UPDATE tunnel_devices SET endpoint_changed_at = endpoint_changed_at - interval '{ago}' RETURNING 1"
        )
    return before.wireguard


async def test_a_command_dials_nobody_who_roams(conninfo: str) -> None:
    wireguard = await changed_while_nobody_kept_it(conninfo, "1 minute")
    async with tunnels_on(conninfo, wireguard, runs=False) as on:
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert (report.found.changes, wireguard.peers[key("a")].endpoint) == ((), "198.51.100.1:9")


async def test_what_else_was_changed_dials_nobody(conninfo: str) -> None:
    async with tunnels_on(conninfo) as before:
        await before.put("a", IP, endpoint="192.0.2.1:1")
        await before.put("a", IP, endpoint="192.0.2.1:1", keepalive=7, meta={"n": 1})
    before.wireguard.peers[key("a")].endpoint = "198.51.100.1:9"
    async with tunnels_on(conninfo, before.wireguard) as on:
        await until(lambda: on.figures("opendesk_tunnel_passes_total") != {} and on.tunnels.registry.is_told)
        await on.tunnels.settle({"a"})
        assert on.wireguard.peers[key("a")].endpoint == "198.51.100.1:9"


# ---- an endpoint that is forgotten


async def test_a_peer_whose_endpoint_is_forgotten_is_the_same_otherwise(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        await on.put("a", IP, endpoint="192.0.2.1:1", keepalive=7, preshared_key=Secret(PSK))
        on.wireguard.handshake(key("a"), int(on.now()))
        on.wireguard.calls.clear()
        await on.tunnels.forget_endpoint("a")
        [only] = on.sets()
        assert only.count(key("a")) == 2
        await on.tunnels.pass_once(remove_unknown=False)
        await on.tunnels.settle({"a"})
        peer = on.wireguard.peers[key("a")]
        assert (peer.endpoint, peer.handshake_unix) == (None, 0)
        assert (peer.allowed_ips, peer.keepalive, peer.preshared_key) == ([IP], 7, PSK)
        assert on.figures("opendesk_tunnel_drift_total") == {}


async def test_a_router_that_does_not_dial_is_dialled_again(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "FORGOTTEN_S", 0.05)
    async with tunnels_on(conninfo, interval_s=0.05) as on:
        await on.put("a", IP, endpoint="192.0.2.1:1")
        await on.tunnels.forget_endpoint("a")
        await until(lambda: on.wireguard.peers[key("a")].endpoint == "192.0.2.1:1")


async def test_nobodys_endpoint_can_not_be_forgotten(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        with pytest.raises(DeviceNotFound):
            await on.tunnels.forget_endpoint("nobody")
        await on.put("a", IP)
        on.wireguard.is_gone = True
        with pytest.raises(WireguardUnavailable):
            await on.tunnels.forget_endpoint("a")
    async with tunnels_on(conninfo, has_wg=False) as off:
        with pytest.raises(TunnelsOff):
            await off.tunnels.forget_endpoint("a")


async def test_what_sets_something_takes_turns(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        for number in range(5):
            await on.put(f"d{number}", f"10.200.1.{number}/32", endpoint="192.0.2.1:1", settles=False)
        await on.tunnels.pass_once(remove_unknown=False)
        run, at_once, most = on.wireguard.run, 0, 0

        async def counted(command: Any, **rest: Any) -> Any:
            nonlocal at_once, most
            at_once += command[1] == "set"
            most = max(most, at_once)
            await trio.sleep(0.005)
            try:
                return await run(command, **rest)
            finally:
                at_once -= command[1] == "set"

        on.tunnels._wg.run = counted  # type: ignore[union-attr]  # it has one
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(on.tunnels.forget_endpoint, f"d{number}")
                nursery.start_soon(partial(on.put, f"d{number}", f"10.200.2.{number}/32"))
        assert most == 1
        assert on.held() == {key(f"d{number}"): [f"10.200.2.{number}/32"] for number in range(5)}


# ---- unknown peers, a few at a time


async def strangers(on: On, count: int = 100) -> None:
    for number in range(count):
        on.wireguard.add(key(f"{number}"))


async def test_an_interval_that_is_short_removes_them_no_faster(conninfo: str) -> None:
    async with tunnels_on(conninfo, remove_unknown=True, interval_s=0.02) as on:
        await strangers(on)
        await until(lambda: sum(on.figures("opendesk_tunnel_passes_total").values()) > 5)
        assert len(on.held()) == 90


async def test_neither_do_retries_after_what_failed(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.02)
    wireguard = SimulatedWireguard()

    async def run(command: Any, **rest: Any) -> Any:
        done = await SimulatedWireguard.run(wireguard, command, **rest)
        wireguard.is_gone = command[1] == "set"  # the reading after it fails
        return done

    async with tunnels_on(conninfo, wireguard, runs=False, remove_unknown=True) as on:
        await strangers(on)
        on.tunnels._wg.run = run  # type: ignore[union-attr]  # it has one
        with pytest.raises(WireguardUnavailable):
            await on.tunnels.settle({"a"})
        for _ in range(5):
            wireguard.is_gone = False
            await on.tunnels.settle({"a"})
        assert len(on.held()) == 90


async def test_nor_restarts_and_commands(conninfo: str) -> None:
    wireguard = SimulatedWireguard()
    for time in range(3):
        async with tunnels_on(conninfo, wireguard, remove_unknown=True, runs=False) as on:
            if not time:
                await strangers(on)
            report = await on.tunnels.pass_once(remove_unknown=True)
            assert (len(on.held()), report.is_too_soon) == (90, time > 0)
    async with tunnels_on(conninfo, wireguard, runs=False) as on:
        await on.tunnels.pass_once(remove_unknown=True, most=7)  # an operator's word
        assert len(on.held()) == 83
        assert (await on.tunnels.pass_once(remove_unknown=True)).is_too_soon  # and they are the last ones
        await on.age_removals()
        await on.tunnels.pass_once(remove_unknown=True)
        assert len(on.held()) == 75


async def test_where_none_is_unknown_none_is_too_soon(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", IP)
        for _ in range(2):
            assert not (await on.tunnels.pass_once(remove_unknown=True)).is_too_soon
        assert await on.sql("SELECT FROM tunnel_removals") == []


# ---- what a caller is told


async def test_a_tombstone_of_another_device_is_none_of_a_callers(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("stuck", "10.200.0.9/32")
        run = on.wireguard.run

        async def stuck(command: Any, **rest: Any) -> Any:
            done = await run(command, **rest)
            if key("stuck") not in on.wireguard.peers:
                on.wireguard.add(key("stuck"))  # somebody puts it back each time
            return done

        on.tunnels._wg.run = stuck  # type: ignore[union-attr]  # it has one
        with pytest.raises(WireguardUnavailable, match="doesn't keep"):
            await on.remove("stuck")
        await on.put("a", IP)
        async with on.pool.connection() as conn:
            await devices.remove_key(conn, key("foreign"), dry_run=False)
        await on.tunnels.settle((), [key("foreign")])
        async with on.pool.connection() as conn:
            await devices.remove_key(conn, key("stuck"), dry_run=False)
        with pytest.raises(WireguardUnavailable, match="doesn't keep"):
            await on.tunnels.settle((), [key("stuck")])


async def test_a_device_that_can_not_be_put_is_told_why(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", IP, preshared_key=Secret(PSK))
        await on.sql("UPDATE tunnel_devices SET preshared_key_sealed = 'damaged' RETURNING 1")
        with pytest.raises(WireguardUnavailable, match="preshared key can't be opened") as told:
            await on.tunnels.settle({"a"})
        assert told.value.members == {"deviceId": "a"}
        await on.put("b", "10.200.0.3/32")


# ---- without the database


async def test_drift_is_mended_while_the_database_is_away(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.02)
    async with tunnels_on(conninfo, interval_s=0.05, remove_unknown=True) as on:
        await on.put("a", IP)
        await on.put("gone", "10.200.0.9/32")
        await on.remove("gone")
        await on.pool.aclose()
        with capture_logs() as logs:
            on.tunnels.registry.tell_all()
            await until(lambda: bool(named(logs, "tunnel.database_away")))
            on.wireguard.remove(key("a"))
            on.wireguard.add(key("gone"), "10.200.0.9/32")
            on.wireguard.add(key("stranger"))
            await until(lambda: on.held() == {key("a"): [IP], key("stranger"): []})
            done = on.figures("opendesk_tunnel_passes_total")["database_away"]
            await until(lambda: on.figures("opendesk_tunnel_passes_total")["database_away"] > done + 2)
        assert key("stranger") in on.held()
        assert len(named(logs, "tunnel.database_away")) == 1
        assert {line["kind"] for line in named(logs, "tunnel.drift")} == {"missing", "removed"}


@asynccontextmanager
async def mute() -> AsyncIterator[None]:
    await trio.Event().wait()  # which nobody sets
    yield


@pytest.mark.parametrize("step", ["read", "strangers", "claim", "bury", "rotation", "bindings"])
async def test_a_database_that_says_nothing_keeps_no_pass(
    conninfo: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", IP)
        await on.put("gone", "10.200.0.9/32")
        await on.put("b", "10.200.0.3/32")
        on.tunnels.registry.is_told = True
        if step == "bury":
            await on.remove("gone")
        if step == "rotation":
            await on.put("b", public_key=key("next"))
        on.wireguard.remove(key("a"))
        if step == "claim":
            on.wireguard.add(key("stranger"))
            await on.tunnels.pass_once(remove_unknown=False)
            on.wireguard.remove(key("a"))
        monkeypatch.setattr(answering, "ANSWER_S", 0.05)
        monkeypatch.setattr(on.pool, "connection", mute)
        if step == "read":
            on.tunnels.registry.tell(["a"])
        if step == "strangers":
            on.wireguard.add(key("other"))
        if step == "rotation":
            on.wireguard.handshake(key("next"), int(on.now()) + 5)
        with trio.fail_after(PATIENCE_S):
            report = await on.tunnels.pass_once(remove_unknown=step == "claim")
        assert (report.fault is None) == (step == "bindings")
        assert key("a") in on.held()


async def test_the_service_mends_drift_while_the_database_says_nothing(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.02)
    monkeypatch.setattr(answering, "ANSWER_S", 0.05)
    async with tunnels_on(conninfo, interval_s=0.05) as on:
        await on.put("a", IP)
        monkeypatch.setattr(on.pool, "connection", mute)
        with capture_logs() as logs:
            on.tunnels.registry.tell_all()
            await until(lambda: bool(named(logs, "tunnel.database_away")))
            on.wireguard.remove(key("a"))
            await until(lambda: on.held() == {key("a"): [IP]})


async def test_bindings_that_can_not_be_made_stop_nothing(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", tunnel_ip="10.200.0.2", settles=False)
        await on.sql("ALTER TABLE tunnel_bindings ADD CONSTRAINT never CHECK (false) NOT VALID")
        await on.sql("DELETE FROM tunnel_bindings")  # as of one that was made before there were any
        with capture_logs() as logs:
            for _ in range(2):
                report = await on.tunnels.pass_once(remove_unknown=False)
        assert (report.left.changes, on.held()) == ((), {key("a"): [IP]})
        assert len(named(logs, "tunnel.bindings_not_made")) == 1
        async with on.pool.connection() as conn:
            assert await bindings.keys(conn, dry_run=False) == frozenset()


# ---- tombstones


async def test_of_tombstones_those_of_who_changed_are_read(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_of_them(*_: Any, **__: Any) -> None:
        raise AssertionError

    async with tunnels_on(conninfo, runs=False) as on:
        for name, ip in (("a", "10.200.0.2/32"), ("b", "10.200.0.3/32"), ("c", "10.200.0.4/32")):
            await on.put(name, ip)
        registry = on.tunnels.registry
        monkeypatch.setattr(devices, "tombstones", all_of_them)
        for name in ("a", "b", "c"):
            await on.remove(name)
        assert registry.tombstones == {key("a"): "a", key("b"): "b", key("c"): "c"}
        await on.put("other", IP, public_key=key("a"))  # took it over
        assert registry.tombstones == {key("b"): "b", key("c"): "c"}
        await on.sql("DELETE FROM tunnel_keys WHERE removed_at IS NOT NULL RETURNING 1")  # buried by others
        await on.tunnels.settle({"b"})
        assert registry.tombstones == {key("c"): "c"}
        await on.tunnels.settle((), [key("c")])
        assert registry.tombstones == {}
        await on.sql(f"INSERT INTO tunnel_keys VALUES (false, '{key('x')}', NULL, now()) RETURNING 1")
        await on.tunnels.settle((), [key("x")])
        assert registry.tombstones == {key("x"): None}


# ---- theft


async def test_addresses_of_a_device_that_can_not_be_put_are_taken_back_too(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", "10.50.0.0/24", preshared_key=Secret(PSK))
        await on.sql("UPDATE tunnel_devices SET preshared_key_sealed = 'damaged' RETURNING 1")
        on.wireguard.add(key("a"), "10.50.0.0/24", "10.50.0.128/25")
        on.wireguard.add(key("thief"), "10.50.0.7/32", "10.60.0.0/24")
        on.wireguard.add(key("same"), "10.50.0.0/24")
        on.tunnels.registry.tell_all()
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {key("a"): ["10.50.0.128/25"], key("thief"): ["10.60.0.0/24"], key("same"): []}
        assert report.left.changes == ()


async def test_a_part_of_an_address_is_taken_back_from_peers_that_are_not_registered(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("depot", "192.168.40.0/24")
        on.wireguard.add(key("thief"), "192.168.40.128/25", "10.9.0.1/32", keepalive=9, preshared_key=PSK)
        on.wireguard.add(key("by hand"), "192.168.40.7/32", "192.168.0.0/16")
        async with on.pool.connection() as conn:
            await bindings.bind(conn, key("by hand"), "x", "10.9.0.2", dry_run=False)
        with capture_logs() as logs:
            await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {
            key("depot"): ["192.168.40.0/24"],
            key("thief"): ["10.9.0.1/32"],
            key("by hand"): ["192.168.0.0/16"],
        }
        thief = on.wireguard.peers[key("thief")]
        assert (thief.keepalive, thief.preshared_key) == (9, PSK)
        told = named(logs, "tunnel.drift")
        assert {(line["kind"], line["device"]) for line in told} == {("stolen", "depot")}
        assert any(key("thief") in line["detail"] for line in told)
        assert on.figures("opendesk_tunnel_drift_total")["stolen"] == 2
        [taken] = named(logs, "tunnel.overlap_taken_off")
        assert taken["count"] == 2


# ---- the interface's own key


async def test_another_key_than_routers_know_is_said_once_and_shown(conninfo: str) -> None:
    wireguard = SimulatedWireguard()
    with capture_logs() as logs:
        async with tunnels_on(conninfo, wireguard, runs=False, public_key=key("told")) as on:
            for _ in range(3):
                await on.tunnels.pass_once(remove_unknown=False)
            assert on.figures("opendesk_tunnel_key_differs") == {"": 1}
    [line] = named(logs, "tunnel.key_differs")
    assert (line["public_key"], line["routers_know"]) == (wireguard.public_key, key("told"))


async def test_a_key_that_changes_is_said_where_nobody_said_which_it_is(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        with capture_logs() as logs:
            await on.tunnels.pass_once(remove_unknown=False)
            before, on.wireguard.private_key = on.wireguard.private_key, PSK
            await on.tunnels.pass_once(remove_unknown=False)
            assert on.figures("opendesk_tunnel_key_differs") == {"": 1}
            on.wireguard.private_key = before
            await on.tunnels.pass_once(remove_unknown=False)
        assert on.figures("opendesk_tunnel_key_differs") == {}
        assert len(named(logs, "tunnel.key_differs")) == 1


async def test_what_is_not_seen_is_not_shown(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 0.02)
    async with tunnels_on(conninfo, has_wg=False) as off:
        assert "opendesk_tunnel_interface_up" not in off.metrics.render().decode()
    async with tunnels_on(conninfo) as on:
        on.wireguard.add(key("stranger"))
        await on.put("a", IP)
        await until(lambda: on.figures("opendesk_tunnel_peers") == {"NEVER_CONNECTED": 2})
        assert on.figures("opendesk_tunnel_unknown_peers") == {"": 1}
        assert "opendesk_tunnel_interface_up 1.0" in on.metrics.render().decode()
        on.wireguard.is_gone = True
        with pytest.raises(WireguardUnavailable, match="opendesk tunnel init"):
            await on.tunnels.look(0)
        shown = on.metrics.render().decode()
        assert "opendesk_tunnel_interface_up 0.0" in shown
        assert not any(name in shown for name in ("tunnel_peers", "unknown_peers", "key_differs"))
        on.wireguard.is_gone = False
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.figures("opendesk_tunnel_unknown_peers") == {"": 1}


# ---- other people's clocks, and calls at once


async def test_a_key_is_proven_though_the_databases_clock_is_ahead(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", IP)
        await on.put("a", public_key=key("new"))
        await on.sql("UPDATE tunnel_devices SET next_since = now() + interval '10 minutes' RETURNING 1")
        await on.tunnels.settle({"a"})
        on.wireguard.handshake(key("new"), int(on.now()) + 1)
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {key("new"): [IP]}


async def test_a_handshake_of_before_the_rotation_proves_nothing(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        on.wireguard.add(key("new"))
        on.wireguard.handshake(key("new"), int(on.now()) - 100)
        await on.put("a", IP)
        await on.put("a", public_key=key("new"))
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {key("a"): [IP], key("new"): []}


async def test_what_calls_change_and_change_back_between_two_passes_is_no_drift(conninfo: str) -> None:
    async with tunnels_on(conninfo, runs=False) as on:
        await on.put("a", IP)
        await on.put("b", "10.200.0.9/32")
        hurry = on.tunnels._keeper._hurry  # type: ignore[union-attr]  # what a call does before its pass
        await on.put("a", "10.200.0.3/32", settles=False)
        await on.remove("b", settles=False)
        for name in ("a", "b"):
            on.tunnels._keeper._hurried.add(name)  # type: ignore[union-attr]  # likewise
        on.tunnels.registry.tell({"a", "b"})
        await hurry()
        assert on.held() == {key("a"): ["10.200.0.3/32"]}
        await on.put("a", IP, settles=False)
        await on.put("b", "10.200.0.9/32", settles=False)
        on.tunnels.registry.tell({"a", "b"})
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.held() == {key("a"): [IP], key("b"): ["10.200.0.9/32"]}
        assert on.figures("opendesk_tunnel_drift_total") == {}
        on.wireguard.remove(key("a"))
        await on.tunnels.pass_once(remove_unknown=False)
        assert on.figures("opendesk_tunnel_drift_total") == {"missing": 1}


async def test_many_that_come_back_are_told_of_at_once(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 0.02)
    async with tunnels_on(conninfo) as on:
        for number in range(20):
            await on.put(f"d{number}", tunnel_ip=f"10.200.1.{number}", settles=False)
        await until(lambda: on.figures("opendesk_tunnel_peers") == {"NEVER_CONNECTED": 20})
        await until(lambda: len(on.tunnels._watch._presence._statuses) == 20)
        for number in range(20):
            on.wireguard.handshake(key(f"d{number}"), int(on.now()))
        await until(lambda: len(on.back) == 20)
        assert len(on.told_back) == 1


# ---- passes


async def test_what_a_call_is_waiting_for_is_left_to_its_pass(conninfo: str) -> None:
    """Two passes for one change would keep the next call waiting."""
    async with tunnels_on(conninfo, runs=False, interval_s=0) as on:
        await on.tunnels.pass_once(remove_unknown=False)
        keeper = on.tunnels._keeper
        assert keeper is not None
        await on.put("a", "10.200.0.2/32", settles=False)
        keeper.registry.tell(["a"])
        keeper._settling = 1
        assert await keeper._passed()
        assert on.sets() == []
        keeper._settling = 0
        assert await keeper._passed()
        assert len(on.sets()) == 1


async def test_what_a_call_left_undone_is_seen_to_at_once(conninfo: str) -> None:
    async with tunnels_on(conninfo) as on:
        on.wireguard.is_gone = True
        with pytest.raises(WireguardUnavailable):
            await on.put("a", "10.200.0.2/32")
        on.wireguard.is_gone = False
        await until(lambda: on.held() == {key("a"): ["10.200.0.2/32"]})
