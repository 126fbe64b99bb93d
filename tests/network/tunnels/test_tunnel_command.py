"""`opendesk tunnel` as somebody at a terminal runs it: on a simulated `wg`, and as a process on a real one."""

from collections.abc import Callable, Iterator
import json
from pathlib import Path
import shutil
import socket
import stat
import subprocess
import time
from typing import Any

from click.testing import CliRunner, Result
import pytest
import trio

from opendesk.cli import group, tunnel_init, tunnel_wg
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.errors import DeviceNotFound
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import NewDevice
from opendesk.network.wireguard.key_file import public_key_of
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.wireguard.alone import namespace
from tests.network.wireguard.namespaces import new_key
from tests.system.daemon import COMMAND, environment, url_of

MASTER = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
SEALER = Sealer((Secret(bytes(range(1, 33))),))
KEYS = [public_key_of(new_key()) for _ in range(6)]
VPS = KEYS[-1]
NOW = int(time.time())

Run = Callable[..., Result]


@pytest.fixture
def wg(monkeypatch: pytest.MonkeyPatch) -> SimulatedWireguard:
    simulated = SimulatedWireguard()
    monkeypatch.setattr(tunnel_wg, "run", simulated.run)
    return simulated


@pytest.fixture
def run(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """In a thread: a command runs a Trio of its own."""
    for name, value in {"DATABASE_URL": url_of(conninfo), "RELAY_MASTER_KEY": MASTER, "WG_INTERFACE": "wg0"}.items():
        monkeypatch.setenv(name, value)

    async def run(*arguments: str, **settings: str) -> Result:
        def invoke() -> Result:
            return CliRunner(env=settings).invoke(group, ["tunnel", *arguments])

        return await trio.to_thread.run_sync(invoke)

    return run


def done(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, result.output
    return result.stdout


async def register(
    conn: TrioConnection, name: str, key: str, number: int, *, dry_run: bool = False, **more: Any
) -> None:
    new = NewDevice(id=name, public_key=key, allowed_ips=(), tunnel_ip=f"10.200.0.{number}", **more)
    await devices.put(conn, new, SEALER, dry_run=dry_run)


# list


async def test_devices_and_what_else_is_there_are_listed(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    await register(conn, "bus-2", KEYS[1], 3)
    await bindings.bind(conn, KEYS[3], "by-hand", "10.200.9.9", dry_run=False)
    wg.add(KEYS[0], "10.200.0.2/32", keepalive=25)
    wg.add(KEYS[2], "10.200.7.7/32")
    wg.add(KEYS[3])
    wg.handshake(KEYS[0], int(time.time()) - 70)
    told = json.loads(done(await run("list", "--json", "--rates-over", "0")))
    peers = {peer["publicKey"]: peer for peer in told["peers"]}
    assert (told["interface"], told["dryRun"], told["fault"]) == ("wg0", False, None)
    assert [peers[key]["known"] for key in KEYS[:4]] == ["device", "device", "unknown", "bound"]
    assert (peers[KEYS[0]]["status"], peers[KEYS[0]]["tunnelIp"]) == ("ONLINE", "10.200.0.2")
    assert 70 <= peers[KEYS[0]]["handshakeAge"] < 100
    assert (peers[KEYS[1]]["status"], peers[KEYS[1]]["rx"]) == (None, None)
    lines = done(await run("list", "--rates-over", "0")).splitlines()
    assert lines[0].split() == ["DEVICE", "TUNNEL", "IP", "STATUS", "HANDSHAKE", "ENDPOINT", "RX", "TX", "KEY"]
    assert [line.split()[0] for line in lines[1:]] == ["bus-1", "bus-2", *(["(bound)", "(unknown)"] if KEYS[3] < KEYS[2] else ["(unknown)", "(bound)"])]  # fmt: skip


async def test_rates_are_measured_between_two_looks(run: Any, wg: SimulatedWireguard, conn: TrioConnection) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    wg.add(KEYS[0], "10.200.0.2/32")

    async def look(command: list[str], **rest: Any) -> Any:
        answer = await wg.run(command, **rest)
        wg.handshake(KEYS[0], NOW, rx=1_000_000, tx=0)
        return answer

    tunnel_wg.run = look
    [peer] = json.loads(done(await run("list", "--json", "--rates-over", "0.01")))["peers"]
    assert peer["rxRate"] > 0
    assert peer["txRate"] == 0


@pytest.mark.parametrize(
    ("settings", "word"), [({"WG_INTERFACE": ""}, "WG_INTERFACE"), ({"RELAY_DRY_RUN": "1"}, "RELAY_DRY_RUN")]
)
async def test_without_an_interface_devices_are_listed_and_wg_is_not_called(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection, settings: dict[str, str], word: str
) -> None:
    for dry_run in (False, True):
        await register(conn, "bus-1", KEYS[0], 2, dry_run=dry_run)
    listed = await run("list", **settings)
    assert "bus-1" in done(listed)
    assert word in listed.stderr
    assert wg.calls == []


async def test_an_interface_that_can_not_be_read_is_said_and_devices_are_listed(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    wg.is_gone = True
    listed = await run("list")
    assert "bus-1" in done(listed)
    assert "wg show wg0" in listed.stderr


# plan and apply


async def test_a_plan_shows_and_changes_nothing(run: Any, wg: SimulatedWireguard, conn: TrioConnection) -> None:
    await register(conn, "bus-1", KEYS[0], 2, preshared_key=Secret(KEYS[4]))
    wg.add(KEYS[2], "10.200.7.7/32")
    planned = await run("plan", "--json")
    told = json.loads(done(planned, 2))
    assert [(change["change"], change["publicKey"], change["presharedKey"]) for change in told["changes"]] == [
        ("put", KEYS[0], "set")
    ]
    assert (told["unknown"], told["heldBack"]) == ([KEYS[2]], 1)
    assert KEYS[4] not in planned.output + (await run("plan")).output
    assert [call for call in wg.calls if "set" in call] == []


async def test_apply_sets_right_and_then_there_is_nothing_to_do(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    assert done(await run("apply")).splitlines() == [f"put      {KEYS[0]}"]
    assert wg.peers[KEYS[0]].allowed_ips == ["10.200.0.2/32"]
    assert done(await run("apply")) == done(await run("plan")) == "nothing to do\n"


async def test_a_tenth_of_unknown_peers_goes_and_more_only_with_yes(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    for key in KEYS[1:4]:
        wg.add(key)
    wg.add(KEYS[0], "10.200.0.2/32", keepalive=25)
    assert done(await run("apply")) == "nothing to do\n"
    refused = await run("apply", "--remove-unknown")
    assert refused.exit_code == 1
    assert "3 of 4 peers are unknown" in refused.stderr
    assert len(wg.peers) == 4
    told = json.loads(done(await run("apply", "--remove-unknown", "--yes", "--json")))
    assert sorted(change["publicKey"] for change in told["done"]) == sorted(KEYS[1:4])
    assert list(wg.peers) == [KEYS[0]]


@pytest.mark.parametrize("arguments", [("apply", "--remove-unknown"), ("apply",)])
async def test_unknown_peers_do_not_go_by_asking_often(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection, arguments: tuple[str, ...]
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    wg.add(KEYS[0], "10.200.0.2/32", keepalive=25)
    wg.add(KEYS[1])
    done(await run(*arguments, RELAY_RECONCILE_REMOVE="1"))
    assert list(wg.peers) == [KEYS[0]]
    wg.add(KEYS[2])
    again = await run(*arguments, RELAY_RECONCILE_REMOVE="1")
    assert (again.exit_code, KEYS[2] in wg.peers) == (len(arguments) - 1, True)
    assert "a moment ago" in again.stderr
    done(await run("apply", "--remove-unknown", "--yes"))
    assert list(wg.peers) == [KEYS[0]]


async def test_a_name_that_is_not_known_is_said_and_all_else_is_done(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(host: str, *_rest: Any, **_more: Any) -> Any:
        if host == "bus.example":
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.7", 7))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    await register(conn, "bus-1", KEYS[0], 2, endpoint="none.example:7")
    await register(conn, "bus-2", KEYS[1], 3, endpoint="bus.example:7")
    applied = await run("apply")
    assert "none.example:7" in applied.stderr
    assert len(done(applied).splitlines()) == 2
    assert [wg.peers[key].endpoint for key in KEYS[:2]] == [None, "192.0.2.7:7"]


async def test_an_interface_with_another_key_than_routers_know_is_something(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    for arguments in (("plan",), ("plan", "--json")):
        assert done(await run(*arguments, WG_VPS_PUBLIC_KEY=str(wg.public_key)))
        planned = await run(*arguments, WG_VPS_PUBLIC_KEY=VPS)
        assert planned.exit_code == 2
        assert VPS in planned.output
        assert str(wg.public_key) in planned.output
    await register(conn, "bus-1", KEYS[0], 2)
    vps = {"WG_VPS_PUBLIC_KEY": VPS, "WG_VPS_ENDPOINT": "vpn.example.org:51820"}
    refused = await run("script", "bus-1", **vps)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert str(wg.public_key) in refused.stderr
    wg.is_gone = True  # as on a machine that hasn't got it
    assert VPS in done(await run("script", "bus-1", **vps))


async def test_what_is_not_held_is_exit_code_1(run: Any, wg: SimulatedWireguard, conn: TrioConnection) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    wg.lies = True
    applied = await run("apply")
    assert applied.exit_code == 1
    assert f"not held: missing {KEYS[0]} bus-1" in applied.stderr


@pytest.mark.parametrize("command", ["plan", "apply"])
async def test_without_an_interface_there_is_no_pass(run: Any, wg: SimulatedWireguard, command: str) -> None:
    refused = await run(command, WG_INTERFACE="")
    assert refused.exit_code == 1
    assert "WG_INTERFACE is not set" in refused.stderr
    wg.forbidden = True
    refused = await run(command)
    assert refused.exit_code == 1
    assert "wg show wg0" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 2


@pytest.mark.parametrize(("command", "code"), [("plan", 2), ("apply", 0)])
async def test_in_a_dry_run_nothing_is_called(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection, command: str, code: int
) -> None:
    await register(conn, "real", KEYS[0], 2)
    await register(conn, "pretended", KEYS[1], 2, dry_run=True)
    told = json.loads(done(await run(command, "--json", RELAY_DRY_RUN="1"), code))
    assert [change["publicKey"] for change in told["changes"]] == [KEYS[1]]
    assert told["dryRun"]
    assert wg.calls == []


# rotate


async def test_a_rotation_is_begun_waited_for_and_taken_back(
    run: Any, wg: SimulatedWireguard, conn: TrioConnection
) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    assert "asked for" in done(await run("rotate", "bus-1", KEYS[1]))
    late = await run("rotate", "bus-1", KEYS[1], "--wait", "1")
    assert late.exit_code == 1
    assert "goes on" in late.stderr
    assert "the next key goes" in done(await run("rotate", "bus-1", "--cancel"))
    assert "has no next key" in (await run("rotate", "bus-1", "--cancel")).stderr
    found = await devices.get(conn, "bus-1", dry_run=False)
    assert (found.public_key, found.next_public_key) == (KEYS[0], None)


async def test_who_waits_is_told_when_it_is_done(run: Any, conn: TrioConnection) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    told: list[str] = []

    async def wait() -> None:
        told.append(done(await run("rotate", "bus-1", KEYS[1], "--wait", "60")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        while not await devices.complete_rotation(conn, "bus-1", KEYS[1], dry_run=False):  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.02)
    assert told[0].splitlines()[-1] == "device bus-1: done"
    assert "has this key already" in done(await run("rotate", "bus-1", KEYS[1]))


async def test_nobody_is_made_by_a_rotation(run: Any, conn: TrioConnection) -> None:
    refused = await run("rotate", "nobody", KEYS[1])
    assert (refused.exit_code, refused.stderr) == (1, "Error: there is no device nobody\n")
    with pytest.raises(DeviceNotFound):
        await devices.get(conn, "nobody", dry_run=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("bus-1",),
        ("bus-1", KEYS[0], "--cancel"),
        ("bus-1", "no-key"),
        ("bus-1", KEYS[0], "--wait", "-1"),
        ("bus-1", KEYS[0], "--wait", "nan"),
    ],
)
async def test_what_does_not_fit_is_refused(run: Any, arguments: tuple[str, ...]) -> None:
    refused = await run("rotate", *arguments)
    assert refused.exit_code == 2


async def test_a_key_that_does_not_fit_is_not_repeated(run: Any) -> None:
    refused = await run("rotate", "bus-1", f"{KEYS[0]}x")
    assert KEYS[0] not in refused.output


# script


async def test_the_script_of_a_device_is_lines_for_its_router(run: Any, conn: TrioConnection) -> None:
    await register(conn, "bus-1", KEYS[0], 2)
    told = done(await run("script", "bus-1", WG_VPS_PUBLIC_KEY=VPS, WG_VPS_ENDPOINT="vpn.example.org:51820"))
    assert "10.200.0.2/32" in told
    assert VPS in told
    assert "vpn.example.org" in told


async def test_without_what_a_script_needs_it_is_said(run: Any, conn: TrioConnection) -> None:
    await devices.put(
        conn, NewDevice(id="bare", public_key=KEYS[0], allowed_ips=("10.9.0.0/24",)), SEALER, dry_run=False
    )
    assert "WG_VPS_PUBLIC_KEY" in (await run("script", "bare")).stderr
    vps = {"WG_VPS_PUBLIC_KEY": VPS, "WG_VPS_ENDPOINT": "vpn.example.org:51820"}
    assert "no tunnel IP" in (await run("script", "bare", **vps)).stderr
    assert "there is no device x" in (await run("script", "x", **vps)).stderr


# init, as a process, in a namespace


class Machine:
    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def tunnel(self, *arguments: str, drops: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """`drops` is what becomes of root's capabilities, as `setpriv` says it."""
        env = {"OPENDESK_DATA_DIR": str(self.folder), "WG_INTERFACE": self.name, "LOG_LEVEL": "debug", **settings}
        without = ("setpriv", "--bounding-set", drops) if drops else ()
        command = ["ip", "netns", "exec", self.name, *without, *COMMAND, "tunnel", *arguments]
        return subprocess.run(command, env=environment(env), capture_output=True, text=True, check=False, timeout=60)

    def wg(self, *arguments: str) -> str:
        told = subprocess.run(
            ["ip", "netns", "exec", self.name, "wg", *arguments], capture_output=True, text=True, check=True
        )
        return told.stdout.strip()

    @property
    def key_file(self) -> Path:
        return self.folder / "wireguard" / f"{self.name}.key"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with namespace() as name:
        yield Machine(name, tmp_path / "data")


def test_init_makes_the_interface_and_its_key_once(machine: Machine) -> None:
    shown = machine.tunnel("init", "--show")
    assert (shown.returncode, machine.folder.exists()) == (0, False)
    assert f"ip link add dev {machine.name} type wireguard" in shown.stdout
    made = machine.tunnel("init", "--json", WG_VPS_ENDPOINT="vpn.example.org:51999", WG_TUNNEL_POOL="10.77.0.0/24")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    private = machine.key_file.read_text().strip()
    assert stat.S_IMODE(machine.key_file.stat().st_mode) == 0o600
    assert (machine.wg("show", machine.name, "public-key"), machine.wg("show", machine.name, "listen-port")) == (
        told["publicKey"],
        "51999",
    )
    assert (told["address"], told["settings"]["WG_VPS_PUBLIC_KEY"]) == ("10.77.0.1/24", told["publicKey"])
    again = machine.tunnel("init", WG_VPS_ENDPOINT="vpn.example.org:51999", WG_TUNNEL_POOL="10.77.0.0/24")
    assert again.stdout.splitlines() == [
        f"{machine.name}: nothing is missing",
        f"WG_INTERFACE={machine.name}",
        f"WG_VPS_PUBLIC_KEY={told['publicKey']}",
        "WG_VPS_ENDPOINT=vpn.example.org:51999",
    ]
    assert not any(private in text for run in (shown, made, again) for text in (run.stdout, run.stderr))


def test_init_leaves_an_interface_with_another_key_and_makes_none_for_it(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    assert machine.tunnel("init", "--key", str(other)).returncode == 0
    before = machine.wg("show", machine.name, "public-key")
    refused = machine.tunnel("init")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "another key" in refused.stderr
    assert not machine.key_file.exists()
    assert machine.wg("show", machine.name, "public-key") == before


def test_init_in_a_dry_run_makes_nothing(machine: Machine) -> None:
    pretended = machine.tunnel("init", RELAY_DRY_RUN="1")
    assert pretended.returncode == 0
    assert "ip link add" in pretended.stdout
    assert subprocess.run(["ip", "-n", machine.name, "link", "show", machine.name], check=False).returncode == 1
    assert not machine.folder.exists()


def test_of_a_key_that_is_not_there_yet_nothing_is_said(machine: Machine) -> None:
    for settings in ({"RELAY_DRY_RUN": "1"}, {}):
        shown = machine.tunnel("init", "--show", WG_VPS_PUBLIC_KEY=VPS, **settings)
        assert (shown.returncode, shown.stderr) == (0, "")
    made = machine.tunnel("init", WG_VPS_PUBLIC_KEY=VPS)
    assert (made.returncode, "WG_VPS_PUBLIC_KEY is another key" in made.stderr) == (0, True)


async def test_an_address_that_routers_do_not_let_in_is_told(run: Any) -> None:
    told = await run("init", "--address", "192.168.7.1/24", RELAY_DRY_RUN="1")
    assert "let in 10.200.0.1" in told.stderr
    assert (await run("init", RELAY_DRY_RUN="1")).stderr == ""


@pytest.mark.parametrize("is_there", [True, False])
async def test_without_the_device_that_wireguard_go_needs_that_is_told(
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_there: bool,  # noqa: FBT001
) -> None:
    async def fails(command: list[str], **_rest: Any) -> subprocess.CompletedProcess[bytes]:
        looks = "show" in command and command[0] == "ip"
        return subprocess.CompletedProcess(command, 0 if looks else 1, b"[]" if looks else b"", b"")

    monkeypatch.setattr(tunnel_wg, "run", fails)
    monkeypatch.setattr(tunnel_init, "TUN", tmp_path / "tun")
    monkeypatch.setattr("opendesk.cli.tunnel_init.os.access", lambda *_: False)
    if is_there:
        (tmp_path / "tun").touch()
    refused = await run("init", OPENDESK_DATA_DIR=str(tmp_path))
    assert refused.exit_code == 1
    assert ("may not open" if is_there else "is not there") in refused.stderr


def test_the_interface_that_init_made_is_planned_applied_and_listed(machine: Machine, conninfo: str) -> None:
    async def registered() -> None:
        async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
            await register(conn, "bus-1", KEYS[0], 2)

    trio.run(registered)
    database = {"DATABASE_URL": url_of(conninfo)}
    assert machine.tunnel("init").returncode == 0
    applied = machine.tunnel("apply", **database)
    assert applied.stdout == f"put      {KEYS[0]}\n", applied.stderr
    assert machine.wg("show", machine.name, "allowed-ips") == f"{KEYS[0]}\t10.200.0.2/32"
    listed = machine.tunnel("list", "--json", "--rates-over", "0", **database)
    [peer] = json.loads(listed.stdout)["peers"]
    assert (peer["device"], peer["status"], peer["handshakeAge"]) == ("bus-1", "NEVER_CONNECTED", None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--address", "10.200.0.2/16"), "may be a router's"),
        (("--address", "nonsense"), "is not an address"),
        (("--listen-port", "0"), "listen-port"),
    ],
)
async def test_init_refuses_what_does_not_fit(run: Any, arguments: tuple[str, ...], word: str) -> None:
    refused = await run("init", *arguments)
    assert refused.exit_code == 2
    assert word in refused.stderr


async def test_init_without_a_name_says_so(run: Any) -> None:
    refused = await run("init", WG_INTERFACE="")
    assert (refused.exit_code, "WG_INTERFACE is not set" in refused.stderr) == (1, True)


def test_one_capability_is_enough_and_none_is_not(machine: Machine) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    refused = machine.tunnel("init", drops="-all")
    assert (refused.returncode, "no CAP_NET_ADMIN" in refused.stderr) == (1, True)
    assert machine.tunnel("init", drops="-all,+net_admin").returncode == 0
    assert (
        machine.tunnel("init", drops="-all,+net_admin").stdout.splitlines()[0] == f"{machine.name}: nothing is missing"
    )
