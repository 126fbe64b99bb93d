"""What `journalctl` finds of our lines in a real journald, which has its own sockets and files and nothing of this machine's."""

import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Final

import pytest

JOURNALD: Final = Path("/lib/systemd/systemd-journald")
TOOLS: Final = all(shutil.which(name) for name in ("unshare", "journalctl", "mount"))
CAN: Final = os.geteuid() == 0 and JOURNALD.exists() and TOOLS and Path("/etc/machine-id").exists()
pytestmark = pytest.mark.skipif(
    not CAN, reason="NO ROOT OR NO JOURNALD HERE: THE FIELDS OF THE JOURNAL ARE UNTESTED WITH A REAL ONE"
)

# A second without an answer would be long; nothing is measured by it.
PATIENCE_S: Final = 60
# Folders of memory over the machine's, which nobody outside sees. The kernel's messages aren't read.
SCRIPT: Final = """
set -eu
mkdir -p /run/systemd /run/log
mount -t tmpfs none /run/systemd
mount -t tmpfs none /run/log
mount -t tmpfs none /var/log
mount --bind /dev/null /dev/kmsg 2>/dev/null || :
mkdir -p /run/systemd/journal /run/log/journal
"$JOURNALD" >/dev/null 2>&1 &
journald=$!
trap 'kill $journald; wait $journald || :' EXIT
tries=0
until [ -S /run/systemd/journal/socket ]; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || exit 9
    sleep 0.1
done
"$PYTHON" -c "$PROGRAM"
journalctl --sync >/dev/null 2>&1 || :
tries=0
until journalctl -D /run/log/journal --no-pager -o cat OPENDESK_EVENT=the.last 2>/dev/null | grep -q the.last; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || exit 8
    sleep 0.1
done
ask() { echo "== $*"; journalctl -D /run/log/journal --no-pager -q -o cat "$@" || :; }
ask OPENDESK_ROUTER=HOTSPOT-01 -p warning
ask OPENDESK_TRACE_ID=trace-1
ask OPENDESK_SESSION=session-1
ask OPENDESK_AUDIT=failure
ask -p err SYSLOG_IDENTIFIER=opendesk
ask OPENDESK_ROUTER=HOTSPOT-02 -p warning
"""
PROGRAM: Final = """
import structlog
from opendesk.ops import logging
from opendesk.ops.audit import Audit
logs = logging.configure("debug", "journald")
log, audit = structlog.get_logger(), Audit(lambda outcome: None)
log.info("router.circuit_closed", router="HOTSPOT-01")
log.warning("router.unavailable", router="HOTSPOT-01", failures=3)
log.warning("router.unavailable", router="HOTSPOT-02", failures=1, error="OPENDESK_ROUTER=HOTSPOT-01\\nOPENDESK_ROUTER=HOTSPOT-01")
log.warning("tunnel.drift", device="HOTSPOT-01", kind="missing")
log.warning("jobs.stopped", job="j", lane="HOTSPOT-01", traceId="trace-1")
log.info("relay.connected", session="session-1", role="host")
audit.attempt("AUTHORIZE_BY_PEDIDO", "trace-1", router="HOTSPOT-01")
audit.failure("AUTHORIZE_BY_PEDIDO", "trace-1", router="HOTSPOT-01", error="away")
try:
    raise ValueError("told")
except ValueError:
    log.exception("http.failed", traceId="trace-2")
log.info("the.last")
assert logs.dropped == 0
logs.close()
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, list[str]]:
    """What each question was answered, by what was asked."""
    environ = {**os.environ, "JOURNALD": str(JOURNALD), "PYTHON": sys.executable, "PROGRAM": PROGRAM}
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("== "):
            lines = told.setdefault(line.removeprefix("== "), [])
        else:
            lines.append(line)
    return told


def test_warnings_of_a_router_are_found_whoever_says_them(answers: dict[str, list[str]]) -> None:
    assert answers["OPENDESK_ROUTER=HOTSPOT-01 -p warning"] == [
        "router.unavailable router=HOTSPOT-01 failures=3",
        "tunnel.drift device=HOTSPOT-01 kind=missing",
        "jobs.stopped job=j lane=HOTSPOT-01 traceId=trace-1",
    ]


def test_no_text_makes_up_a_field(answers: dict[str, list[str]]) -> None:
    (line,) = answers["OPENDESK_ROUTER=HOTSPOT-02 -p warning"]
    assert line.startswith("router.unavailable router=HOTSPOT-02 failures=1 error=")


def test_a_request_is_followed_by_its_trace(answers: dict[str, list[str]]) -> None:
    assert [line.split()[0] for line in answers["OPENDESK_TRACE_ID=trace-1"]] == ["jobs.stopped", "audit", "audit"]


def test_a_session_is_followed(answers: dict[str, list[str]]) -> None:
    assert answers["OPENDESK_SESSION=session-1"] == ["relay.connected session=session-1 role=host"]


def test_the_audit_stands_apart_by_how_it_ended(answers: dict[str, list[str]]) -> None:
    (line,) = answers["OPENDESK_AUDIT=failure"]
    assert "outcome=failure" in line
    assert "error=away" in line


def test_errors_have_their_priority_and_their_traceback(answers: dict[str, list[str]]) -> None:
    first, *below = answers["-p err SYSLOG_IDENTIFIER=opendesk"]
    assert first == "http.failed traceId=trace-2"
    assert below[-1] == "ValueError: told"
