"""Files of the system before, as they are read: every spelling, nothing guessed, nothing lost without a word."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.tunnels.takeover import importing
from opendesk.network.tunnels.takeover.fields import Token
from opendesk.network.tunnels.takeover.importing import Entry, Found
from opendesk.settings.secret import Secret
from tests.network.tunnels.test_devices import key

MAC = "AA:BB:CC:DD:EE:0F"


def read(*documents: object) -> Found:
    return importing.read((f"f{number}.json", json.dumps(one).encode()) for number, one in enumerate(documents, 1))


def only(*documents: object) -> Entry:
    found = read(*documents)
    assert (found.faults, found.unknown) == ((), ())
    [entry] = found.entries
    return entry


def why(*documents: object) -> str:
    found = read(*documents)
    assert found.entries == ()
    [fault] = found.faults
    return f"{fault.where} {fault.why}"


PEER = {"deviceId": "bus-7", "publicKey": key(1), "allowedIps": ["10.200.0.7"], "tunnelIp": "10.200.0.7"}


@pytest.mark.parametrize(
    "document",
    [
        [PEER],
        PEER,
        {"bus-7": PEER},
        {"bus-7": {name: value for name, value in PEER.items() if name != "deviceId"}},
        {key(1): {name: value for name, value in PEER.items() if name != "publicKey"}},
        {"devices": [PEER]},
        {"devices": {"bus-7": PEER}, "peers": {}, "tokens": []},
        {"peers": {key(1): PEER}, "tokens": None},
        [{"id": "bus-7", "mikrotikPublicKey": key(1), "allowedIPs": "10.200.0.7/32", "tunnel_ip": "10.200.0.7/32"}],
        [
            {
                "deviceId": "bus-7",
                "wireguard": {"peerPublicKey": key(1), "allowedIps": ["10.200.0.7/32"]},
                "tunnelIp": "10.200.0.7",
            }
        ],
    ],
    ids=range(10),
)
def test_one_device_in_every_shape(document: object) -> None:
    entry = only(document)
    assert (entry.device_id, entry.public_key) == ("bus-7", key(1))
    assert (entry.allowed_ips, entry.tunnel_ip) == (("10.200.0.7/32",), "10.200.0.7")


def test_everything_that_may_be_said_of_one() -> None:
    entry = only(
        [
            {
                **PEER,
                "endpoint": "192.0.2.1:51820",
                "persistentKeepalive": "off",
                "presharedKey": key(9),
                "meta": {"line": 7},
                "deviceName": "Bus 7",
                "mikrotik": {"publicIp": "203.0.113.9", "apiUser": "api", "apiPassword": "s3cret", "apiPort": "8729"},
                "mikrotikIp": "10.200.0.7",
                "tokens": [{"deviceToken": "tok", "mikId": "r1", "ip": "10.5.50.12", "mac": MAC.lower()}],
            }
        ]
    )
    assert (entry.endpoint, entry.keepalive, entry.preshared_key) == ("192.0.2.1:51820", 0, Secret(key(9)))
    assert (entry.meta, entry.device_name, entry.public_ip) == ({"line": 7}, "Bus 7", "203.0.113.9")
    assert (entry.user, entry.password, entry.port) == ("api", Secret("s3cret"), 8729)
    assert entry.mikrotik_ip == "10.200.0.7"
    assert entry.tokens == (Token(Secret("tok"), "r1", "10.5.50.12", MAC),)
    assert "s3cret" not in repr(entry)
    assert "tok'" not in repr(entry)


@pytest.mark.parametrize(
    "document",
    [
        {"tokens": {"tok": {"mikId": "r1", "ip": "10.5.50.12", "mac": MAC}}},
        {"tokens": [{"deviceToken": "tok", "mikId": "r1", "ip": "10.5.50.12", "mac": MAC}]},
        [{"deviceToken": "tok", "mikId": "r1", "ip": "10.5.50.12", "mac": MAC}],
        {"r1": {"tokens": [{"token": "tok", "ip": "10.5.50.12", "mac": MAC}]}},
    ],
    ids=range(4),
)
def test_tokens_in_every_shape(document: object) -> None:
    entry = only(document)
    assert entry.tokens == (Token(Secret("tok"), "r1", "10.5.50.12", MAC),)
    assert "tok" not in entry.where.replace("tokens", "")


def test_what_several_files_say_of_one_device_is_put_together() -> None:
    devices = [{"deviceId": "bus-7", "tunnelIp": "10.200.0.7", "publicKey": key(1)}]
    peers = {
        key(1): {"mikrotikIp": "10.200.0.7", "keepalive": 25},
        key(2): {"deviceId": "bus-8", "tunnelIp": "10.200.0.8"},
    }
    found = read(peers, devices)
    assert [(one.device_id, one.public_key, one.tunnel_ip) for one in found.entries] == [
        ("bus-7", key(1), "10.200.0.7"),
        ("bus-8", key(2), "10.200.0.8"),
    ]
    assert (found.entries[0].mikrotik_ip, found.entries[0].keepalive) == ("10.200.0.7", 25)


def test_where_files_contradict_each_other_nothing_of_the_device_is_taken() -> None:
    told = why([PEER], {key(2): {**PEER, "publicKey": key(2), "keepalive": 1}}, [{**PEER, "keepalive": 2}])
    assert told == f"f1.json: entry 1 f2.json: {key(2)} says something else of its public_key"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"publicKey": "short"}, "publicKey is not a WireGuard key"),
        ({"allowedIps": ["10.200.0.7/24"]}, "bits right of its mask"),
        ({"allowedIps": ["10.0.0.0/8", 7]}, "(number 2) that is not text"),
        ({"allowedIps": "0.0.0.0/0"}, "shorter than /8"),
        ({"tunnelIp": "10.200.0.0/16"}, "tunnelIp is a network"),
        ({"tunnelIp": 7}, "tunnelIp is not text"),
        ({"endpoint": "somewhere"}, "endpoint is not host:port"),
        ({"keepalive": True}, "keepalive is not a whole number"),
        ({"keepalive": 70_000}, "keepalive is out of range"),
        ({"meta": []}, "meta is not an object"),
        ({"deviceId": "no spaces"}, "deviceId does not fit"),
        ({"id": "other"}, "deviceId is there twice, and differs"),
        ({"tokens": {}}, "tokens is not an array"),
        ({"tokens": [{"ip": "10.5.50.12"}]}, "a token has no deviceToken, mac"),
        ({"deviceToken": "x", "ip": "10.5.50.12", "mac": "00:00:00:00:00:00"}, "mac must be the MAC"),
        ({"mikrotik": {"apiUser": "a\nb"}}, "mikrotik.apiUser is empty, too long"),
        ({"mikrotik": {"apiPort": 0}}, "mikrotik.apiPort is out of range"),
    ],
    ids=range(17),
)
def test_what_cannot_be_read_is_told_with_its_place(changed: dict[str, Any], said: str) -> None:
    told = why([{**PEER, **changed}])
    assert told.startswith("f1.json: entry 1 ")
    assert said in told


@pytest.mark.parametrize(
    "name", ["presharedKey", "publicKey", "mikrotik", "deviceToken", "allowedIps", "endpoint", "x"]
)
def test_no_value_is_repeated(name: str) -> None:
    secret = "hunter2-" * 40
    given = {"apiPassword": f"\0{secret}"} if name == "mikrotik" else secret
    found = read([{**PEER, name: given}], {"tokens": {secret: {"mac": secret}}}, {"tokens": {secret: 7}})
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize("name", ["endpoint", "presharedKey"])
@pytest.mark.parametrize("none", ["", " ", "(none)", None])
def test_none_may_be_said_in_words(name: str, none: str | None) -> None:
    assert only([{**PEER, name: none}]) == only([PEER])


HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f'"keepalive": {HUGE}', "keepalive is not a whole number"),
        (f'"keepalive": "{HUGE}"', "keepalive is not a whole number"),
        (f'"mikrotik": {{"apiPort": -{HUGE}}}', "mikrotik.apiPort is not a whole number"),
        (f'"publicKey": {HUGE}', "publicKey is not text"),
        (f'"meta": {{"x": [{HUGE}]}}', "meta has what can't be written as JSON"),
        ('"meta": {"x": 1e999}', "meta has what can't be written as JSON"),
        (f'"tokens": [{HUGE}]', "tokens is not an array of objects"),
        (HUGE, "is not JSON (line 1, column "),
    ],
    ids=range(8),
)
def test_numbers_beyond_all_measure_are_told_in_words_of_ours(value: str, said: str) -> None:
    peer = json.dumps({name: text for name, text in PEER.items() if not value.startswith(f'"{name}"')})
    data = f"[{peer[:-1]}, {value}}}, {json.dumps({**PEER, 'deviceId': 'b', 'publicKey': key(2)})}]"
    found = importing.read([("f.json", data.encode())])
    [fault] = found.faults
    assert said in fault.why
    assert "9999" not in fault.why
    assert "Exceeds" not in fault.why
    if value != HUGE:
        assert [entry.device_id for entry in found.entries] == ["b"]


def test_what_is_unknown_may_be_of_any_size() -> None:
    found = importing.read([("f.json", f'[{json.dumps(PEER)[:-1]}, "serial": {HUGE}}}]'.encode())])
    assert (len(found.entries), found.faults, found.unknown) == (1, (), ("serial",))


def test_what_nobody_knows_is_named_once() -> None:
    found = read(
        [{**PEER, "colour": 1, "mikrotik": {"nested": 2}}, {"deviceId": "b", "colour": 3}], {"tokens": [], "version": 1}
    )
    assert found.unknown == ("colour", "mikrotik.nested", "version")
    many = read([{f"n{number}": 1 for number in range(1000)}])
    assert len(many.unknown) == importing.UNKNOWN_MAX


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON (line 1, column 1)"),
        (b"[1,\n2", "is not JSON (line 2, column 2)"),
        (b"\xff\xfe\xff", "is not UTF-8"),
        (b'{"a": 1, "a": 2}', "a member twice"),
        (b"[NaN]", "has NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b"7", "neither an array nor an object"),
        (b'{"devices": [], "peers": 7}', "has peers that are none"),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_read_is_told_and_the_others_are(data: bytes, said: str) -> None:
    found = importing.read([("bad.json", data), ("good.json", json.dumps([PEER]).encode())])
    assert len(found.entries) == 1
    [fault] = found.faults
    assert fault.where == "bad.json"
    assert said in fault.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "devices",
                    "peers",
                    "tokens",
                    "deviceId",
                    "publicKey",
                    "deviceToken",
                    "mac",
                    "ip",
                    "wireguard",
                    "meta",
                    key(1),
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_is_in_a_file_is_read_or_told(document: object) -> None:
    found = read(document)
    assert all(isinstance(entry, Entry) for entry in found.entries)
    assert all(fault.why for fault in found.faults)
