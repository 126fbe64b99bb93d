"""`opendesk demo`, as it is run: a day that adds up, told as data, as lines and on a terminal, and nothing left of it."""

from collections.abc import Callable, Iterator
import fcntl
import json
import os
from pathlib import Path
import shutil
import signal
import struct
import subprocess
import sys
import termios
from typing import Any, Final

from attrs import frozen
import pytest

from opendesk.simulators.happenings import Kind
from opendesk.simulators.hotspots import DEAD_SAID, ENDED_BY_ROUTER, MEANWHILE, MOVED, OFF_AFTER, ONLINE, WAITED

# httpx's: what it was sending when it was stopped.
HARMLESS: Final = "ignore:Async generator 'httpx:ResourceWarning"
COMMAND: Final = (sys.executable, "-W", "error", "-W", HARMLESS, "-m", "opendesk", "demo")
# A small day, as fast as it goes.
SMALL: Final = ("--hosts", "2", "--clients", "6", "--seed", "3", "--seconds", "0")
# One that goes on until it is stopped.
LONG: Final = ("--hosts", "2", "--clients", "4", "--seconds", "600")
# What a demo that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 120

LINES, COLUMNS = 40, 120
ALTERNATE_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@frozen
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(open_folders: Callable[[], Path]) -> Iterator[Path]:
    """Where demos put what they throw away."""
    made = open_folders()
    yield made
    shutil.rmtree(made)


def started(folder: Path, *options: str, out: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    environ = {
        **os.environ,
        "TMPDIR": str(folder),
        "TERM": "xterm-256color",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/production",
    }
    return subprocess.Popen([*COMMAND, *options], env=environ, stdout=out, stderr=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> Ended:
    out, err = process.communicate(timeout=PATIENCE_S)
    return Ended(process.returncode, out or "", err)


def started_on_terminal(folder: Path, *options: str) -> tuple["subprocess.Popen[str]", int]:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = started(folder, *options, out=theirs)
    os.close(theirs)
    return process, ours


def all_of(terminal: int) -> str:
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody writes there any more
            part = b""
        if not part:
            os.close(terminal)
            return shown.decode()
        shown += part


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Ended]:
    """The same day, played three times at once: as data, as lines, on a terminal."""
    data, lines = started(folder, *SMALL, "--json"), started(folder, *SMALL)
    process, terminal = started_on_terminal(folder, *SMALL)
    shown = all_of(terminal)
    ended = {"data": finished(data), "lines": finished(lines), "terminal": finished(process)}
    assert {how: (end.code, end.err) for how, end in ended.items()} == dict.fromkeys(ended, (0, ""))
    assert list(folder.iterdir()) == []
    return {**ended, "terminal": Ended(0, shown, "")}


@pytest.fixture(scope="module")
def day(told: dict[str, Ended]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(told["data"].out)
    return data


def test_a_day_adds_up(day: dict[str, Any]) -> None:
    totals = day["totals"]
    there = sum(totals[name] for name in ("client_wallets", "host_wallets", "escrow", "fees", "retained"))
    assert totals["topped_up"] - totals["paid_out"] == there
    assert (totals["entries"], totals["escrow"]) == (0, 0)
    assert [check for check in day["checks"] if not check["ok"]] == []
    assert (day["adds_up"], day["ledger"]["ok"], day["daemon"]["exit_code"]) == (True, True, 0)


def test_everything_that_a_day_should_show_happens(day: dict[str, Any]) -> None:
    kinds = {event["kind"] for event in day["events"]}
    assert set(Kind) - kinds <= {Kind.ALL_TAKEN}
    refused = {event["code"] for event in day["events"] if event["kind"] == "REFUSED"}
    assert refused >= {"INSUFFICIENT_FUNDS", "PC_BUSY"}


def test_every_session_that_is_used_streams_through_the_relay(day: dict[str, Any]) -> None:
    streams = day["streams"]
    used = [session for session in day["sessions"] if session["minutes_used"]]
    assert (streams["streams"], streams["live"]) == (len(used), 0)
    # Each shows a frame at least before its day goes on; 8 KiB is the smallest.
    assert streams["frames"] >= len(used)
    assert streams["megabytes"] >= len(used) * 0.008
    assert 0 < streams["latency_p50_ms"] <= streams["latency_p99_ms"]
    assert streams["inputs"] > 0


def test_phones_behind_hotspots_are_online_while_it_is_paid_for(day: dict[str, Any]) -> None:
    hotspots = day["hotspots"]
    assert (hotspots["online"], hotspots["dead"]) == (0, [])
    assert (hotspots["orders"], hotspots["revoked"], hotspots["moved"]) == (5, 1, 1)
    assert hotspots["ended"] == hotspots["orders"] - hotspots["revoked"]
    proven = {check["states"]: check["left"] for check in day["checks"]}
    assert proven[ONLINE] == proven[OFF_AFTER] == hotspots["orders"]
    assert proven[ENDED_BY_ROUTER] == hotspots["ended"]
    assert (proven[MOVED], proven[DEAD_SAID], proven[WAITED]) == (1, 1, 1)
    assert proven[MEANWHILE] > 0


def test_a_phone_is_told_of_from_its_payment_to_its_end(day: dict[str, Any]) -> None:
    told = [(event["kind"], event["code"]) for event in day["events"] if event["who"] == "davi"]
    assert told == [("ORDER_WAITS", "CIRCUIT_OPEN"), ("PHONE_ONLINE", None), ("PHONE_OFF", None)]


def sessions_of(day: dict[str, Any], end_reason: str) -> list[dict[str, Any]]:
    return [session for session in day["sessions"] if session["end_reason"] == end_reason and session["minutes_used"]]


def test_a_session_that_ran_its_time_is_paid_in_full(day: dict[str, Any]) -> None:
    completed = sessions_of(day, "COMPLETED")
    assert completed
    for session in completed:
        assert session["minutes_used"] == session["minutes_purchased"]
        assert session["settlement"]["retained"] == session["settlement"]["client_credit"] == 0


@pytest.mark.parametrize("end_reason", ["HOST_TIMEOUT", "ENDED_BY_HOST"])
def test_a_host_at_fault_pays_a_penalty_and_the_client_is_credited(day: dict[str, Any], end_reason: str) -> None:
    failed = sessions_of(day, end_reason)
    assert failed
    for session in failed:
        paid = session["settlement"]
        assert (session["status"], session["failure_reason"]) == ("FAILED", "HOST")
        assert 0 < session["minutes_used"] < session["minutes_purchased"]
        assert paid["penalty"] > 0
        assert paid["client_credit"] == paid["unused"] + paid["penalty"]


def test_a_claim_that_the_daemon_did_not_see_is_kept_and_moves_no_money(day: dict[str, Any]) -> None:
    (claimed,) = [session for session in day["sessions"] if session["claimed"] == "HOST"]
    assert (claimed["failure_reason"], claimed["settlement"]["client_credit"]) == ("NONE", 0)


def test_a_seed_is_a_day_to_the_centavo(day: dict[str, Any], told: dict[str, Ended]) -> None:
    lines = [line for line in told["lines"].out.splitlines() if line[:2].isdigit()]
    assert [(line[:5], line[8:]) for line in lines] == [(event["at"], event["text"]) for event in day["events"]]


def test_without_a_terminal_it_is_plain_lines_summed_up(told: dict[str, Ended]) -> None:
    out = told["lines"].out
    assert "\x1b" not in out
    assert "Where what clients paid went" in out
    assert "frames that clients saw" in out
    assert "It all adds up" in out


def test_a_terminal_shows_it_live_and_has_its_own_screen_back_for_the_sums(told: dict[str, Ended]) -> None:
    live, _, after = told["terminal"].out.partition(USUAL_SCREEN)
    assert ALTERNATE_SCREEN in live
    assert "What happens" in live
    assert "streams live · " in live
    assert "online behind hotspots · " in live
    assert "It all adds up" in after


def test_ctrl_c_stops_it_and_nothing_is_left(folder: Path) -> None:
    process = started(folder, *LONG)
    assert process.stdout is not None
    while "tops up" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    ended = finished(process)
    assert (ended.code, ended.err) == (130, "stopped; nothing is left of it\n")
    assert list(folder.iterdir()) == []


def test_a_reader_that_went_away_stops_it_and_nothing_is_left(folder: Path) -> None:
    process = started(folder, *LONG)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert (process.wait(PATIENCE_S), process.stderr.read()) == (1, "")
    assert list(folder.iterdir()) == []
