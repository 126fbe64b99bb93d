import base64
from datetime import timedelta
from decimal import Decimal
import json
from pathlib import Path
import pickle
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.settings import DECLARED, Secret, Settings, SettingsError, any_matches, describe, load, markdown

KEY = base64.b64encode(bytes(range(32))).decode()
LONG = "a-secret-of-32-bytes-or-more-....."
PASSWORD = "hunter2"

NODE = {"id": "r1", "host": "10.0.0.2", "user": "api", "pass": PASSWORD}


def faults(environ: dict[str, str], env_file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(environ, env_file=env_file)
    return caught.value.faults


def only_fault(environ: dict[str, str]) -> str:
    (fault,) = faults(environ)
    return fault


def test_no_setting_is_needed() -> None:
    loaded = load({})
    assert attrs.evolve(loaded, opendesk_data_dir=Settings().opendesk_data_dir) == Settings()
    assert loaded.warnings == ()


def test_defaults_are_the_contracts() -> None:
    settings = Settings()
    assert settings.listen_address == "127.0.0.1:3333"
    assert settings.jwt_expires_in == timedelta(days=7)
    assert (settings.platform_fee_rate, settings.host_penalty_rate) == (Decimal("0.1"), Decimal("0.3"))
    assert (settings.host_heartbeat_timeout_ms, settings.host_heartbeat_timeout_active_ms) == (60_000, 180_000)
    assert (settings.relay_token, settings.mikrotik_nodes, settings.database_url) == ((), (), None)


def test_all_faults_are_told_at_once() -> None:
    environ = {"PORT": "x", "CURRENCY": "real", "JWT_EXPIRES_IN": "soon", "TLS_KEY": "/k"}
    assert [fault.split(":")[0] for fault in faults(environ)] == [
        "PORT",
        "JWT_EXPIRES_IN",
        "CURRENCY",
        "TLS_CERT, TLS_KEY",
    ]


def test_an_empty_value_counts_as_not_set() -> None:
    assert load({"PORT": "", "RELAY_TOKEN": "", "TLS_CERT": ""}).port == 3333


@pytest.mark.parametrize("password", [f"{PASSWORD}%", f"{PASSWORD}%zz", f"%2{PASSWORD}", f"%{PASSWORD}%2"])
def test_a_bare_percent_in_a_database_url_is_told_without_the_password(password: str) -> None:
    fault = only_fault({"DATABASE_URL": f"postgres://u:{password}@h/d"})
    assert fault.startswith("DATABASE_URL: its value has a '%' that begins no escape")
    assert "%25" in fault
    assert PASSWORD not in fault


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://u:{PASSWORD} pw@h/d", "has a blank, which must be written %20"),
        (f"postgresql://u:{PASSWORD}\tpw@h/d", "control character"),
        (f"postgresql://u:{PASSWORD}%00@h/d", "is none that libpq can read"),
        (f"postgresql://u:{PASSWORD}%ff@h/d", "are not UTF-8"),
        (f"postgresql://u:a[{PASSWORD}]@h/d", "which must be written %5B or %5D"),
        (f"postgresql://u:p@{PASSWORD}@h/d", "which must be written %2F, %23 or %40"),
        (f"postgresql://u:{PASSWORD}@[::1/d", "is no IPv6 address's"),
        (f"postgresql://u:{PASSWORD}@[::1]x/d", "is none that libpq can read"),
        (f"postgresql://u:{PASSWORD}@h/d?sslmode=require=1", "is none that libpq can read"),
        (f"postgresql://u@h/d?password=a&{PASSWORD}=1", "that libpq does not know (number 2)"),
        (f"postgresql://u:{PASSWORD}@h/d?connect_timout=5", "(number 1, is connect_timeout meant?)"),
        (f"postgresql://u:{PASSWORD}@h/d?connect_timeout=abc", "a connect_timeout that is not a whole number"),
        (f"postgresql://u:{PASSWORD}@h/d?keepalives_idle=1.5", "a keepalives_idle that is not a whole number"),
        (f"postgresql://u:{PASSWORD}@h/d?sslmode=bogus", "an sslmode that is none of disable, "),
        (f"postgresql://u:{PASSWORD}@h:abc/d", "a port that is not a whole number, 1 to 65535"),
        (f"postgresql://u:{PASSWORD}/d", "a port that is not a whole number, 1 to 65535"),
        (f"postgresql://u:{PASSWORD}@h:0/d", "a port that is not"),
        (f"postgresql://u:{PASSWORD}@h,i/d?port=1,65536", "a port that is not"),
        (f"postgresql://u:{PASSWORD}@h,i/d?port=1,2,3", "more or fewer ports than hosts"),
        (f"postgresql://u:{PASSWORD}@h", "names no database"),
    ],
)
def test_what_libpq_cannot_use_in_a_database_url_is_told_without_the_password(url: str, told: str) -> None:
    fault = only_fault({"DATABASE_URL": url})
    assert fault.startswith("DATABASE_URL: its value ")
    assert told in fault
    assert PASSWORD not in fault


def test_all_that_is_wrong_with_a_database_url_is_told_at_once() -> None:
    fault = only_fault({"DATABASE_URL": "postgres://h:0/?connect_timeout=soon&sslmode=x"})
    assert [word in fault for word in ("database;", "a port", "connect_timeout", "sslmode")] == [True] * 4


@pytest.mark.parametrize(
    "url",
    [
        "postgres://h1:1,h2:2/d",
        "postgres://h1,h2/d?port=5433",
        "postgres://h1:5433,h2/d",
        "postgres://u:p@h:/d?ssl=true&connect_timeout=0",
        "postgres:///?dbname=d",
        "postgres://u@[fe80::1%25eth0]:5433/d?options=-c%20a%3Db",
        "postgres://h/d?application_name=a@b",
    ],
)
def test_what_libpq_takes_in_a_database_url_is_taken(url: str) -> None:
    assert load({"DATABASE_URL": url}).database_url == Secret(url)


def test_an_escaped_percent_in_a_database_url_is_taken() -> None:
    url = f"postgres://u:{PASSWORD}%25%2f@h/d"
    assert load({"DATABASE_URL": url}).database_url == Secret(url)


def test_settings_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load({}).port = 1  # type: ignore[misc]  # what is tested


# --- secrets


def secret_environ() -> dict[str, str]:
    nodes = json.dumps([NODE])
    texts = dict.fromkeys(
        ("JWT_SECRET", "RELAY_TOKEN", "RELAY_API_SECRET", "MIKROTIK_PASS", "RELAY_TECH_PASS"), PASSWORD
    )
    return texts | {"DATABASE_URL": f"postgres://u:{PASSWORD}@h/d", "MIKROTIK_NODES": nodes, "RELAY_MASTER_KEY": KEY}


def test_secrets_show_themselves_nowhere() -> None:
    settings = load(secret_environ())
    shown = f"{settings!r} {settings} {describe(settings)} {attrs.asdict(settings)} {settings.jwt_secret}"
    assert PASSWORD not in shown
    assert KEY not in shown
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.reveal() == PASSWORD


def test_a_fault_never_repeats_a_secret() -> None:
    nodes = json.dumps([NODE, NODE, NODE | {PASSWORD: 1}])
    environ = {"DATABASE_URL": f"mysql://u:{PASSWORD}@h", "MIKROTIK_NODES": nodes, "RELAY_MASTER_KEY": PASSWORD}
    environ |= {
        "RELAY_TOKEN": f"{PASSWORD},",
        "BACKEND_ACK_URL": f"http://u:{PASSWORD}@h",
        "WG_VPS_PUBLIC_KEY": PASSWORD,
    }
    told = faults(environ)
    assert len(told) == 6
    assert PASSWORD not in "".join(told)


def test_a_secret_is_neither_changed_nor_pickled() -> None:
    secret = Secret("s")
    with pytest.raises(AttributeError):
        secret._value = "t"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@given(st.text() | st.binary(), st.text() | st.binary())
def test_a_secret_matches_only_its_own_bytes(value: str | bytes, candidate: str | bytes) -> None:
    def raw(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")

    secret: Secret[Any] = Secret(value)
    assert secret.matches(candidate) == (raw(value) == raw(candidate))
    assert secret.matches(value)


def test_a_header_that_is_no_text_matches_nothing() -> None:
    assert not Secret("s").matches("\udcff")
    assert not Secret("s\ud800").matches("s")
    assert Secret("s\ud800") == Secret("s\ud800") != Secret("s\ud801")


def test_any_of_several_secrets_matches_and_none_of_no_secrets() -> None:
    secrets = (Secret("new"), Secret("old"))
    assert any_matches(secrets, "old")
    assert any_matches(secrets, b"new")
    assert not any_matches(secrets, "new,old")
    assert not any_matches((), "")


# --- what must go together


def test_tls_wants_both_files_or_none() -> None:
    assert only_fault({"TLS_CERT": "/c"}) == "TLS_CERT, TLS_KEY: one is set without the other; allowed: both or none"
    assert load({"TLS_CERT": "/c", "TLS_KEY": "/k"}).tls_key == Path("/k")


def test_a_fault_of_one_file_is_not_told_as_the_other_missing() -> None:
    assert only_fault({"TLS_CERT": "~/c", "TLS_KEY": "/k"}).startswith("TLS_CERT: '~/c' ")


def test_required_signatures_want_a_secret() -> None:
    assert only_fault({"BACKEND_REQUIRE_HMAC": "1"}).startswith("BACKEND_HMAC_SECRET: is not set")
    assert load({"BACKEND_REQUIRE_HMAC": "1", "BACKEND_HMAC_SECRET": "s"}).backend_require_hmac


def test_strict_security_wants_secrets_of_16_bytes() -> None:
    told = faults({"RELAY_STRICT_SECURITY": "1", "RELAY_TOKEN": LONG + ",fifteen-bytes..", "JWT_SECRET": "x"})
    assert [fault.split(" ")[0] for fault in told] == [
        "RELAY_API_SECRET:",
        "RELAY_INTERNAL_TOKEN:",
        "RELAY_TOKEN:",
        "JWT_SECRET:",
    ]
    sixteen = "sixteen-bytes..."
    settings = load({"RELAY_STRICT_SECURITY": "1", "RELAY_API_SECRET": sixteen, "RELAY_INTERNAL_TOKEN": sixteen})
    assert settings.relay_strict_security


def test_without_strict_security_short_secrets_are_taken() -> None:
    assert load({"RELAY_API_SECRET": "x"}).relay_api_secret == (Secret("x"),)


@pytest.mark.parametrize(
    ("environ", "active_ms"),
    [
        ({}, 180_000),
        ({"HOST_HEARTBEAT_TIMEOUT_MS": "5000"}, 5000),
        ({"HOST_HEARTBEAT_TIMEOUT_MS": "5000", "HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS": "7000"}, 7000),
        ({"HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS": "7000"}, 7000),
    ],
)
def test_the_active_timeout_follows_the_first_where_only_that_is_set(environ: dict[str, str], active_ms: int) -> None:
    assert load(environ).host_heartbeat_timeout_active_ms == active_ms


def test_the_relays_database_url_wins() -> None:
    settings = load({"DATABASE_URL": "postgres://h/a", "RELAY_DATABASE_URL": "postgres://h/b"})
    assert settings.database_url == Secret("postgres://h/b")
    assert settings.sources["DATABASE_URL"] == "RELAY_DATABASE_URL"
    assert load({"DATABASE_URL": "postgres://h/a"}).database_url == Secret("postgres://h/a")


@pytest.mark.parametrize(
    ("url", "ssl", "mode"),
    [
        ("postgres://db.example.com/d", "", "require"),
        ("postgres://u:p@10.0.0.1:5432/d", "", "require"),
        ("postgres://[2001:db8::1]:5432/d", "", "require"),
        ("postgres://localhost,db2/d", "", "require"),
        ("postgres:///d?host=db.example.com", "", "require"),
        ("postgres://db.example.com/d", "0", "disable"),
        ("postgres://localhost/d", "1", "require"),
        ("postgres://u@localhost:5433/d", "", None),
        ("postgres://127.0.0.1/d", "", None),
        ("postgres://[::1]:5432/d", "", None),
        ("postgres:///d", "", None),
        ("postgres:///d?host=/run/postgresql", "", None),
        ("postgres://%2Frun%2Fpostgresql/d", "", None),
        ("postgres://db/d?sslmode=verify-full", "0", None),
    ],
)
def test_tls_to_the_database_is_on_for_a_remote_server(url: str, ssl: str, mode: str | None) -> None:
    assert load({"DATABASE_URL": url, "RELAY_DB_SSL": ssl}).database_sslmode == mode


def test_the_embedded_database_has_no_sslmode() -> None:
    assert load({"RELAY_DB_SSL": "1"}).database_sslmode is None


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"BIND": "::", "PORT": "80"}, "[::]:80"),
        ({"BIND": "localhost"}, "localhost:3333"),
        ({"BIND": "unix:/run/desk.sock", "PORT": "80"}, "unix:/run/desk.sock"),
    ],
)
def test_the_listen_address_is_written_for_its_kind(environ: dict[str, str], address: str) -> None:
    assert load(environ).listen_address == address


def test_a_weak_jwt_secret_is_warned_of() -> None:
    assert "JWT_SECRET is shorter than 32 bytes" in load({"JWT_SECRET": "x"}).warnings[0]


def test_a_queue_smaller_than_a_message_is_warned_of() -> None:
    assert load({"RELAY_CLIENT_QUEUE_BYTES": "1024"}).warnings[0].startswith("RELAY_CLIENT_QUEUE_BYTES is less")


def test_leases_that_a_busy_moment_ends_are_warned_of() -> None:
    assert load({"RELAY_LOCK_TTL_MS": "4999"}).warnings[0].startswith("RELAY_LOCK_TTL_MS is below 5000")
    assert load({"RELAY_LOCK_TTL_MS": "5000"}).warnings == ()


# --- as shown


def test_every_setting_is_shown_with_its_source() -> None:
    rows = {row.name: row for row in describe(load(secret_environ() | {"HOST_HEARTBEAT_TIMEOUT_MS": "5000"}))}
    assert list(rows) == [declared.name for declared in DECLARED]
    assert rows["JWT_SECRET"].value == "********"
    assert rows["DATABASE_URL"].value == "postgres://********@h/d"
    assert rows["MIKROTIK_NODES"].value == "r1 (10.0.0.2)"
    assert (rows["PORT"].value, rows["PORT"].source, rows["PORT"].default) == ("3333", "default", "3333")
    assert rows["HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS"].source == "HOST_HEARTBEAT_TIMEOUT_MS"
    assert (rows["TLS_CERT"].value, rows["RELAY_INTERNAL_TOKEN"].value) == (None, None)


def test_a_query_in_an_address_is_not_shown() -> None:
    rows = {row.name: row for row in describe(load({"BACKEND_EVENTS_URL": "http://h/e?key=hidden"}))}
    assert rows["BACKEND_EVENTS_URL"].value == "http://h/e?…"


def test_a_database_address_whose_password_is_cut_in_two_is_shown_not_at_all() -> None:
    rows = {row.name: row for row in describe(load({"DATABASE_URL": "postgres://u:hun?ter2@h/d&dbname=x"}))}
    assert rows["DATABASE_URL"].value == "********"


def test_the_page_of_settings_is_current() -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text() == markdown(), "run: scripts/run settings --markdown > docs/settings.md"
