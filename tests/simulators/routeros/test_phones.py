"""Phones behind the hotspot get through as the bindings of the time say."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.routeros.console import identifier, quoted
from opendesk.simulators.routeros import HandClock, Refused, Router

BINDINGS = "/ip/hotspot/ip-binding"
HOSTS = "/ip/hotspot/host"
MAC, IP = "AA:BB:CC:DD:EE:FF", "10.5.50.7"


def bind(router: Router, **attributes: str) -> str:
    told = {name.replace("_", "-"): value for name, value in attributes.items()}
    return router.run(f"{BINDINGS}/add", {"type": "bypassed", **told}).ret or ""


def drop_hosts(router: Router) -> None:
    for row in router.rows(HOSTS):
        router.run(f"{HOSTS}/remove", {".id": row[".id"]})


def test_a_binding_counts_from_the_next_host_row_on() -> None:
    router = Router()
    router.phone(MAC.lower(), IP)
    assert not router.is_online(MAC, IP)
    bind(router, mac_address=MAC, address=IP)
    assert not router.is_online(MAC, IP)
    drop_hosts(router)
    (row,) = router.rows(HOSTS)
    assert (row[".id"], row["bypassed"], row["mac-address"]) == ("*2", "true", MAC)
    assert router.is_online(MAC, IP)


@pytest.mark.parametrize(
    ("binding", "is_online"),
    [
        ({"mac_address": MAC, "address": IP}, True),
        ({"mac_address": MAC}, True),
        ({"address": IP}, True),
        ({"address": "10.5.50.0/24"}, True),
        ({"address": "10.5.50.1-10.5.50.9"}, True),
        ({}, True),
        ({"mac_address": MAC, "server": "hotspot1"}, True),
        ({"mac_address": MAC, "server": "other"}, False),
        ({"mac_address": MAC, "address": "10.5.50.8"}, False),
        ({"mac_address": "AA:BB:CC:DD:EE:00", "address": IP}, False),
        ({"mac_address": MAC, "disabled": "yes"}, False),
        ({"mac_address": MAC, "type": "blocked"}, False),
        ({"mac_address": MAC, "type": "regular"}, False),
    ],
)
def test_a_phone_is_online_if_an_enabled_binding_fits_it(binding: dict[str, str], *, is_online: bool) -> None:
    router = Router()
    bind(router, **binding)
    assert router.is_online(MAC, IP) is is_online
    assert router.rows(HOSTS) == []
    router.phone(MAC, IP)
    assert router.is_online(MAC, IP) is is_online


def test_the_first_binding_that_fits_counts() -> None:
    router = Router()
    bind(router, mac_address=MAC, type="blocked")
    bind(router, mac_address=MAC, address=IP)
    assert not router.is_online(MAC, IP)


@pytest.mark.parametrize(("follows", "stays_online"), [(True, False), (False, True)])
def test_whether_hosts_go_with_their_binding_depends_on_the_router(*, follows: bool, stays_online: bool) -> None:
    router = Router(follows_bindings=follows)
    binding = bind(router, mac_address=MAC, address=IP)
    router.phone(MAC, IP)
    router.run(f"{BINDINGS}/remove", {".id": binding})
    assert router.is_online(MAC, IP) is stays_online
    drop_hosts(router)
    assert not router.is_online(MAC, IP)


def test_a_quiet_phone_has_no_row_until_its_next_packet() -> None:
    router = Router()
    phone = router.phone(MAC, IP, is_chatty=False)
    drop_hosts(router)
    assert router.rows(HOSTS) == []
    phone.packet()
    assert len(router.rows(HOSTS)) == 1


def test_a_phone_that_moves_leaves_its_old_row_behind() -> None:
    router = Router()
    bind(router, mac_address=MAC, address=IP)
    phone = router.phone(MAC, IP)
    phone.move("10.5.50.8")
    assert [row["address"] for row in router.rows(HOSTS)] == [IP, "10.5.50.8"]
    assert not phone.is_online
    phone.leave()
    assert [row["address"] for row in router.rows(HOSTS)] == [IP]


def test_who_logged_in_is_online_until_the_host_or_the_active_row_is_removed() -> None:
    router = Router()
    phone = router.phone(MAC, IP)
    phone.login("ann")
    assert router.is_online(MAC, IP)
    assert [(row["user"], row["mac-address"]) for row in router.rows("/ip/hotspot/active")] == [("ann", MAC)]
    drop_hosts(router)
    assert router.rows("/ip/hotspot/active") == []
    assert not router.is_online(MAC, IP)
    phone.login("ann")
    router.run("/ip/hotspot/active/remove", {".id": router.rows("/ip/hotspot/active")[0][".id"]})
    assert not router.is_online(MAC, IP)


def test_a_scheduler_entry_ends_an_access_and_itself() -> None:
    clock = HandClock()
    router = Router(clock=clock)
    binding = bind(router, mac_address=MAC, address=IP)
    router.phone(MAC, IP)
    name = f"opendesk-{binding[1:]}-1790000000"
    text = f":do {{/ip hotspot ip-binding remove {identifier(binding)}}} on-error={{}}; /system scheduler remove {quoted(name)}"
    router.run("/system/scheduler/add", {"name": name, "interval": "1h", "on-event": text})
    clock.advance(3599)
    assert router.is_online(MAC, IP)
    clock.advance(1)
    assert not router.is_online(MAC, IP)
    assert router.rows(BINDINGS) == router.rows("/system/scheduler") == []
    assert not router.script_errors


def test_nobody_is_online_behind_a_router_that_is_down() -> None:
    clock = HandClock()
    router = Router(clock=clock)
    bind(router, mac_address=MAC)
    router.phone(MAC, IP)
    router.reboot(down_s=10)
    seen = []
    for seconds in (0, 9, 1):
        clock.advance(seconds)
        seen.append(router.is_online(MAC, IP))
    assert seen == [False, False, True]


MACS = (MAC, "AA:BB:CC:DD:EE:00")
CHANGES = st.one_of(
    st.tuples(st.just("add"), st.sampled_from([*MACS, ""]), st.sampled_from(["", IP, "10.5.50.0/24"])),
    st.tuples(st.just("set"), st.sampled_from([*MACS, ""]), st.sampled_from(["yes", "no"])),
    st.tuples(st.just("remove"), st.none(), st.none()),
)


@given(st.lists(CHANGES, max_size=12), st.data())
def test_whatever_becomes_of_bindings_nobody_stays_bypassed_without_one(
    changes: list[tuple[str, Any, Any]], data: st.DataObject
) -> None:
    router = Router()
    for number, mac in enumerate(MACS):
        router.phone(mac, f"10.5.50.{7 + number}")
    for verb, mac, other in changes:
        ids = [row[".id"] for row in router.rows(BINDINGS)]
        try:
            if verb == "add":
                bind(router, **{name: value for name, value in (("mac_address", mac), ("address", other)) if value})
            elif ids:
                told = {"mac-address": mac, "disabled": other} if verb == "set" else {}
                router.run(f"{BINDINGS}/{verb}", {".id": data.draw(st.sampled_from(ids)), **told})
        except Refused:
            continue
        held = {row["mac-address"]: row["bypassed"] for row in router.rows(HOSTS)}
        for number, mac_of in enumerate(MACS):
            binding = router.hotspot.binding_for(mac_of, f"10.5.50.{7 + number}", "hotspot1")
            assert held[mac_of] == "false" or binding is not None
        if data.draw(st.booleans()):
            drop_hosts(router)
