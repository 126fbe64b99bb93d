import base64
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network
import json
from pathlib import Path
from typing import Any

import pytest

from opendesk.settings import DECLARED, Secret, SettingsError, load

KEY = base64.b64encode(bytes(range(32))).decode()
LONG = "a-secret-of-32-bytes-or-more-....."
PASSWORD = "hunter2"

# One value that is taken and one that is refused, for every setting there is.
TAKEN: dict[str, tuple[str, object]] = {
    "PORT": ("0", 0),
    "BIND": ("[::1]", "::1"),
    "PUBLIC_URL": ("https://desk.example.com/", "https://desk.example.com"),
    "TRUSTED_PROXIES": ("10.0.0.1, fd00::/8", (ip_network("10.0.0.1"), ip_network("fd00::/8"))),
    "TLS_CERT": ("/etc/cert.pem", Path("/etc/cert.pem")),
    "TLS_KEY": ("/etc/key.pem", Path("/etc/key.pem")),
    "CORS_ORIGINS": (
        "HTTPS://App.example.com:443, http://[::1]:8080",
        ("https://app.example.com", "http://[::1]:8080"),
    ),
    "RELAY_DATABASE_URL": ("postgres://u:p@h/d", Secret("postgres://u:p@h/d")),
    "DATABASE_URL": ("postgresql:///d?host=/run", Secret("postgresql:///d?host=/run")),
    "RELAY_DB_SSL": ("no", False),
    "OPENDESK_DATA_DIR": ("/srv/desk", Path("/srv/desk")),
    "JWT_SECRET": (f"{LONG},with a comma", Secret(f"{LONG},with a comma")),
    "JWT_EXPIRES_IN": ("12h", timedelta(hours=12)),
    "CURRENCY": ("EUR", "EUR"),
    "PLATFORM_FEE_RATE": ("0.125", Decimal("0.125")),
    "HOST_PENALTY_RATE": ("1.0", Decimal(1)),
    "RELAY_TOKEN": ("a, b", (Secret("a"), Secret("b"))),
    "RELAY_INTERNAL_TOKEN": ("a", (Secret("a"),)),
    "RELAY_API_SECRET": ("a", (Secret("a"),)),
    "RELAY_INTERNAL_WHITELIST": ("127.0.0.1", (ip_network("127.0.0.1"),)),
    "RELAY_STRICT_SECURITY": ("off", False),
    "RELAY_MASTER_KEY": (KEY, (Secret(bytes(range(32))),)),
    "BACKEND_EVENTS_URL": ("http://backend:8080/events?kind=all", "http://backend:8080/events?kind=all"),
    "BACKEND_ACK_URL": ("https://backend/ack", "https://backend/ack"),
    "BACKEND_HMAC_SECRET": ("a", (Secret("a"),)),
    "BACKEND_REQUIRE_HMAC": ("TRUE", True),
    "RELAY_EVENTS_FILE": ("/run/events", Path("/run/events")),
    "MIKROTIK_USER": ("api", "api"),
    "MIKROTIK_PASS": ("p", Secret("p")),
    "RELAY_TECH_USER": ("tech", "tech"),
    "RELAY_TECH_PASS": ("p", Secret("p")),
    "WG_INTERFACE": ("wg0", "wg0"),
    "WG_VPS_PUBLIC_KEY": (KEY, KEY),
    "WG_VPS_ENDPOINT": ("[2001:DB8::1]:51820", "[2001:db8::1]:51820"),
    "WG_TUNNEL_POOL": ("fd00::/64", ip_network("fd00::/64")),
    "RELAY_DRY_RUN": ("1", True),
    "RELAY_RECONCILE_REMOVE": ("yes", True),
    "LOG_LEVEL": ("WARN", "warning"),
    "LOG_FORMAT": ("json", "json"),
    "METRICS_ALLOW": ("10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
}
REFUSED: dict[str, list[str]] = {
    "PORT": ["65536", "-1", "3_333", "80.0", "٣", "1e3", "true"],
    "BIND": ["0.0.0.0:80", "unix:relative", f"unix:/{'x' * 103}", "1.2.3", "a b", "-x"],
    "PUBLIC_URL": [
        "desk.example.com",
        "https://",
        "https://u:p@h",
        "https://h/?q=1",
        "https://h:99999",
        "ftp://h",
        "https://a..b",
    ],
    "TRUSTED_PROXIES": ["10.0.0.1/8", "proxy", "10.0.0.1,,10.0.0.2", "1.2.3.4,"],
    "TLS_CERT": ["~/cert.pem"],
    "TLS_KEY": ["~/key.pem"],
    "CORS_ORIGINS": ["*", "https://*.example.com", "https://a.example.com/", "app.example.com", "null", "https://a b"],
    "RELAY_DATABASE_URL": ["mysql://h/d", "postgres://h", "host=h dbname=d"],
    "DATABASE_URL": [
        "postgres://u:p#w@h/d",
        "postgres://u:p/w@h/d",
        "postgres://u@h/",
        "postgres://a..b/d",
        "postgres:///d?host=h,a..b",
    ],
    "RELAY_DB_SSL": ["maybe"],
    "OPENDESK_DATA_DIR": ["~/desk"],
    "JWT_SECRET": ["\udcff"],
    "JWT_EXPIRES_IN": ["7 days", "-1", "0", "366d", "1.5h", "d"],
    "CURRENCY": ["brl", "REAL", "R$"],
    "PLATFORM_FEE_RATE": ["1.01", "-0.1", "10%", "1e-1", "0,1", "0.1234567", "NaN", "."],
    "HOST_PENALTY_RATE": ["2", "Infinity"],
    "RELAY_TOKEN": [",", "a,,b", "a,", ",".join("abcdefghi")],
    "RELAY_INTERNAL_TOKEN": ["a,"],
    "RELAY_API_SECRET": [",a"],
    "RELAY_INTERNAL_WHITELIST": ["localhost"],
    "RELAY_STRICT_SECURITY": ["2"],
    "RELAY_MASTER_KEY": ["short", base64.b64encode(bytes(31)).decode(), f"{KEY},x", KEY.replace("=", "é")],
    "BACKEND_EVENTS_URL": [
        "backend/events",
        "http://u:p@backend",
        "http://backend/#x",
        "https://exa..mple/x",
        f"https://{'a' * 64}/",
        "http://999.1.1.1/",
        "http://[v1.a]/",
    ],
    "BACKEND_ACK_URL": ["ws://backend", "http://.backend"],
    "BACKEND_HMAC_SECRET": [","],
    "BACKEND_REQUIRE_HMAC": ["yess"],
    "RELAY_EVENTS_FILE": ["~x"],
    "MIKROTIK_USER": ["a\nb", "x" * 65],
    "MIKROTIK_PASS": ["\udcff"],
    "RELAY_TECH_USER": ["a\0b"],
    "RELAY_TECH_PASS": ["\udcff"],
    "WG_INTERFACE": ["a/b", "sixteen-letters-", "wg 0", "-f", "all", "interfaces", ".", ".."],
    "WG_VPS_PUBLIC_KEY": ["x", KEY[:-1]],
    "WG_VPS_ENDPOINT": ["host", "host:0", ":1", "2001:db8::1:51820", "host:port"],
    "WG_TUNNEL_POOL": ["10.200.0.1/16", "10.0.0.0/8,10.1.0.0/16"],
    "RELAY_DRY_RUN": ["y e s"],
    "RELAY_RECONCILE_REMOVE": ["-1"],
    "LOG_LEVEL": ["loud"],
    "LOG_FORMAT": ["xml"],
    "METRICS_ALLOW": ["all"],
}
NODE = {"id": "r1", "host": "10.0.0.2", "user": "api", "pass": PASSWORD}


def faults(environ: dict[str, str], env_file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(environ, env_file=env_file)
    return caught.value.faults


def only_fault(environ: dict[str, str]) -> str:
    (fault,) = faults(environ)
    return fault


@pytest.mark.parametrize("name", TAKEN)
def test_a_value_is_parsed(name: str) -> None:
    environ = {"TLS_CERT": "/c", "TLS_KEY": "/k", "BACKEND_HMAC_SECRET": "s"} | {name: TAKEN[name][0]}
    assert getattr(load(environ), name.lower()) == TAKEN[name][1]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in REFUSED.items() for text in texts])
def test_a_value_that_does_not_fit_is_named_with_what_is_allowed(name: str, text: str) -> None:
    relevant = [fault for fault in faults({name: text}) if fault.startswith(f"{name}: ")]
    assert len(relevant) == 1
    assert "; allowed: " in relevant[0]


@pytest.mark.parametrize("declared", [declared for declared in DECLARED if declared.kind.allowed.startswith("a whole")])
def test_whole_numbers_are_bounded_on_both_sides(declared: Any) -> None:
    low, high = (int(word) for word in declared.kind.allowed.split() if word.isdigit() and len(word) < 19)
    field = declared.name.lower()
    assert getattr(load({declared.name: str(low)}), field) == low
    assert getattr(load({declared.name: str(high)}), field) == high
    assert "is out of range" in only_fault({declared.name: str(low - 1)})
    assert "is out of range" in only_fault({declared.name: str(high + 1)})


def test_every_setting_has_a_value_that_is_taken_and_one_that_is_refused() -> None:
    whole = {declared.name for declared in DECLARED if declared.kind.allowed.startswith("a whole")}
    names = {declared.name for declared in DECLARED}
    assert TAKEN.keys() | whole | {"MIKROTIK_NODES"} == names
    assert REFUSED.keys() | whole | {"MIKROTIK_NODES"} == names


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_shown_of_a_value_gives_the_value_again(name: str) -> None:
    kind = next(declared.kind for declared in DECLARED if declared.name == name)
    value = kind.parse(TAKEN[name][0])
    if not kind.secret and "?" not in TAKEN[name][0]:
        assert kind.parse(kind.show(value)) == value


# --- routers


def test_routers_are_read_from_json() -> None:
    more = {
        "id": "r2",
        "host": "Router.example.com",
        "user": "u",
        "pass": "",
        "port": 18728,
        "tls": True,
        "timeoutMs": 900,
    }
    first, second = load({"MIKROTIK_NODES": json.dumps([NODE, more])}).mikrotik_nodes
    assert (first.id, first.host, first.user, first.password) == ("r1", "10.0.0.2", "api", Secret(PASSWORD))
    assert (first.port, first.tls, first.timeout_ms) == (None, False, None)
    assert (second.host, second.port, second.tls, second.timeout_ms) == ("router.example.com", 18728, True, 900)


def test_a_router_without_a_port_has_the_usual_one() -> None:
    plain, tls = load({"MIKROTIK_NODES": json.dumps([NODE, NODE | {"id": "r2", "tls": True}])}).mikrotik_nodes
    assert (plain.api_port(None), tls.api_port(None), plain.api_port(9000)) == (8728, 8729, 9000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not JSON"),
        ("{}", "is not an array"),
        ("[1]", "router 0: not an object"),
        ("[" * 100_000, "nested too deeply"),
        ("[NaN]", "NaN"),
        ('[{"id": "a", "id": "b"}]', "a member twice"),
        (json.dumps([NODE, NODE]), "id 'r1' is there twice"),
        (json.dumps([{"id": "r"}]), "host, pass, user missing"),
        (json.dumps([NODE | {"ssl": True}]), "a member that is none of"),
        (json.dumps([NODE | {"port": True}]), "port is not a whole number"),
        (json.dumps([NODE | {"port": "8728"}]), "port is not a whole number"),
        (json.dumps([NODE | {"port": 0}]), "port is out of range"),
        (json.dumps([NODE | {"tls": 1}]), "tls is neither"),
        (json.dumps([NODE | {"host": "a b"}]), "host is not text"),
        (json.dumps([NODE | {"host": "-"}]), "is not an address or a host name"),
        (json.dumps([NODE | {"id": 5}]), "id is not text"),
        (json.dumps([NODE | {"id": "r\ud800"}]), "id has half a character"),
        (json.dumps([NODE | {"host": "h\udc80"}]), "host has half a character"),
        (json.dumps([NODE | {"user": "\udfff"}]), "user has half a character"),
        (json.dumps([NODE | {"pass": "half\ud800"}]), "pass has half a character"),
    ],
)
def test_routers_are_read_strictly(text: str, said: str) -> None:
    assert said in only_fault({"MIKROTIK_NODES": text})


def test_every_router_that_is_wrong_is_told() -> None:
    fault = only_fault({"MIKROTIK_NODES": json.dumps([{"id": "r"}, NODE, 5])})
    assert "router 0: " in fault
    assert "router 2: " in fault


def test_all_that_is_wrong_with_routers_is_told_at_once() -> None:
    bad = {"id": "r1", "host": "-", "port": 0, "tls": 1, "timeoutMs": "x", "pass": PASSWORD, PASSWORD: 1}
    fault = only_fault({"MIKROTIK_NODES": json.dumps([bad, NODE, NODE | {"port": 65_536}])})
    told = (
        "router 0: user missing",
        "router 0: a member that is none of",
        "router 0: host is not an address",
        "router 0: port is out of range",
        "router 0: tls is neither",
        "router 0: timeoutMs is not a whole number",
        "router 2: port is out of range",
        "id 'r1' is there twice",
    )
    assert [each for each in told if each not in fault] == []
    assert PASSWORD not in fault
