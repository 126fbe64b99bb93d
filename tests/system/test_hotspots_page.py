"""What docs/hotspots.md has backends' developers type is run as it stands there, against simulated routers."""

from functools import partial
import json
from pathlib import Path
import re
import subprocess
from typing import Any

import trio

from opendesk.simulators.routeros.fleet import routers, serve_all
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, environment

PAGE = Path(__file__).parents[2] / "docs" / "hotspots.md"


def tour() -> str:
    found = re.search(r"```sh\n(U=.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def value(name: str) -> str:
    found = re.search(rf"^{name}=(\S+)$", tour(), re.MULTILINE)
    assert found is not None
    return found[1]


async def test_the_calls_work_as_written(start: Start, data_dir: Path, nursery: trio.Nursery) -> None:
    served = await nursery.start(partial(serve_all, routers(2)))
    daemon = await start(
        data_dir,
        MIKROTIK_NODES=json.dumps([each.node for each in served]),
        RELAY_TOKEN=value("TOKEN"),
        RELAY_API_SECRET=value("SECRET"),
    )
    script = "set -eu\n" + tour().replace("http://127.0.0.1:3333", daemon.url)
    with trio.fail_after(PATIENCE_S):
        ran: Any = await trio.run_process(
            ["sh", "-c", script], env=environment({}), capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    said = ran.stdout.decode()
    assert ran.returncode == 0, said
    paid, again, moved, job, fleet, health, unknown = [json.loads(line) for line in said.splitlines()]
    assert (paid["ok"], paid["changed"], again["changed"]) == (True, True, False)
    assert (paid["ip"], moved["ip"], moved["until"]) == ("10.5.50.7", "10.5.50.8", paid["until"])
    assert (job["job"]["state"], job["job"]["result"]["online"]) == ("done", False)
    assert [(each["id"], each["breaker"]["state"]) for each in fleet["items"]] == [
        ("sim-1", "closed"),
        ("sim-2", "closed"),
    ]
    assert health["ok"]
    assert (unknown["status"], unknown["code"]) == (404, "DEVICE_NOT_FOUND")
    assert served[0].router.rows("/ip/hotspot/ip-binding") == []
    assert any(line.get("event") == "audit" and line.get("traceId") == "refund-77" for line in daemon.log)
