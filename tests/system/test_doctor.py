"""`opendesk doctor` beside a real daemon, and after it: what it says is data and lines, and it changes nothing."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.system.commands import Done, opendesk
from tests.system.conftest import Start


async def doctor(data_dir: Path, *options: str, **settings: Any) -> Done:
    return await opendesk("doctor", *options, data_dir=data_dir, **settings)


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def states(done: Done) -> dict[str, str]:
    return {finding["check"]: finding["state"] for finding in json.loads(done.out)["findings"]}


async def test_a_daemon_that_is_well_is_found_well(start: Start, data_dir: Path) -> None:
    secret = "hidden-0123456789-hidden"
    daemon = await start(data_dir, RELAY_TOKEN=secret)
    port = str(urlsplit(str(daemon.http.base_url)).port)
    done = await doctor(data_dir, "--json", PORT=port, RELAY_TOKEN=secret)
    found = states(done)
    assert (done.code, json.loads(done.out)["ok"]) == (0, True), done
    assert not [check for check, state in found.items() if state == "bad"]
    expected = (
        "daemon.answers",
        "daemon.ready",
        "daemon.version",
        "database.migrations",
        "database.folder",
        "ledger.proof",
    )
    assert [found[check] for check in expected] == ["ok"] * len(expected)
    assert all((finding["do"] is None) == (finding["state"] == "ok") for finding in json.loads(done.out)["findings"])
    assert secret not in done.out + done.err


async def test_without_a_daemon_nothing_is_started_and_what_to_do_is_said(data_dir: Path) -> None:
    before = everything_in(data_dir)
    done = await doctor(data_dir, "--quick", PORT="1")
    assert (done.code, done.err) == (1, "")
    assert "BAD  nobody answers at 127.0.0.1:1" in done.out
    assert "→ systemctl start opendesk" in done.out
    lines = done.out.splitlines()
    assert lines[-1].endswith("not looked at")
    first_bad = min(number for number, line in enumerate(lines) if line.startswith("  BAD"))
    assert not any(line.startswith("  skip") for line in lines[first_bad:])
    assert everything_in(data_dir) == before


async def test_faulty_settings_are_findings_among_others(data_dir: Path) -> None:
    done = await doctor(data_dir, "--quick", "--json", PORT="x", CURRENCY="y")
    told = json.loads(done.out)["findings"]
    assert done.code == 1
    assert [finding["what"].split(":")[0] for finding in told if finding["check"] == "settings.valid"] == [
        "PORT",
        "CURRENCY",
    ]
    assert {finding["check"].split(".")[0] for finding in told} >= {"disk", "clock", "daemon", "database"}
