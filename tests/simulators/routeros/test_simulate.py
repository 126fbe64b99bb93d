"""`opendesk simulate routers`, as it is run."""

import json
import signal
import socket
import subprocess
import sys

from click.testing import CliRunner
import pytest

from opendesk.cli import group
from opendesk.settings.routers import NODES
from opendesk.simulators.routeros.fleet import routers

COMMAND = (sys.executable, "-m", "opendesk", "simulate", "routers")
# What a command that hangs is given; nothing is measured by it.
PATIENCE_S = 60


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_what_mikrotik_nodes_takes_and_serves_until_stopped(end: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "3", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        nodes = NODES.parse(process.stdout.readline())
        assert [node.id for node in nodes] == ["sim-1", "sim-2", "sim-3"]
        for node in nodes:
            with socket.create_connection((node.host, node.port or 0), timeout=PATIENCE_S) as peer:
                peer.sendall(b"\x05/quit\x00")
                assert peer.recv(100) == b"\x06!fatal\x0dnot logged in\x00"
        process.send_signal(end)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")


def test_it_can_be_pasted_into_a_shell() -> None:
    with subprocess.Popen([*COMMAND, "1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    echoed = subprocess.run(
        ["sh", "-c", f'{line.strip()}; echo "$MIKROTIK_NODES"'], capture_output=True, text=True, check=True
    )
    assert json.loads(echoed.stdout)[0]["id"] == "sim-1"


@pytest.mark.parametrize(
    ("count", "share", "dead"), [(10, 0.3, 3), (1000, 0.3, 300), (3, 0.34, 1), (7, 0, 0), (7, 1, 7)]
)
def test_a_share_of_them_is_dead(count: int, share: float, dead: int) -> None:
    assert sum(router.faults.black_hole for router in routers(count, dead=share)) == dead


@pytest.mark.parametrize(
    "words",
    [
        ("0",),
        ("1001",),
        ("2", "--port", "65535"),
        ("1", "--dead", "2"),
        ("1", "--latency-ms", "-1"),
        ("1", "--ros-version", "6.49"),
    ],
)
def test_what_it_does_not_take(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(group, ["simulate", "routers", *words]).exit_code == 2


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "1", "--port", str(port)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
