"""The README's tour is what a newcomer types first: it is run as it stands there."""

import os
from pathlib import Path
import re
import subprocess
from typing import Any

import trio

from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, environment

ROOT = Path(__file__).parents[2]


def _tour() -> str:
    section = (ROOT / "README.md").read_text().split("## Five minutes with curl")[1].split("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_tour_with_curl_works_as_written(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    script = "set -eu\n" + _tour().replace("http://127.0.0.1:3333", daemon.url)
    environ = {**environment({"OPENDESK_DATA_DIR": str(data_dir)}), "PYTHON": os.environ.get("PYTHON", "")}
    with trio.fail_after(PATIENCE_S):
        ran: Any = await trio.run_process(
            ["sh", "-c", script], cwd=ROOT, env=environ, capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    said = ran.stdout.decode()
    assert ran.returncode == 0, said
    assert '"code":"INSUFFICIENT_FUNDS"' in said
    assert '"status":"ENDED"' in said
    assert '"reason":"SESSION_HOLD"' in said
    assert "ok    every settlement adds up to its price" in said
