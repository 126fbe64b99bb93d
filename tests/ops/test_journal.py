from collections.abc import Iterator
from pathlib import Path
import re
import socket
import struct
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.ops.journal import DATAGRAM_MAX_BYTES, JournalSink, field_name, is_journal, message, render_journal


def parsed(datagram: bytes) -> list[tuple[str, str]]:
    """As journald reads it."""
    fields = []
    while datagram:
        line, _newline, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        fields.append((name.decode(), value.decode()))
        datagram = rest
    return fields


@pytest.fixture
def journal() -> Iterator[socket.socket]:
    # A short path: a Unix socket's may have 103 bytes on macOS, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="od") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{folder}/journal")
        server.settimeout(10)
        yield server


def test_an_event_becomes_fields() -> None:
    event = {
        "timestamp": "t",
        "level": "warning",
        "event": "router.unavailable",
        "router": "r 1",
        "failures": 3,
        "a": [None],
    }
    assert parsed(render_journal(event)) == [
        ("MESSAGE", 'router.unavailable router="r 1" failures=3 a=[null]'),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "opendesk"),
        ("OPENDESK_EVENT", "router.unavailable"),
        ("OPENDESK_ROUTER", "r 1"),
        ("OPENDESK_FAILURES", "3"),
        ("OPENDESK_A", "[null]"),
    ]


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_a_level_is_a_priority(level: str, priority: str) -> None:
    assert dict(parsed(render_journal({"level": level, "event": "x"})))["PRIORITY"] == priority


def test_a_traceback_is_one_field_and_stands_below_the_message() -> None:
    fields = dict(parsed(render_journal({"level": "error", "event": "x", "exception": "Traceback\nValueError"})))
    assert fields["OPENDESK_EXCEPTION"] == "Traceback\nValueError"
    assert fields["MESSAGE"] == "x\nTraceback\nValueError"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("traceId", "OPENDESK_TRACE_ID"),
        ("trace_id", "OPENDESK_TRACE_ID"),
        ("router", "OPENDESK_ROUTER"),
        ("mikId", "OPENDESK_ROUTER"),
        ("router_id", "OPENDESK_ROUTER"),
        ("session", "OPENDESK_SESSION"),
        ("sessionId", "OPENDESK_SESSION"),
        ("jobId", "OPENDESK_JOB"),
        ("again_in_s", "OPENDESK_AGAIN_IN_S"),
        ("a-b.c é", "OPENDESK_A_B_C__"),
        ("_pid", "OPENDESK__PID"),
        ("priority", "OPENDESK_PRIORITY"),
        ("audit", "OPENDESK_AUDIT_"),
        ("1", "OPENDESK_1"),
        ("", "OPENDESK_"),
        ("x" * 100, "OPENDESK_" + "X" * 55),
    ],
)
def test_a_key_is_a_name_of_ours_that_journald_takes(key: str, name: str) -> None:
    assert field_name(key) == name


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=["Cs"]))))
def test_no_value_makes_up_a_field(event: dict[str, Any]) -> None:
    known = {"timestamp", "level", "event", "exception", "device", "device_id", "lane"}
    rest = {key: value for key, value in event.items() if key not in known}
    fields = parsed(render_journal(rest | {"level": "info", "event": "x"}))
    assert [value for _name, value in fields[3:-1]] == list(rest.values())
    assert all(re.fullmatch(r"OPENDESK_[A-Z0-9_]*", name) and len(name) <= 64 for name, _value in fields[3:])


@pytest.mark.parametrize("key", ["device", "lane"])
def test_a_tunnels_device_and_a_jobs_lane_are_found_by_their_router(key: str) -> None:
    fields = parsed(render_journal({"level": "warning", "event": "x", key: "HOTSPOT-01"}))
    assert fields[-2:] == [(f"OPENDESK_{key.upper()}", "HOTSPOT-01"), ("OPENDESK_ROUTER", "HOTSPOT-01")]


@pytest.mark.parametrize("outcome", ["attempt", "success", "failure"])
def test_the_audits_lines_stand_apart_by_a_field(outcome: str) -> None:
    line = {"level": "info", "event": "audit", "outcome": outcome, "action": "EVENT"}
    assert dict(parsed(render_journal(line)))["OPENDESK_AUDIT"] == outcome
    other = {"level": "info", "event": "x", "audit": "success"}
    assert "OPENDESK_AUDIT" not in dict(parsed(render_journal(other)))


def test_what_does_not_fit_into_a_datagram_is_left_out_and_said() -> None:
    event = {"level": "info", "event": "x"} | {f"k{n}": "v" * 8000 for n in range(50)}
    datagram = render_journal(event)
    fields = dict(parsed(datagram))
    assert len(datagram) <= DATAGRAM_MAX_BYTES
    assert fields["TRUNCATED"] == "1"
    assert fields["PRIORITY"] == "6"


def test_a_message_quotes_what_would_be_read_wrongly() -> None:
    assert (
        message({"event": "x", "a": "", "b": "c=d", "e": 'f"', "g": "h\ni", "j": "k"})
        == r'x a="" b="c=d" e="f\"" g="h\ni" j=k'
    )


def test_a_datagram_arrives(journal: socket.socket) -> None:
    sink = JournalSink(journal.getsockname())
    assert sink.write(b"MESSAGE=hello\n")
    assert journal.recv(1000) == b"MESSAGE=hello\n"
    assert sink.dropped == 0
    sink.close()


def test_the_largest_datagram_arrives(journal: socket.socket) -> None:
    sink = JournalSink(journal.getsockname())
    journal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * DATAGRAM_MAX_BYTES)
    data = render_journal({"level": "info", "event": "x"} | {f"k{n}": "v" * 8000 for n in range(50)})
    assert sink.write(data)
    assert journal.recv(DATAGRAM_MAX_BYTES + 1) == data
    sink.close()


def test_a_full_journal_drops_and_counts_and_never_waits(journal: socket.socket) -> None:
    sink = JournalSink(journal.getsockname())
    taken = [sink.write(b"MESSAGE=x\n" + b"y" * 1000) for _ in range(2000)]
    assert taken[0]
    assert not taken[-1]
    assert sink.dropped == taken.count(False)
    sink.close()


def test_a_journal_that_is_away_drops_and_is_found_again(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="od") as folder:
        sink = JournalSink(f"{folder}/journal")
        assert not sink.write(b"MESSAGE=x\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(f"{folder}/journal")
            assert sink.write(b"MESSAGE=y\n")
        assert not sink.write(b"MESSAGE=z\n")
        assert sink.dropped == 2
        sink.close()


def test_the_journals_own_stream_is_told_from_others(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, (tmp_path / "other").open("w") as other:
        status = (tmp_path / "out").stat()
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(out, environ)
        assert not is_journal(other, environ)
        assert not is_journal(out, {})
