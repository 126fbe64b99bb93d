"""`opendesk simulate backend`, as it is run."""

import json
from pathlib import Path
import signal
import subprocess
import sys

from click.testing import CliRunner
import httpx
import pytest

from opendesk.cli import group

COMMAND = (sys.executable, "-m", "opendesk", "simulate", "backend")
# What a command that hangs is given; nothing is measured by it.
PATIENCE_S = 60


def test_it_prints_the_settings_for_it_and_serves_until_stopped(tmp_path: Path) -> None:
    events = tmp_path / "events.json"
    events.write_text(json.dumps([{"eventId": "a"}]))
    with subprocess.Popen(
        [*COMMAND, "--secret-stdin", "--events", str(events)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("hush, hush2\n")
        process.stdin.close()
        told = dict(process.stdout.readline().strip().split("=", 1) for _ in range(2))
        assert httpx.get(told["BACKEND_EVENTS_URL"], timeout=PATIENCE_S).status_code == 401
        assert httpx.get(told["BACKEND_ACK_URL"], timeout=PATIENCE_S).json() == []
        process.send_signal(signal.SIGTERM)
        process.stdin = None  # it is closed
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("words", "given", "why"),
    [
        (("--secret-stdin",), " \n", "no secret"),
        (("--events", "-"), "{", "no JSON array"),
        (("--events", "-"), "5", "neither an array nor an event"),
        (("--events", "-"), "[" * 100_000, "nested too deeply"),
        (("--port", "0"), "", "--port"),
        (("--redeliver", "sometimes"), "", "sometimes"),
    ],
)
def test_what_it_cannot_do_it_says(words: tuple[str, ...], given: str, why: str) -> None:
    result = CliRunner().invoke(group, ["simulate", "backend", *words], input=given)
    assert result.exit_code == 2
    assert why in result.output
