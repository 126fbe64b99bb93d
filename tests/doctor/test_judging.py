"""What is found of which facts; and whatever isn't well says what to do."""

from ipaddress import ip_network
from typing import Any, Final

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.doctor.finding import STATES, Finding, bad, ok, worst
from opendesk.doctor.judging import (
    beside,
    certificate,
    clock,
    daemon,
    database,
    disk,
    routers,
    secrets,
    settings,
    tunnels,
    work,
)
from opendesk.settings import Secret, Settings

EVERYBODY: Final = (ip_network("0.0.0.0/0"),)
TOKEN: Final = (Secret("0123456789abcdef"),)


def states(findings: Any) -> dict[str, str]:
    """The worst of each check."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.check, []).append(finding)
    return {check: worst(those) for check, those in found.items()}


def test_whatever_is_not_well_says_what_to_do() -> None:
    with pytest.raises(AssertionError):
        Finding("a.b", "bad", "broken")
    with pytest.raises(AssertionError):
        Finding("a.b", "ok", "fine", "nothing")


def test_the_worst_counts() -> None:
    assert worst([]) == "ok"
    assert worst([ok("a.b", "x"), bad("a.c", "y", "z")]) == "bad"
    assert STATES[-1] == "bad"


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, {"settings.consistent": "ok"}),
        ({"bind": "unix:/run/x"}, {"settings.consistent": "ok"}),
        (
            {"bind": "0.0.0.0"},
            {"settings.plain_http": "warn", "settings.strict_security": "warn", "settings.public_url": "warn"},
        ),
        ({"public_url": "https://desk.example.org"}, {"settings.trusted_proxies": "warn"}),
        (
            {"public_url": "http://desk.example.org", "trusted_proxies": (ip_network("127.0.0.1"),)},
            {"settings.public_url": "warn"},
        ),
        ({"trusted_proxies": EVERYBODY}, {"settings.trusted_proxies": "bad"}),
        ({"metrics_allow": EVERYBODY}, {"settings.metrics_allow": "bad"}),
        ({"relay_internal_whitelist": EVERYBODY}, {"settings.relay_internal_whitelist": "bad"}),
        ({"relay_token": TOKEN}, {"settings.relay_api_secret": "warn"}),
        ({"relay_dry_run": True, "log_level": "debug"}, {"settings.dry_run": "warn", "settings.log_level": "warn"}),
        (
            {"backend_events_url": "http://backend.example.org/events"},
            {
                "settings.backend_hmac_secret": "bad",
                "settings.backend_ack_url": "warn",
                "settings.backend_events_url": "warn",
            },
        ),
        (
            {
                "backend_events_url": "http://127.0.0.1:4000/events",
                "backend_ack_url": "http://localhost:4000/acks",
                "backend_hmac_secret": TOKEN,
            },
            {"settings.consistent": "ok"},
        ),
        (
            {"wg_interface": "wg0"},
            {
                "settings.wg_vps_public_key": "warn",
                "settings.wg_vps_endpoint": "warn",
                "settings.relay_master_key": "warn",
            },
        ),
        ({"warnings": ("JWT_SECRET is short",)}, {"settings.doubtful": "warn"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_go_together_are_found(given_: dict[str, Any], expected: dict[str, str]) -> None:
    assert states(settings.judge(evolve(Settings(), **given_))) == expected


@pytest.mark.parametrize(
    ("listens", "given_", "expected"),
    [
        (["127.0.0.1:3333"], {"bind": "0.0.0.0"}, {"settings.trusted_proxies"}),
        (["127.0.0.1:3333"], {"trusted_proxies": (ip_network("127.0.0.1"),)}, {"settings.consistent"}),
        (["unix:/run/x"], {}, {"settings.consistent"}),
        (["[::1]:3333", "[::]:443"], {}, {"settings.plain_http", "settings.strict_security"}),
        (["[::]:443"], {"tls_cert": "/c.pem"}, {"settings.strict_security"}),
        (["[::]:443"], {"tls_cert": "/c.pem", "relay_strict_security": True}, {"settings.consistent"}),
        (["127.0.0.1:3333"], {"tls_cert": "/c.pem"}, {"settings.consistent"}),
        ([], {"tls_cert": "/c.pem"}, {"settings.consistent"}),
    ],
    ids=[
        "bind is not asked", "a proxy", "a path", "open", "open with tls", "open and strict", "tls within", "no socket, tls",
    ],
)  # fmt: skip
def test_how_open_it_is_its_sockets_tell(listens: list[str], given_: dict[str, Any], expected: set[str]) -> None:
    judged = evolve(Settings(), public_url="https://desk.example.org", **given_)
    assert set(states(settings.judge(judged, (), listens))) == expected


def test_faulty_settings_are_each_a_finding() -> None:
    assert states(settings.judge_faults(["PORT: x", "BIND: y"])) == {"settings.valid": "bad"}


def test_of_a_setting_that_cannot_be_read_nothing_is_said() -> None:
    fault = "RELAY_API_SECRET: the credential /c/RELAY_API_SECRET can't be read: Permission denied"
    unknown = settings.faulty([fault])
    assert unknown == {"RELAY_API_SECRET"}
    given_ = evolve(Settings(), relay_token=TOKEN, relay_dry_run=True)
    assert states(settings.judge(given_)) == {"settings.relay_api_secret": "warn", "settings.dry_run": "warn"}
    assert states(settings.judge(given_, unknown)) == {"settings.dry_run": "warn"}
    assert states(settings.judge(Settings(), unknown)) == {}


def test_of_a_file_that_cannot_be_read_no_setting_is_known() -> None:
    unknown = settings.faulty(["/etc/opendesk/opendesk.env: can't be read: Permission denied", "PORT: x"])
    assert {"PORT", "RELAY_TOKEN", "DATABASE_URL"} <= unknown
    assert states(settings.judge(evolve(Settings(), relay_token=TOKEN), unknown)) == {}


LONG: Final = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (secrets.Secrets({}), {"secrets.kept": "ok"}),
        (secrets.Secrets({"RELAY_TOKEN": [LONG], "JWT_SECRET": [LONG * 2]}), {"secrets.kept": "ok"}),
        (secrets.Secrets({"RELAY_TOKEN": [LONG[1:]]}), {"secrets.short": "warn"}),
        (secrets.Secrets({"RELAY_TOKEN": [LONG], "JWT_SECRET": [LONG]}), {"secrets.equal": "bad"}),
        (secrets.Secrets({}, [secrets.SecretFile("/c/RELAY_TOKEN", 0o604, 9)]), {"secrets.mode": "bad"}),
        (secrets.Secrets({}, [secrets.SecretFile("/c/RELAY_TOKEN", 0o640, 9)]), {"secrets.mode": "warn"}),
        (secrets.Secrets({}, [secrets.SecretFile("/c/RELAY_TOKEN", 0o600, 0)]), {"secrets.empty": "warn"}),
        (secrets.Secrets({}, [secrets.SecretFile("/c/x", 0o600, 9, is_known=False)]), {"secrets.unknown": "warn"}),
    ],
    ids=["none", "well", "short", "equal", "open to all", "open to the group", "empty", "unknown"],
)
def test_secrets_that_are_none_are_found(found: secrets.Secrets, expected: dict[str, str]) -> None:
    assert states(secrets.judge(found)) == expected


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_no_secret_is_ever_told(first: bytes, second: bytes) -> None:
    values = {"RELAY_TOKEN": [b"<" + first + b">"], "JWT_SECRET": [b"<" + first + b">", second]}
    found = secrets.Secrets(values)
    told = [repr(found), *(repr(finding) for finding in secrets.judge(found))]
    assert not any(f"<{first.decode('latin-1')}>" in line for line in told)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"clock.synchronized": "ok"}),
        ({"is_synchronized": False}, {"clock.synchronized": "warn"}),
        ({"is_synchronized": None}, {"clock.synchronized": "skipped"}),
        ({"database_ahead_s": 1.0}, {"clock.synchronized": "ok", "clock.database": "ok"}),
        ({"database_ahead_s": -3.0}, {"clock.synchronized": "ok", "clock.database": "warn"}),
        ({"backend_ahead_s": 3.0}, {"clock.synchronized": "ok", "clock.backend": "ok"}),
        ({"backend_ahead_s": -100.0}, {"clock.synchronized": "ok", "clock.backend": "warn"}),
        ({"backend_ahead_s": 200.0}, {"clock.synchronized": "ok", "clock.backend": "bad"}),
    ],
    ids=str,
)
def test_clocks_are_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert states(clock.judge(evolve(clock.Clock(is_synchronized=True, hmac_window_s=300.0), **change))) == expected


SOUND: Final = database.Database(
    version=180003,
    missing=(),
    unreadable=0,
    is_superuser=False,
    is_external=True,
    connections=20,
    max_connections=50,
    long_transactions=0,
    longest_transaction_s=0.0,
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"version": 130011}, {"database.version": "bad"}),
        ({"missing": ["0009_x"]}, {"database.migrations": "bad"}),
        ({"fault": "it is newer"}, {"database.migrations": "bad"}),
        ({"unreadable": 2}, {"database.rights": "bad"}),
        ({"is_superuser": True}, {"database.rights": "warn"}),
        ({"is_superuser": True, "is_external": False}, {}),
        ({"connections": 45}, {"database.connections": "warn"}),
        ({"connections": 50}, {"database.connections": "bad"}),
        ({"long_transactions": 1, "longest_transaction_s": 900.0}, {"database.transactions": "warn"}),
    ],
    ids=str,
)
def test_a_database_is_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = states(database.judge(evolve(SOUND, **change)))
    assert {check: state for check, state in found.items() if state != "ok"} == expected


@pytest.mark.parametrize(
    ("is_external", "daemon_pid", "do"),
    [
        (True, None, "DATABASE_URL is right"),
        (False, None, "start the daemon"),
        (False, 7, "if it doesn't come back by itself, systemctl restart"),
    ],
    ids=["external", "no daemon", "a daemon whose database hangs"],
)
def test_a_database_that_is_away_is_not_the_same_as_a_daemon_that_is(
    *, is_external: bool, daemon_pid: int | None, do: str
) -> None:
    assert do in str(database.judge_away("x", is_external=is_external, daemon_pid=daemon_pid).do)


@pytest.mark.parametrize(
    ("mode", "expected"), [(None, "skipped"), (0o700, "ok"), (0o750, "bad"), (0o705, "bad")], ids=str
)
def test_a_data_folder_is_its_owners(mode: int | None, expected: str) -> None:
    assert states(database.judge_folder(database.DataFolder(path="/d", owner=0, mode=mode))) == {
        "database.folder": expected
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"is_ready": True, "running_since": 9.0, "installed_at": 5.0}, {}),
        ({"is_ready": True, "running_since": 5.0, "installed_at": 9.0}, {"daemon.version": "warn"}),
        ({"is_ready": True}, {"daemon.version": "skipped"}),
        ({"detail": "no database", "running_since": 9.0, "installed_at": 5.0}, {"daemon.ready": "bad"}),
        ({"fault": "refused"}, {"daemon.answers": "bad"}),
        ({"is_ours": False}, {"daemon.answers": "bad"}),
        ({"is_ready": True, "running_since": 4.5, "installed_at": 5.0}, {}),
        (
            {"is_ready": True, "running_since": 9.0, "installed_at": 5.0, "tls_fault": "it speaks no TLS there"},
            {"daemon.tls": "bad"},
        ),
    ],
    ids=["well", "replaced since", "unknown", "not ready", "away", "a stranger", "started at once", "without TLS"],
)
def test_a_daemon_is_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = states(daemon.judge(evolve(daemon.Daemon(address="127.0.0.1:1"), **change)))
    assert {check: state for check, state in found.items() if state != "ok"} == expected


RUNS: Final = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, {"unit.state": "skipped"}),
        ({"LoadState": "not-found"}, {"unit.state": "skipped"}),
        (RUNS, {"unit.state": "ok"}),
        ({**RUNS, "NRestarts": "1"}, {"unit.state": "ok"}),
        ({**RUNS, "NRestarts": "7"}, {"unit.state": "ok", "unit.restarts": "warn"}),
        ({**RUNS, "UnitFileState": "disabled"}, {"unit.state": "ok", "unit.enabled": "warn"}),
        ({**RUNS, "ActiveState": "failed", "Result": "watchdog"}, {"unit.state": "bad"}),
    ],
    ids=["no systemd", "no unit", "runs", "restarted once", "restarted often", "disabled", "failed"],
)
def test_a_unit_is_judged(properties: dict[str, str], expected: dict[str, str]) -> None:
    assert states(daemon.judge_units([daemon.Unit(name="opendesk.service", properties=properties)])) == expected


def test_daemons_of_one_database_are_judged_each_and_the_single_one_is_to_be_off() -> None:
    off = {**RUNS, "ActiveState": "inactive", "UnitFileState": "disabled"}
    units = [
        daemon.Unit(name="opendesk.service", properties=off),
        daemon.Unit(name="opendesk@3333.service", properties=RUNS),
        daemon.Unit(name="opendesk@3334.service", properties={**RUNS, "ActiveState": "failed", "Result": "exit-code"}),
        daemon.Unit(name="opendesk@3335.service", properties=off),
    ]
    found = list(daemon.judge_units(units))
    assert [(finding.state, finding.what.split()[0]) for finding in found] == [
        ("ok", "opendesk@3333.service"),
        ("bad", "opendesk@3334.service"),
    ]
    assert found[1].do == "systemctl status opendesk@3334, then systemctl start opendesk@3334"
    assert states(daemon.judge_units(units[:1])) == {"unit.state": "bad", "unit.enabled": "warn"}


@pytest.mark.parametrize(
    ("name", "properties", "expected"),
    [
        (beside.TIMER, {"ActiveState": "active"}, {"unit.backup_timer": "ok"}),
        (beside.TIMER, {"ActiveState": "inactive"}, {"unit.backup_timer": "warn"}),
        (beside.TIMER, {"ActiveState": "active", "UnitFileState": "disabled"}, {"unit.backup_timer": "warn"}),
        (beside.TIMER, {"LoadState": "not-found", "ActiveState": "inactive"}, {}),
        (beside.BACKUP, {"ActiveState": "failed", "Result": "exit-code"}, {"unit.backup": "bad"}),
        (beside.BACKUP, {"ActiveState": "inactive"}, {}),
        (beside.TUNNEL, {"ActiveState": "failed", "Result": "exit-code"}, {"unit.tunnel": "bad"}),
        ("opendesk.socket", {"ActiveState": "failed", "Result": "resources"}, {"unit.socket": "bad"}),
        ("opendesk.socket", {"ActiveState": "active"}, {}),
    ],
    ids=[
        "timer", "timer stopped", "timer off", "no timer", "backup failed", "backup", "tunnel failed", "port taken", "socket",
    ],
)  # fmt: skip
def test_units_beside_the_daemon_are_judged(name: str, properties: dict[str, str], expected: dict[str, str]) -> None:
    assert states(beside.judge([daemon.Unit(name=name, properties={**RUNS, **properties})])) == expected


CERTIFICATE: Final = certificate.Certificate(path="/c.pem", names=("desk.example.org",), days_left=60.0, chain=2)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"fault": "no PEM"}, {"certificate.usable": "bad"}),
        ({"days_left": 13.0}, {"certificate.days": "warn"}),
        ({"days_left": -1.0}, {"certificate.days": "bad"}),
        ({"days_until_valid": 1.0}, {"certificate.days": "bad"}),
        ({"names": ("other.example.org",)}, {"certificate.names": "bad"}),
        ({"chain": 1}, {"certificate.chain": "warn"}),
        ({"is_self_signed": True}, {"certificate.chain": "warn"}),
        ({"key_mode": 0o644}, {"certificate.key_mode": "bad"}),
    ],
    ids=str,
)
def test_a_certificate_is_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = states(certificate.judge(evolve(CERTIFICATE, **change), "desk.example.org"))
    assert {check: state for check, state in found.items() if state != "ok"} == expected


@pytest.mark.parametrize(
    ("name", "wanted", "covers"),
    [
        ("desk.example.org", "DESK.example.org.", True),
        ("*.example.org", "desk.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.desk.example.org", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_a_star_stands_for_one_label(name: str, wanted: str, *, covers: bool) -> None:
    assert certificate.covers(name, wanted) is covers


TUNNELS: Final = tunnels.Tunnels(
    interface="wg0", public_key="K", told_key="K", listen_port=51820, told_port=51820, online=9, has_net_admin=True
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"told_key": None, "told_port": None}, {}),
        ({"is_installed": False}, {"tunnels.installed": "bad"}),
        ({"fault": "no such device"}, {"tunnels.interface": "bad"}),
        ({"is_up": False}, {"tunnels.up": "bad"}),
        ({"public_key": None}, {"tunnels.key": "bad"}),
        ({"told_key": "L"}, {"tunnels.key": "bad"}),
        ({"listen_port": 0, "told_port": None}, {"tunnels.port": "bad"}),
        ({"told_port": 51821}, {"tunnels.port": "warn"}),
        ({"offline": 9}, {}),
        ({"offline": 10}, {"tunnels.handshakes": "warn"}),
        ({"online": 0, "offline": 1}, {"tunnels.handshakes": "bad"}),
        ({"online": 0, "never": 5}, {}),
        ({"has_net_admin": False}, {"tunnels.capability": "bad"}),
        ({"has_net_admin": None}, {"tunnels.capability": "skipped"}),
    ],
    ids=str,
)
def test_tunnels_are_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = states(tunnels.judge(evolve(TUNNELS, **change)))
    assert {check: state for check, state in found.items() if state != "ok"} == expected


def test_each_router_that_is_not_well_is_named_and_a_thousand_are_counted() -> None:
    fleet = [
        routers.Router(id="A", outcome="well", ahead_s=1.0),
        routers.Router(id="B", outcome="well", is_open=True),
        routers.Router(id="C", outcome="well", ahead_s=-90.0),
        routers.Router(id="D", outcome="refused", error="no"),
        routers.Router(id="E", outcome="fault", error="no key opens its password"),
        routers.Router(id="F", outcome="not looked at", error="no time"),
        *(routers.Router(id=f"X{number}", outcome="unreachable", error="gone") for number in range(1000)),
    ]
    found = list(routers.judge(fleet))
    told = [f"{finding.state} {finding.what}" for finding in found]
    assert told[0] == "ok 3 of 1006 let us in"
    assert {"bad E: no key opens its password", "bad D: no", "skipped F: no time"} <= set(told)
    assert "bad and 990 more likewise" in told
    assert states(found) == {"routers.reachable": "bad", "routers.breaker": "warn", "routers.clock": "warn"}
    assert len(found) < 20


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("2026-11-22", "17:00:00", "+00:00"), "2026-11-22T17:00:00+00:00"),
        (("nov/22/2026", "17:00:00", "-03:00"), "2026-11-22T17:00:00-03:00"),
        (("Nov/22/2026", "17:00:00", "+05:30"), "2026-11-22T17:00:00+05:30"),
        (("now/22/2026", "17:00:00", "+00:00"), None),
        (("", "", ""), None),
        (("2026-13-22", "17:00:00", "+00:00"), None),
    ],
    ids=["new", "old", "old, capital", "no month", "nothing", "no date"],
)
def test_a_routers_time_is_read_in_both_spellings(words: tuple[str, str, str], expected: str | None) -> None:
    moment = routers.moment_of(*words)
    assert (moment and moment.isoformat()) == expected


GIB: Final = 2**30


@pytest.mark.parametrize(
    ("free", "size", "inodes", "expected"),
    [
        (50 * GIB, 100 * GIB, 0.5, {"disk.room": "ok"}),
        (5 * GIB, 100 * GIB, 0.5, {"disk.room": "warn"}),
        (20 * GIB, 1000 * GIB, 0.5, {"disk.room": "ok"}),
        (GIB // 2, 100 * GIB, 0.5, {"disk.room": "bad"}),
        (50 * GIB, 100 * GIB, 0.01, {"disk.room": "ok", "disk.inodes": "bad"}),
    ],
    ids=["half", "a twentieth", "plenty of much", "nothing", "no inodes"],
)
def test_room_on_disks_is_judged(free: int, size: int, inodes: float, expected: dict[str, str]) -> None:
    assert states(disk.judge([disk.Disk(what="data", path="/", free=free, size=size, inodes_part=inodes)])) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"newest_s": 3600.0}, "ok"),
        ({"newest_s": 3 * 86_400.0}, "warn"),
        ({"newest_s": 8 * 86_400.0}, "bad"),
        ({}, "warn"),
        ({"fault": "no rights"}, "skipped"),
    ],
    ids=["fresh", "days old", "a week old", "none", "closed"],
)
def test_a_backup_grows_old(change: dict[str, Any], expected: str) -> None:
    assert states(disk.judge_backups(disk.Backups(path="/b", **change))) == {"disk.backup": expected}


def test_a_folder_that_keeps_the_nightly_backup_out_is_bad() -> None:
    found = states(disk.judge_backups(disk.Backups(path="/b", newest_s=60.0, refused="opendesk")))
    assert found == {"disk.backup_folder": "bad", "disk.backup": "ok"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"jobs.work": "ok"}),
        ({"dead": 1}, {"jobs.dead": "warn"}),
        ({"stuck": 1}, {"jobs.stuck": "bad"}),
        ({"oldest_due_s": 61.0, "late_lanes": ["R1"]}, {"jobs.late": "warn"}),
        ({"oldest_due_s": 601.0}, {"jobs.late": "bad"}),
    ],
    ids=str,
)
def test_jobs_are_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert states(work.judge_jobs(evolve(work.Jobs(due=1, oldest_due_s=0.0, dead=0, stuck=0), **change))) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"events.work": "ok"}),
        ({"oldest_waiting_s": 601.0}, {"events.late": "warn"}),
        ({"oldest_ack_s": 61.0, "ack_error": "refused"}, {"events.acks": "warn"}),
        ({"oldest_ack_s": 601.0}, {"events.acks": "bad"}),
    ],
    ids=str,
)
def test_events_are_judged(change: dict[str, Any], expected: dict[str, str]) -> None:
    quiet = work.Events(waiting=1, oldest_waiting_s=0.0, acks_waiting=1, oldest_ack_s=0.0)
    assert states(work.judge_events(evolve(quiet, **change))) == expected


def test_a_backend_that_is_away_and_books_that_are_wrong_are_bad() -> None:
    assert states(work.judge_backend(work.Backend(name="B"))) == {"backend.reachable": "ok"}
    assert states(work.judge_backend(work.Backend(name="B", fault="refused"))) == {"backend.reachable": "bad"}
    assert states(work.judge_ledger(entries=9, wrong=[])) == {"ledger.proof": "ok"}
    assert states(work.judge_ledger(entries=9, wrong=["every balance"])) == {"ledger.proof": "bad"}
