"""What docs/tunnels.md has people type is run as it stands there, in a dry run."""

import json
from pathlib import Path
import re
import subprocess
from typing import Any

import trio

from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, environment

PAGE = (Path(__file__).parents[2] / "docs" / "tunnels.md").read_text()
MASTER_KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="


def tour() -> str:
    found = re.search(r"```sh\n(U=.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def settings() -> dict[str, Any]:
    """As the page says to set them."""
    before = PAGE.split("```sh\nU=")[0].rsplit("\n\n", 2)[1]
    return {**dict(re.findall(r"`(\w+)=([^`$]+)`", before)), "RELAY_MASTER_KEY": MASTER_KEY}


async def test_the_calls_work_as_written(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir, **settings())
    script = "set -eu\n" + tour().replace("http://127.0.0.1:3333", daemon.url)
    with trio.fail_after(PATIENCE_S):
        ran: Any = await trio.run_process(
            ["sh", "-c", script], env=environment({}), capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    said = ran.stdout.decode()
    assert ran.returncode == 0, said
    lines = said.splitlines()
    bootstrapped = json.loads(lines[0])
    end = next(number for number, line in enumerate(lines) if number and not line.startswith(("#", "/", ":")))
    assert (bootstrapped["needPublicKey"], bootstrapped["dryRun"]) == (True, True)
    assert any(line.startswith("/interface/wireguard") for line in lines[1:end]), said
    assert lines[end] == "10.200.0.2"
    status, peers, bindings, depot, thief, devices, gone = map(json.loads, lines[end + 1 : end + 8])
    assert (status["device"]["tunnelIp"], status["hasPeer"], status["mikStatus"]) == ("10.200.0.2", None, "UNKNOWN")
    assert peers["peers"] == []
    assert [bound["deviceId"] for bound in bindings["bindings"]] == ["bus-7"]
    assert (depot["ok"], thief["code"]) == (True, "ALLOWED_IPS_TAKEN")
    assert [device["id"] for device in devices["items"]] == ["depot", "bus-7"]
    assert gone["ok"]
    assert lines[end + 8] == "True"
    assert json.loads(lines[end + 9])["ok"]
    assert len(lines) == end + 10
