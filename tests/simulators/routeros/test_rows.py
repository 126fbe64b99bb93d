"""Adding, changing and removing rows is refused and taken as a router refuses and takes it."""

import pytest

from opendesk.simulators.routeros import HandClock, Refused, Router
from opendesk.simulators.routeros.menus import MENUS
from tests.simulators.routeros.talking import logged_in, trapped

LISTS = "/ip/firewall/address-list"
BINDINGS = "/ip/hotspot/ip-binding"
MAC = "AA:BB:CC:DD:EE:FF"


def only(router: Router, menu: str) -> dict[str, str]:
    (row,) = router.rows(menu)
    return row


def test_what_was_added_is_printed_as_the_router_writes_it() -> None:
    line = logged_in(Router(clock=HandClock()))
    words = ("=address=10.0.0.1/32", "=list=paid", '=comment=a "b"=c\n\tü?$', "=disabled=no")
    assert line.say(f"{LISTS}/add", *words) == [("!done", "=ret=*1")]
    assert line.say(f"{LISTS}/print") == [
        (
            "!re",
            "=.id=*1",
            "=address=10.0.0.1",
            "=list=paid",
            '=comment=a "b"=c\n\tü?$',
            "=disabled=false",
            "=dynamic=false",
            "=creation-time=2026-09-21 14:13:20",
        ),
        ("!done",),
    ]


def test_bytes_that_are_no_text_go_through_unharmed() -> None:
    router = Router()
    line = logged_in(router)
    line.session.answer((f"{LISTS}/add".encode(), b"=address=10.0.0.1", b"=list=a", b"=comment=caf\xe9"))
    assert any(b"=comment=caf\xe9" in words for words in line.session.answer((f"{LISTS}/print".encode(),)))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.7/24", "10.0.0.0/24"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("10.0.0.1-10.0.0.1", "10.0.0.1"),
        ("Example.ORG", "example.org"),
    ],
)
def test_an_address_is_kept_in_its_shortest_form(sent: str, kept: str) -> None:
    router = Router()
    router.run(f"{LISTS}/add", {"address": sent, "list": "a"})
    assert only(router, LISTS)["address"] == kept


@pytest.mark.parametrize("sent", ["aa-bb-cc-dd-ee-ff", "aa:bb:cc:dd:ee:ff", "AA.BB.CC.DD.EE.FF"])
def test_a_mac_is_kept_in_upper_case_with_colons(sent: str) -> None:
    router = Router()
    router.run(f"{BINDINGS}/add", {"mac-address": sent})
    assert only(router, BINDINGS)["mac-address"] == MAC


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((f"{LISTS}/add", "=address=10.0.0.300", "=list=a"), ("value of address expects range of ip addresses", 1)),
        ((f"{LISTS}/add", "=address=10.0.0.1"), ("missing =list=", 0)),
        (
            (f"{LISTS}/add", "=address=10.0.0.1", "=list=a", "=disabled=maybe"),
            ("input does not match any value of disabled", 1),
        ),
        ((f"{LISTS}/add", "=address=10.0.0.1", "=list=a", "=timeout=soon"), ("invalid value for argument timeout", 1)),
        (
            (f"{LISTS}/add", "=address=10.0.0.1", "=list=a", "=timeout=36w"),
            ("value of timeout out of range (0s..35w3d13h13m56s)", 1),
        ),
        ((f"{LISTS}/add", "=address=10.0.0.1", "=list=a", "=mac-address=x"), ("unknown parameter mac-address", None)),
        ((f"{LISTS}/print", "=everything="), ("unknown parameter everything", None)),
        ((f"{LISTS}/print", "bare"), ("unknown parameter bare", None)),
        ((f"{LISTS}/remove", "=.id=*1", "=comment=x"), ("unknown parameter comment", None)),
        ((f"{BINDINGS}/add", "=mac-address=AA:BB"), ("invalid value for argument mac-address", 1)),
        ((f"{BINDINGS}/add", "=type=open"), ("input does not match any value of type", 1)),
        ((f"{LISTS}/set", "=comment=x"), ("missing =.id=", 0)),
        ((f"{LISTS}/melt",), ("no such command", 0)),
        (("/ip/no/such/print",), ("no such command", 0)),
        (("/ip/hotspot/host/add", f"=mac-address={MAC}"), ("no such command", 0)),
        (("print",), ("no such command", 0)),
    ],
)
def test_what_a_router_does_not_take_is_trapped_and_changes_nothing(
    words: tuple[str, ...], told: tuple[str, int | None]
) -> None:
    router = Router()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "first"})
    before = {menu: router.rows(menu) for menu in (LISTS, BINDINGS)}
    assert logged_in(router).say(*words) == trapped(*told)
    assert {menu: router.rows(menu) for menu in (LISTS, BINDINGS)} == before


@pytest.mark.parametrize("verb", ["set", "remove", "enable", "disable"])
@pytest.mark.parametrize(("version", "text"), [("7.24", "no such item"), ("7.12.2", "no such item (4)")])
def test_a_row_that_is_gone_is_no_such_item_and_those_named_with_it_stay(verb: str, version: str, text: str) -> None:
    router = Router(version=version)
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a"})
    before = router.rows(LISTS)
    assert logged_in(router).say(f"{LISTS}/{verb}", "=.id=*1,*2") == trapped(text, 0)
    assert router.rows(LISTS) == before


@pytest.mark.parametrize(
    ("menu", "row", "other", "text"),
    [
        (LISTS, {"address": "10.0.0.1", "list": "a"}, {"list": "b"}, "already have such entry"),
        (BINDINGS, {"mac-address": MAC, "address": "10.0.0.1"}, {"address": "10.0.0.2"}, "such client already exists"),
        ("/user", {"name": "ann", "group": "read"}, {"name": "bob"}, "user with the same name already exists"),
        ("/system/scheduler", {"name": "one"}, {"name": "two"}, "item with this name already exists"),
    ],
)
def test_there_is_one_row_of_its_kind(menu: str, row: dict[str, str], other: dict[str, str], text: str) -> None:
    router = Router()
    router.run(f"{menu}/add", row)
    second = router.run(f"{menu}/add", row | other).ret
    before = router.rows(menu)
    for command, attributes in (("add", row), ("set", {".id": second or "", **row})):
        with pytest.raises(Refused, match=f"failure: {text}"):
            router.run(f"{menu}/{command}", attributes)
    assert router.rows(menu) == before


def test_a_strict_router_has_one_binding_of_a_mac_and_one_of_an_address() -> None:
    router = Router(strict_bindings=True)
    router.run(f"{BINDINGS}/add", {"mac-address": MAC, "address": "10.0.0.1"})
    for row in (
        {"mac-address": MAC, "address": "10.0.0.2"},
        {"mac-address": "AA:BB:CC:DD:EE:00", "address": "10.0.0.1"},
    ):
        with pytest.raises(Refused, match="such client already exists"):
            router.run(f"{BINDINGS}/add", row)


def test_what_was_freed_can_be_added_again_under_a_new_id() -> None:
    router = Router()
    row = {"address": "10.0.0.1", "list": "a"}
    ids = []
    for _ in range(17):
        ids.append(router.run(f"{LISTS}/add", row).ret)
        router.run(f"{LISTS}/remove", {".id": ids[-1] or ""})
    assert ids == [f"*{number:X}" for number in range(1, 18)]


def test_defaults_and_what_has_no_value_are_left_out() -> None:
    router = Router()
    router.run(f"{BINDINGS}/add", {"mac-address": MAC, "type": "regular", "server": "all", "comment": ""})
    assert only(router, BINDINGS).keys() == {".id", "mac-address", "disabled", "blocked", "bypassed"}


def test_an_empty_text_takes_a_value_away() -> None:
    router = Router()
    router.run(f"{BINDINGS}/add", {"mac-address": MAC, "address": "10.0.0.1", "comment": "x"})
    router.run(f"{BINDINGS}/set", {".id": "*1", "address": "", "comment": ""})
    assert {"address", "comment"} & only(router, BINDINGS).keys() == set()


def test_rows_are_switched_commented_moved_and_reset() -> None:
    router = Router()
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        router.run(f"{BINDINGS}/add", {"address": address, "type": "bypassed"})
    router.run(f"{BINDINGS}/disable", {"numbers": "*1,*2"})
    router.run(f"{BINDINGS}/enable", {".id": "*2"})
    router.run(f"{BINDINGS}/comment", {"numbers": "*3", "comment": "last"})
    router.run(f"{BINDINGS}/move", {"numbers": "*3", "destination": "*1"})
    router.run(f"{BINDINGS}/reset", {"numbers": "*2", "type": ""})
    router.run(f"{BINDINGS}/add", {"address": "10.0.0.4", "place-before": "*3"})
    rows = router.rows(BINDINGS)
    assert [row[".id"] for row in rows] == ["*4", "*3", "*1", "*2"]
    assert [row["disabled"] for row in rows] == ["false", "false", "true", "false"]
    assert [row.get("comment") for row in rows] == [None, "last", None, None]
    assert [row["bypassed"] for row in rows] == ["false", "true", "true", "false"]


def test_a_name_in_a_list_has_dynamic_rows_that_go_with_it() -> None:
    router = Router()
    router.state.names["example.org"] = ("192.0.2.1", "192.0.2.2")
    added = router.run(f"{LISTS}/add", {"address": "example.org", "list": "a"}).ret
    assert [(row["address"], row["dynamic"]) for row in router.rows(LISTS)] == [
        ("example.org", "false"),
        ("192.0.2.1", "true"),
        ("192.0.2.2", "true"),
    ]
    router.run(f"{LISTS}/remove", {".id": added or ""})
    assert router.rows(LISTS) == []


@pytest.mark.parametrize(
    ("group", "words", "is_allowed"),
    [
        ("read", (f"{LISTS}/print",), True),
        ("read", (f"{LISTS}/add", "=address=10.0.0.1", "=list=a"), False),
        ("read", ("/system/reboot",), True),
        ("write", (f"{LISTS}/add", "=address=10.0.0.1", "=list=a"), True),
        ("write", ("/user/set", "=.id=*1", "=password=new"), False),
        ("full", ("/user/set", "=.id=*1", "=password=new"), True),
        ("little", ("/system/reboot",), False),
        ("little", (f"{LISTS}/listen",), False),
    ],
)
def test_a_group_may_do_what_its_policy_says(group: str, words: tuple[str, ...], *, is_allowed: bool) -> None:
    router = Router(users={"ann": ("secret", "full")})
    router.run("/user/group/add", {"name": "little", "policy": "api"})
    router.run("/user/set", {".id": "*1", "group": group})
    refused = ("!trap", "=message=not enough permissions (9)")
    assert (refused not in logged_in(router, "ann", "secret").say(*words)) is is_allowed


def test_secrets_are_shown_to_none_and_keys_to_who_may_see_them() -> None:
    router = Router(users={"ann": ("secret", "full"), "bob": ("secret", "few")})
    router.run("/user/group/add", {"name": "few", "policy": "api,read"})
    router.run("/interface/wireguard/add", {"name": "wg0"})
    assert "password" not in router.rows("/user")[0]
    shown = [str(logged_in(router, user, "secret").say("/interface/wireguard/print")) for user in ("ann", "bob")]
    assert ["private-key" in text for text in shown] == [True, False]
    assert ["public-key" in text for text in shown] == [True, True]


def test_tunnels_and_their_peers() -> None:
    clock = HandClock()
    router = Router(clock=clock)
    key = "A" * 43 + "="
    peer = {
        "interface": "wg0",
        "public-key": key,
        "allowed-address": "10.9.0.1/24,fd00::1/64",
        "persistent-keepalive": "25",
    }
    with pytest.raises(Refused, match="input does not match any value of interface"):
        router.run("/interface/wireguard/peers/add", peer)
    router.run("/interface/wireguard/add", {"name": "wg0"})
    router.run("/interface/wireguard/peers/add", peer)
    with pytest.raises(Refused, match="entry already exists"):
        router.run("/interface/wireguard/peers/add", peer)
    router.handshake(key, rx=2_000_000, tx=10)
    clock.advance(89)
    row = only(router, "/interface/wireguard/peers")
    expected = {
        "allowed-address": "10.9.0.0/24,fd00::/64",
        "persistent-keepalive": "25s",
        "last-handshake": "1m29s",
        "rx": "2000000",
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(("version", "rx", "named"), [("7.12.2", "1.9MiB", False), ("7.24", "2000000", True)])
def test_peers_differ_between_versions(version: str, rx: str, *, named: bool) -> None:
    router = Router(version=version)
    key = "A" * 43 + "="
    router.run("/interface/wireguard/add", {"name": "wg0"})
    router.run("/interface/wireguard/peers/add", {"interface": "wg0", "public-key": key})
    router.handshake(key, rx=2_000_000)
    row = only(router, "/interface/wireguard/peers")
    assert (row["rx"], "name" in row) == (rx, named)
    line = logged_in(router)
    for attribute in ("name=phone", "responder=yes"):
        refused = trapped(f"unknown parameter {attribute.partition('=')[0]}")
        told = line.say("/interface/wireguard/peers/set", "=.id=*1", f"={attribute}")
        assert told == ([("!done",)] if named else refused)


def test_the_identity_has_no_id_and_can_be_changed() -> None:
    router = Router("cafe")
    assert only(router, "/system/identity") == {"name": "cafe"}
    router.run("/system/identity/set", {"name": "bar"})
    assert only(router, "/system/identity") == {"name": "bar"}
    assert router.run("/system/identity/get", {"value-name": "name"}).ret == "bar"


@pytest.mark.parametrize("menu", MENUS)
def test_every_menu_can_be_printed_empty_as_the_router_comes(menu: str) -> None:
    assert logged_in(Router()).say(f"{menu}/print")[-1] == ("!done",)
