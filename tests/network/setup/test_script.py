"""What is pasted makes one of each, however often, and nobody's name is a command."""

import base64
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from opendesk.network.setup.script import (
    ADDRESSES,
    FILTER,
    MAX_LINE,
    PEERS,
    ROUTES,
    WIREGUARD,
    Tunnel,
    commands,
    key_lines,
)
from opendesk.simulators.routeros import HandClock, Router
from opendesk.simulators.routeros.menus import MENUS
from tests.network.setup.wires import KEY, OTHER_KEY, tunnel_of

OURS = (WIREGUARD, PEERS, ADDRESSES, ROUTES)
NETWORKS = ("10.200.0.0/16", "10.9.0.0/24", "192.168.88.0/24", "172.16.0.0/12")

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)
keys = st.binary(min_size=32, max_size=32).map(lambda key: base64.b64encode(key).decode())
tunnels = st.builds(
    tunnel_of,
    device_id=printable.map(lambda text: text[:64]),
    interface=printable.map(lambda text: text[:32]),
    address=st.sampled_from(["10.200.0.7", "10.200.3.9/24", "10.200.255.254/16"]),
    vps_public_key=keys,
    vps_host=st.sampled_from(["vps.test", "203.0.113.9", "2001:db8::1"]),
    vps_port=st.integers(1, 65_535),
    allowed_ips=st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=4, unique=True).map(tuple),
    keepalive=st.integers(0, 65_535),
)


def table(router: Router) -> dict[str, list[dict[str, str]]]:
    return {menu: router.rows(menu) for menu in MENUS}


def pasted(*scripts: tuple[str, ...]) -> Router:
    router = Router(clock=HandClock())
    for script in scripts:
        router.paste(script)
    assert list(router.script_errors) == []
    return router


def test_the_script_makes_one_of_each() -> None:
    router = pasted(commands(tunnel_of()))
    assert [len(router.rows(menu)) for menu in OURS] == [1, 1, 1, 1]
    [peer] = router.rows(PEERS)
    assert (peer["endpoint-address"], peer["endpoint-port"], peer["persistent-keepalive"]) == (
        "vps.test",
        "51820",
        "25s",
    )


def test_the_key_that_is_shown_is_the_one_that_the_router_made() -> None:
    router = Router(clock=HandClock())
    shown = router.paste(key_lines(tunnel_of()))
    assert shown == [router.rows(WIREGUARD)[0]["public-key"]]
    assert router.paste(commands(tunnel_of())) == shown


@settings(max_examples=60)
@given(tunnels, st.integers(2, 4))
def test_pasted_any_number_of_times_is_pasted_once(tunnel: Tunnel, times: int) -> None:
    router = pasted(commands(tunnel))
    once = table(router)
    for _ in range(times):
        router.paste(commands(tunnel))
    assert table(router) == once
    assert list(router.script_errors) == []


@settings(max_examples=60)
@given(tunnels, tunnels)
def test_the_last_one_that_was_pasted_counts(first: Tunnel, last: Tunnel) -> None:
    again = tunnel_of(
        interface=first.interface,
        vps_public_key=last.vps_public_key,
        allowed_ips=last.allowed_ips,
        address=last.address,
    )
    router = pasted(commands(first), commands(again))
    assert [len(router.rows(menu)) for menu in OURS[:3]] == [1, 1, 1]
    assert {row["dst-address"] for row in router.rows(ROUTES)} == set(again.routed)


@settings(max_examples=100)
@given(tunnels)
def test_no_name_is_a_command(tunnel: Tunnel) -> None:
    """Everything else on the router is as it was, and ours is under the very name."""
    router, untouched = pasted(commands(tunnel)), table(Router(clock=HandClock()))
    assert {menu: rows for menu, rows in table(router).items() if menu not in OURS} == {
        menu: rows for menu, rows in untouched.items() if menu not in OURS
    }
    assert [row["name"] for row in router.rows(WIREGUARD)] == [tunnel.interface]


@given(tunnels)
def test_lines_are_short_and_each_is_one(tunnel: Tunnel) -> None:
    for line in commands(tunnel):
        assert len(line) <= MAX_LINE
        assert line.isprintable()


def test_the_longest_line_is_short_enough() -> None:
    networks = tuple(f"10.{number + 100}.128.128/25" for number in range(8))
    longest = tunnel_of(
        device_id='"' * 64,
        interface='"' * 32,
        vps_host="h" * 253,
        keepalive=65_535,
        allowed_ips=networks,
        vps_address="100.200.100.200",
        api_port=65_535,
    )
    assert max(map(len, commands(longest))) <= MAX_LINE


def test_what_others_made_stays() -> None:
    router = Router(clock=HandClock())
    router.run(f"{WIREGUARD}/add", {"name": "wg-opendesk"})
    router.run(f"{PEERS}/add", {"interface": "wg-opendesk", "public-key": OTHER_KEY, "comment": "mine"})
    router.run(f"{ROUTES}/add", {"dst-address": "10.1.0.0/16", "gateway": "wg-opendesk"})
    before = [row for menu in OURS for row in router.rows(menu)]
    router.paste(commands(tunnel_of()))
    assert [row for row in before if row not in [row for menu in OURS for row in router.rows(menu)]] == []


def test_what_somebody_else_switched_off_stays_off_and_is_told() -> None:
    router = Router(clock=HandClock())
    router.run(f"{WIREGUARD}/add", {"name": "wg-opendesk", "disabled": "yes"})
    router.run(f"{ROUTES}/add", {"dst-address": "10.200.0.0/16", "gateway": "wg-opendesk", "disabled": "yes"})
    _key, *told = router.paste(commands(tunnel_of()))
    assert ["interface" in told[0], "10.200.0.0/16" in told[1]] == [True, True]
    assert [row["disabled"] for menu in (WIREGUARD, ROUTES) for row in router.rows(menu)] == ["true", "true"]
    router.run(f"{WIREGUARD}/set", {"numbers": "wg-opendesk", "comment": "opendesk"})
    assert len(router.paste(commands(tunnel_of()))) == 2
    assert router.rows(WIREGUARD)[0]["disabled"] == "false"


def test_the_line_for_the_firewall_is_there_and_is_none_until_a_person_makes_it_one() -> None:
    lines = [line for line in commands(tunnel_of(vps_address="10.200.0.1", api_port=8730)) if "firewall/filter" in line]
    assert [line[:6] for line in lines] == ["# :if "] * 2
    assert all("dst-port=8730 src-address=10.200.0.1 " in line for line in lines)
    assert "src-address" not in "".join(commands(tunnel_of()))


@pytest.mark.parametrize(
    ("there", "at"),
    [
        ([], 0),
        ([{"action": "fasttrack-connection", "dynamic": "yes"}], 1),
        ([{"action": "jump", "dynamic": "yes"}, {"action": "drop"}], 1),
        ([{"action": "accept"}, {"action": "drop"}], 0),
    ],
)
def test_the_line_for_the_firewall_goes_before_the_first_rule_of_a_person(there: list[dict[str, str]], at: int) -> None:
    router = pasted(commands(tunnel_of()))
    for rule in there:
        router.run(f"{FILTER}/add", {"chain": "input", **rule})
    lines = [line for line in commands(tunnel_of()) if "firewall/filter" in line]
    for _ in range(2):
        router.paste([line.removeprefix("# ") for line in lines])
        assert list(router.script_errors) == []
        comments = [rule.get("comment") for rule in router.rows(FILTER)]
        assert (comments.index("opendesk"), len(comments)) == (at, len(there) + 1)


def test_what_somebody_else_made_in_the_place_of_ours_is_told() -> None:
    router = Router(clock=HandClock())
    router.run(f"{WIREGUARD}/add", {"name": "wg-opendesk"})
    router.run(f"{PEERS}/add", {"interface": "wg-opendesk", "public-key": KEY})
    router.run(f"{ADDRESSES}/add", {"interface": "wg-opendesk", "address": "10.200.0.9/16"})
    told = [line for line in router.paste(commands(tunnel_of())) if line.startswith("IN THE WAY")]
    assert [word in line for word, line in zip(("peer", "address"), told, strict=True)] == [True, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "bus"}, {"address": "10.200.0.7/33"}, {"address": "fd00::7/128"}, {"allowed_ips": ()}, {"allowed_ips": ("10.200.0.7/16",)},
        {"allowed_ips": tuple(f"10.{number}.0.0/16" for number in range(9))}, {"vps_public_key": "short"}, {"vps_public_key": "é" * 44},
        {"vps_host": 'a"; /user remove admin'}, {"vps_host": ""}, {"vps_port": 0}, {"vps_port": 65_536}, {"keepalive": -1}, {"vps_address": "fd00::1"}, {"api_port": 0},
        {"keepalive": 65_536}, {"interface": ""}, {"interface": "w" * 33}, {"interface": "wg\n/user"}, {"device_id": "bus\r7"}, {"device_id": "büs"},
    ],
)  # fmt: skip
def test_what_no_router_could_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        tunnel_of(**wrong)


def test_no_private_key_passes() -> None:
    assert not re.search("private|preshared-key=", "\n".join(commands(tunnel_of())))
