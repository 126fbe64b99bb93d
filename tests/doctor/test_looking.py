"""How facts are come by: from real files, a real database, routers and a backend that are simulated on real sockets."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
import json
import os
from pathlib import Path
import pwd
from typing import Any, Final

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
import pytest
import trio

from opendesk.doctor import examination
from opendesk.doctor.examination import Look, NoDatabase, Told, examine
from opendesk.doctor.finding import Finding, ok
from opendesk.doctor.looking import callers, files, network, rows, system, units
from opendesk.doctor.patient import admitted
from opendesk.network.routers.registry import spec_of_node
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded import account
from opendesk.postgres.embedded.datadir import DataDir, locked
from opendesk.postgres.embedded.lifetime import SERVING
from opendesk.settings import load, load_with_faults
from opendesk.settings.table import Settings
from opendesk.simulators.event_backend import EVENTS_PATH, EventBackend
from opendesk.simulators.event_server import served
from opendesk.simulators.routeros.fleet import routers, serve_all
from opendesk.simulators.wireguard import SimulatedPeer, SimulatedWireguard
from tests.system.daemon import url_of
from tests.web.site import serving_site

NOW: Final = datetime(2026, 11, 22, tzinfo=UTC)


def write_certificate(folder: Path, *, days: float = 90.0, other_key: bool = False) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "desk.example.org")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("desk.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / "cert.pem", folder / "key.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    kept = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    key_path.write_bytes(kept.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key_path.chmod(0o600)
    return path, key_path


def test_a_certificate_is_read_with_its_names_and_its_days(tmp_path: Path) -> None:
    found = files.certificate(*write_certificate(tmp_path), NOW)
    assert (found.fault, found.names, found.chain, found.is_self_signed) == (None, ["desk.example.org"], 1, True)
    assert (round(found.days_left), round(found.days_until_valid), found.key_mode) == (90, -1, 0o600)


def test_a_certificate_with_another_key_or_none_is_a_fault(tmp_path: Path) -> None:
    path, key = write_certificate(tmp_path, other_key=True)
    assert "is not its own" in str(files.certificate(path, key, NOW).fault)
    assert "No such file" in str(files.certificate(tmp_path / "none", key, NOW).fault)
    path.write_text("nonsense")
    assert "is no PEM" in str(files.certificate(path, key, NOW).fault)


def test_files_of_secrets_are_found_with_their_modes(tmp_path: Path) -> None:
    credentials, env_file = tmp_path / "credentials", tmp_path / "opendesk.env"
    credentials.mkdir()
    for name, mode in (("RELAY_TOKEN", 0o600), ("RELAY_TOKE", 0o644)):
        (credentials / name).write_text("0123456789abcdef\n")
        (credentials / name).chmod(mode)
    env_file.write_text("JWT_SECRET=0123456789abcdef0123456789abcdef\n")
    env_file.chmod(0o640)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    found = files.secrets(load(environ, env_file=env_file), environ, env_file)
    assert {name: len(values) for name, values in found.values.items()} == {"RELAY_TOKEN": 1, "JWT_SECRET": 1}
    assert [(Path(file.path).name, file.mode, file.is_known) for file in found.files] == [
        ("RELAY_TOKE", 0o644, False),
        ("RELAY_TOKEN", 0o600, True),
        ("opendesk.env", 0o640, True),
    ]


def test_an_env_file_without_secrets_may_be_open(tmp_path: Path) -> None:
    env_file = tmp_path / "opendesk.env"
    env_file.write_text("PORT=3333\n")
    assert files.secrets(load({}, env_file=env_file), {}, env_file).files == []


def test_the_newest_backup_is_found_and_no_half_one(tmp_path: Path) -> None:
    assert system.backups(tmp_path / "none").newest_s is None
    for name, age_s in (("old.tar", 9_000), ("new.tar", 5_000), (".part", 10), ("empty.tar", 10)):
        (tmp_path / name).write_text("" if name.startswith("empty") else "x")
        moment = datetime.now(UTC).timestamp() - age_s
        os.utime(tmp_path / name, (moment, moment))
    assert round((system.backups(tmp_path).newest_s or 0) / 1000) == 5


def test_whether_the_nightly_backup_may_write_its_folder_is_told_whoever_looks(tmp_path: Path) -> None:
    me, other = pwd.getpwuid(os.getuid()).pw_name, "nobody"
    folder = tmp_path / "backups"
    assert system.backups(folder, other).refused is None  # not there
    folder.mkdir(mode=0o700)
    assert system.backups(folder, me).refused is None
    assert system.backups(folder, other).refused == other
    assert system.backups(folder, "no-such-user").refused is None
    folder.chmod(0o777)
    assert system.backups(folder, other).refused is None


def test_a_disk_is_found_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = system.disks(evolve(Settings(), opendesk_data_dir=tmp_path / "a" / "b"))[0]
    assert (found.what, found.path, 0 < found.free <= found.size) == ("data", str(tmp_path), True)


def test_a_process_is_asked_what_it_may_and_since_when_it_runs() -> None:
    assert system.may_change_interfaces(os.getpid()) is not None
    assert system.may_change_interfaces(None) is None
    since = system.running_since(os.getpid())
    assert since is not None
    assert since < datetime.now(UTC).timestamp() + 1
    assert (system.running_since(2**31 - 1), system.running_since(None)) == (None, None)


async def test_a_database_tells_of_itself_and_of_its_work(conn: TrioConnection) -> None:
    await conn.run(
        "INSERT INTO jobs (type, lane, key, payload, state, run_at, finished_at) VALUES"
        " ('X', 'R1', 'a', '{}', 'due', now() - interval '90 s', NULL), ('X', 'R2', 'b', '{}', 'due', now() + interval '1 h', NULL),"
        " ('ACK_EVENT', '/acks', 'c', '{}', 'due', now(), NULL), ('X', 'R1', 'd', '{}', 'dead', now(), now())"
    )
    found = await rows.database(conn, is_external=True)
    assert (found.missing, found.fault, found.unreadable, found.long_transactions) == ([], None, 0, 0)
    assert 0 < found.connections < found.max_connections
    jobs = await rows.jobs(conn)
    assert (jobs.due, jobs.dead, jobs.stuck, jobs.late_lanes, jobs.oldest_due_s > 89) == (1, 1, 0, ["R1"], True)
    events = await rows.events(conn)
    assert (events.waiting, events.acks_waiting, events.ack_error) == (0, 1, None)


async def test_what_a_doctor_is_lent_can_change_nothing(conninfo: str, conn: TrioConnection) -> None:
    async with admitted(load({"DATABASE_URL": url_of(conninfo)}), {}) as patient:
        assert patient.pool is not None
        with pytest.raises(Exception, match="read-only transaction"):
            async with patient.pool.connection() as lent:
                await lent.run("INSERT INTO secrets (name, value) VALUES ('x', 'x')")
    assert await conn.fetch_one("SELECT count(*) FROM secrets") == (0,)


async def test_a_backend_is_asked_for_nothing_but_its_clock() -> None:
    backend = EventBackend()
    async with served(backend) as url:
        found = await callers.backend(url + EVENTS_PATH)
    assert found.fault is None
    assert "127.0.0.1:1" in str((await callers.backend("http://127.0.0.1:1/events")).fault)


@pytest.mark.parametrize("url", ["http://exa..mple/events", "http://[v1.a]/events"])
async def test_a_backend_that_no_name_leads_to_is_told(url: str) -> None:
    assert (await callers.backend(url)).fault


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [("Sun, 22 Nov 2026 17:00:30 GMT", 30.0), (None, None), ("yesterday", None)],
    ids=["ahead", "none", "nonsense"],
)
def test_a_clock_is_told_by_an_answers_date(date: str | None, ahead_s: float | None) -> None:
    assert callers._ahead(date, datetime(2026, 11, 22, 17, tzinfo=UTC).timestamp()) == ahead_s


async def test_routers_are_tried_all_at_once_and_each_is_told(nursery: trio.Nursery) -> None:
    fleet = routers(3)
    fleet[2].faults.black_hole = True
    places = await nursery.start(serve_all, fleet)
    nodes = [each.node for each in places]
    nodes[1]["pass"] = "wrong"
    nodes.append({**nodes[0], "id": "nobody", "port": 1})
    settings = load({"MIKROTIK_NODES": json.dumps([{**node, "timeoutMs": 500} for node in nodes])})
    specs = {node.id: spec_of_node(node, settings) for node in settings.mikrotik_nodes}
    done: list[int] = []
    found = await network.routers(specs, {"sim-1": True}, within_s=30, on_done=done.append)
    assert [(one.id, one.outcome, one.is_open) for one in found] == [
        ("nobody", "unreachable", False),
        ("sim-1", "well", True),
        ("sim-2", "refused", False),
        ("sim-3", "unreachable", False),
    ]
    assert sorted(done) == [1, 2, 3, 4]
    assert "wrong" not in str(found)
    nursery.cancel_scope.cancel()


async def test_an_interface_is_read_with_its_peers() -> None:
    settings = evolve(Settings(), wg_interface="wg0", wg_vps_endpoint="vps.example.org:51999")
    wireguard = SimulatedWireguard(peers={"A" * 43 + "=": SimulatedPeer()})
    found = await network.tunnels(settings, has_net_admin=True, run=wireguard.run)
    assert (found.fault, found.listen_port, found.told_port, found.never) == (None, 51820, 51999, 1)
    wireguard.is_gone = True
    assert (await network.tunnels(settings, has_net_admin=True, run=wireguard.run)).fault is not None
    wireguard.missing = True
    assert not (await network.tunnels(settings, has_net_admin=True, run=wireguard.run)).is_installed


# ---- all of them


async def test_one_that_hangs_or_fails_is_a_finding_and_keeps_nobody(autojump_clock: trio.abc.Clock) -> None:
    async def well() -> Sequence[Finding]:
        return [ok("a.b", "fine")]

    async def without() -> Sequence[Finding]:
        raise NoDatabase("away")

    async def failing() -> Sequence[Finding]:
        raise OSError("no disk")

    async def surprised() -> Sequence[Finding]:
        raise ExceptionGroup("", [ValueError("nobody thought"), ExceptionGroup("", [UnicodeError("of it")])])

    told: list[str] = []
    looks = [
        Look(topic="hanging", find=trio.sleep_forever),
        *(Look(topic=find.__name__, find=find) for find in (failing, surprised, without, well)),
    ]
    found = await examination.run(looks, Told(ended=told.append))
    assert [(one.check, one.state) for one in found] == [
        ("hanging.look", "bad"),
        ("failing.look", "bad"),
        ("surprised.look", "bad"),
        ("without.look", "skipped"),
        ("a.b", "ok"),
    ]
    assert found[2].what == "it can't be looked at: nobody thought; of it"
    assert told[-1] == "hanging"


async def test_a_sound_database_without_a_daemon_is_told_so(conninfo: str, tmp_path: Path) -> None:
    environ = {"DATABASE_URL": url_of(conninfo), "OPENDESK_DATA_DIR": str(tmp_path), "PORT": "1"}
    found = states(await examine(load(environ), environ, env_file=None, quick=False))
    assert {check for check, state in found if state == "bad"} == {"daemon.answers"}
    assert {("database.reachable", "ok"), ("ledger.proof", "ok"), ("jobs.work", "ok"), ("events.work", "ok")} <= found
    assert not os.listdir(tmp_path)  # noqa: PTH208  # it is empty


async def test_faulty_settings_and_a_database_that_is_away_stop_nothing_else(tmp_path: Path) -> None:
    environ = {
        "DATABASE_URL": "postgresql://u:TOPSECRET@127.0.0.1:1/d",
        "PORT": "x",
        "OPENDESK_DATA_DIR": str(tmp_path),
    }
    environ["MIKROTIK_NODES"] = '[{"id": "R1", "host": "127.0.0.1", "port": 1, "user": "u", "pass": "HIDDEN"}]'
    settings, faults = load_with_faults(environ)
    assert [fault.split(":")[0] for fault in faults] == ["PORT"]
    told = await examine(settings, environ, env_file=None, quick=False)
    found = states(told)
    assert {("database.reachable", "bad"), ("jobs.look", "skipped"), ("ledger.look", "skipped")} <= found
    assert ("routers.reachable", "bad") in found
    assert not {"TOPSECRET", "HIDDEN"} & set(words(told))


def states(found: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(finding.check, finding.state) for finding in found}


def words(found: Sequence[Any]) -> Iterator[str]:
    for finding in found:
        yield from repr(finding).replace(":", " ").replace("@", " ").split()


# ---- the daemon, wherever it is called

SHOWN: Final = """\
Id=opendesk.service
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
MainPID=0

Listen=127.0.0.1:3333 (Stream)
Id=opendesk.socket
LoadState=loaded
ActiveState=inactive

Id=opendesk@3333.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
MainPID=41

Id=opendesk@3334.service
LoadState=loaded
ActiveState=active
MainPID=42

Listen=127.0.0.1:3333 (Stream)
Listen=/run/opendesk/x.sock (Stream)
Listen=/run/opendesk/fifo (FIFO)
Id=opendesk@3333.socket
ActiveState=active
"""


def test_units_are_read_with_the_addresses_of_their_sockets() -> None:
    found = units.parsed(SHOWN)
    assert [(unit.name, unit.pid, unit.listens) for unit in found] == [
        ("opendesk.service", None, ()),
        ("opendesk@3333.service", 41, ("127.0.0.1:3333", "unix:/run/opendesk/x.sock")),
        ("opendesk@3334.service", 42, ()),
    ]
    assert [(unit.is_started, unit.is_off) for unit in found] == [(False, True), (True, False), (True, False)]


def test_systemds_daemons_are_called_where_their_sockets_listen() -> None:
    found = units.parsed(SHOWN)
    told = [(target.address, target.pid, target.unit) for target in units.targets(found, "127.0.0.1:9", None)]
    assert told == [
        ("127.0.0.1:3333", 41, "opendesk@3333"),
        ("unix:/run/opendesk/x.sock", 41, "opendesk@3333"),
        ("127.0.0.1:3334", 42, "opendesk@3334"),
    ]


def test_without_a_unit_of_its_own_a_daemon_is_called_where_the_settings_say() -> None:
    expected = [units.Target("127.0.0.1:9", 77, is_by_settings=True)]
    assert units.targets(units.parsed(SHOWN), "127.0.0.1:9", 77) == expected
    assert units.targets([], "127.0.0.1:9", 77) == expected


def test_nobody_is_called_whom_systemd_would_start_for_it() -> None:
    found = [evolve(units.parsed(SHOWN)[0], listens=("[::]:443",))]
    assert units.targets(found, "0.0.0.0:443", None) == []
    assert units.listens(found, "0.0.0.0:443", None) == ["[::]:443"]


def test_where_it_listens_systemd_tells_of_daemons_of_its_own() -> None:
    found = units.parsed(SHOWN)
    assert units.listens(found, "127.0.0.1:9", None)[0] == "127.0.0.1:3333"
    assert units.listens(found, "127.0.0.1:9", 77) == []
    assert units.listens([], "127.0.0.1:9", None) == []


def test_units_that_nobody_calls_are_read_each() -> None:
    found = units.parsed_each(
        "Id=opendesk-backup.timer\nActiveState=active\n\nId=opendesk.socket\nActiveState=failed\n"
    )
    assert [(unit.name, unit.is_started) for unit in found] == [
        ("opendesk-backup.timer", True),
        ("opendesk.socket", False),
    ]
    assert units.parsed_each("") == []


async def test_only_a_daemon_of_ours_is_taken_for_one(nursery: trio.Nursery) -> None:
    async def stranger(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{"ok":true}')

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, stranger, [listener])
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    found = await callers.daemon(address, has_tls=False)
    assert (found.is_ours, found.fault) == (False, None)


async def test_a_stranger_who_never_ends_his_answer_is_not_listened_to(nursery: trio.Nursery) -> None:
    async def stranger(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nX-Request-Id: any\r\n\r\n")
            while True:
                await stream.send_all(b"x" * 4096)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, stranger, [listener])
    with trio.fail_after(examination.LOOK_S):
        found = await callers.daemon(f"127.0.0.1:{listener.socket.getsockname()[1]}", has_tls=False)
    assert (found.is_ours, found.fault) == (False, None)


async def test_tls_that_is_set_and_not_spoken_is_told(conninfo: str) -> None:
    async with serving_site(conninfo) as site:
        address = f"127.0.0.1:{site.port}"
        plain, tls = await callers.daemon(address, has_tls=False), await callers.daemon(address, has_tls=True)
    assert (plain.is_ours, plain.is_ready, plain.tls_fault, plain.fault) == (True, True, None, None)
    assert (tls.is_ready, tls.fault) == (True, None)
    assert "speaks no TLS" in str(tls.tls_fault)


async def test_a_port_that_cannot_be_read_is_not_taken_for_another_one(tmp_path: Path) -> None:
    environ = {"PORT": "x", "OPENDESK_DATA_DIR": str(tmp_path)}
    settings, faults = load_with_faults(environ)
    found = states(await examine(settings, environ, env_file=None, quick=True, faults=faults))
    assert ("daemon.answers", "skipped") in found


async def test_a_database_that_cannot_be_read_of_is_not_taken_for_another_one(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "nonsense://", "OPENDESK_DATA_DIR": str(tmp_path)}
    settings, faults = load_with_faults(environ)
    found = states(await examine(settings, environ, env_file=None, quick=True, faults=faults))
    assert {("database.reachable", "skipped"), ("jobs.look", "skipped")} <= found


async def test_a_daemon_whose_own_database_hangs_is_not_told_to_be_started(tmp_path: Path) -> None:
    folder = DataDir.at(tmp_path)
    folder.pgdata.mkdir()
    with locked(folder, account.choose(folder.pgdata, folder.root), SERVING) as ours:
        assert ours
        async with admitted(load({"OPENDESK_DATA_DIR": str(tmp_path)}), {}) as patient:
            assert (patient.pool, patient.daemon_pid) == (None, os.getpid())
            assert f"process {os.getpid()} serves" in patient.no_pool
