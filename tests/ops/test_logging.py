from collections.abc import Callable, Iterator
import io
import json
import logging
import os
from pathlib import Path
import pty
import socket
import tempfile
from typing import Any
import warnings

import pytest
import structlog
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs
import trio

from opendesk.ops.logging import Logs, configure, pick_format, rfc3339

log = structlog.get_logger()
NOW_S = 1_767_323_045.6789
Configure = Callable[..., tuple[Logs, io.StringIO]]


@pytest.fixture
def set_up() -> Iterator[Configure]:
    made: list[Logs] = []

    def make(level: str = "info", fmt: str = "json", **kwargs: Any) -> tuple[Logs, io.StringIO]:
        stream = io.StringIO()
        made.append(configure(level, fmt, stream, environ={}, now=lambda: NOW_S, **kwargs))
        return made[-1], stream

    yield make
    for logs in reversed(made):
        logs.close()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line(set_up: Configure) -> None:
    _logs, stream = set_up()
    log.info("session.ended", session="s1", minutes=30, note="a\nb")
    log.warning("second")
    assert lines(stream)[0] == {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "event": "session.ended",
        "session": "s1",
        "minutes": 30,
        "note": "a\nb",
    }
    assert [line["level"] for line in lines(stream)] == ["info", "warning"]


def test_times_are_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(NOW_S) == "2026-01-02T03:04:05.678Z"
    assert rfc3339(NOW_S - 0.6799) == "2026-01-02T03:04:04.999Z"
    assert rfc3339(NOW_S + 0.3211) == "2026-01-02T03:04:06.000Z"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\ud800", id="half a character"),
        pytest.param(1 - 2**64, id="65 bits"),
        pytest.param(2**64 - 1, id="64 bits"),
        pytest.param(1e300, id="a great one"),
        pytest.param(type("Name", (str,), {})("é\x7f\\"), id="a text of a class of its own"),
        pytest.param({"": [None, True, {"1": ()}]}, id="one in another"),
    ],
)
def test_whatever_json_holds_comes_back_as_it_was(value: object, set_up: Configure) -> None:
    logs, stream = set_up()
    log.info("odd", value=value)
    assert lines(stream)[0]["value"] == json.loads(json.dumps(value))
    assert logs.dropped == 0


def test_what_is_below_the_level_is_left_out(set_up: Configure) -> None:
    _logs, stream = set_up("warning")
    log.info("a")
    log.warning("b")
    logging.getLogger("library").info("c")
    logging.getLogger("library").error("d")
    assert [line["event"] for line in lines(stream)] == ["b", "d"]


def test_a_traceback_is_one_field(set_up: Configure) -> None:
    _logs, stream = set_up()
    try:
        int("https://h/p?token=hunter2")
    except ValueError as exc:
        caught = exc
        log.exception("failed")
    log.warning("failed", exc_info=caught)
    assert len(lines(stream)) == 2
    for line in lines(stream):
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("base 10: 'https://h/p?…'")


def test_secrets_are_masked_and_queries_cut(set_up: Configure) -> None:
    _logs, stream = set_up()
    log.info("call", password="hunter2", headers={"Authorization": "hunter2"}, url="https://h/p?token=hunter2")
    assert "hunter2" not in stream.getvalue()


def test_what_libraries_log_comes_out_the_same_way(set_up: Configure) -> None:
    _logs, stream = set_up()
    try:
        Path("/nowhere").stat()
    except OSError:
        logging.getLogger("hypercorn.error").exception("lost %s", "/stream/relay?token=hunter2")
    (line,) = lines(stream)
    assert (line["level"], line["event"], line["logger"]) == ("error", "lost /stream/relay?…", "hypercorn.error")
    assert "FileNotFoundError" in line["exception"].splitlines()[-1]


def test_a_library_that_formats_wrongly_is_still_heard(set_up: Configure) -> None:
    _logs, stream = set_up()
    logging.getLogger("library").warning("%d sheep", "many")
    assert lines(stream)[0]["event"] == "%d sheep"


def test_httpx_does_not_tell_every_request(set_up: Configure) -> None:
    _logs, stream = set_up()
    logging.getLogger("httpx").info("HTTP Request: GET https://h/p")
    assert stream.getvalue() == ""


def test_warnings_of_python_are_logged(set_up: Configure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        _logs, stream = set_up()
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert lines(stream)[0]["logger"] == "py.warnings"
        _logs.close()


async def test_each_task_has_its_own_request_id(set_up: Configure) -> None:
    _logs, stream = set_up()
    everybody_bound = trio.Event()
    bound = 0

    async def request(request_id: str) -> None:
        nonlocal bound
        with bound_contextvars(request_id=request_id):
            bound += 1
            if bound == 2:
                everybody_bound.set()
            await everybody_bound.wait()
            log.info("handled", mine=request_id)
            await trio.to_thread.run_sync(lambda: logging.getLogger("library").info("in a thread"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, "a")
        nursery.start_soon(request, "b")
    log.info("outside")
    found = lines(stream)
    assert {line["request_id"] for line in found if line.get("mine")} == {"a", "b"}
    assert all(line["request_id"] == line["mine"] for line in found if line.get("mine"))
    assert sorted(line["request_id"] for line in found if line.get("logger")) == ["a", "b"]
    assert "request_id" not in found[-1]


def test_keys_of_ours_are_not_overwritten(set_up: Configure) -> None:
    _logs, stream = set_up()
    log.info("pc.made", level="A", timestamp="mine")
    (line,) = lines(stream)
    assert (line["level"], line["level_"], line["timestamp_"]) == ("info", "A", "mine")


def test_the_name_and_the_traceback_stay_whatever_else_there_is(set_up: Configure) -> None:
    _logs, stream = set_up()
    log.info("crowded", **{f"k{n}": n for n in range(200)}, exc_info=ValueError("x"))
    (line,) = lines(stream)
    assert line["event"] == "crowded"
    assert line["exception"] == "ValueError: x"


def test_a_line_that_can_not_be_made_is_counted_and_told_with_the_next(set_up: Configure) -> None:
    logs, stream = set_up()
    stream.close()
    log.info("lost")
    assert logs.dropped == 1
    logs2, stream2 = set_up()
    assert logs2.dropped == 0
    log.info("heard", odd="\ud800")
    assert lines(stream2)[0]["odd"] == "\ud800"


def test_what_got_lost_is_told_with_the_next_line(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out, os.fdopen(writer, "w") as stream:
        logs = configure("info", "json", stream, environ={})
        while not logs.dropped:
            log.info("filling", text="x" * 8000)
        os.read(out.fileno(), 65_536)
        log.info("after")
        log.info("later")
        logs.close()
        stream.close()
        after, later = (json.loads(line) for line in out.read().splitlines()[-2:])
    assert (after["event"], after["dropped_before"]) == ("after", 1)
    assert "dropped_before" not in later


def test_a_terminal_has_colours_and_no_control_characters_of_strangers() -> None:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w") as stream:
            assert pick_format("auto", stream, {}) == "terminal"
            logs = configure("info", "auto", stream, environ={})
            log.info("greeting", agent="\x1b[2Jevil\r\n\u202e")
            logs.close()
            shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
    assert "\x1b[" in shown
    assert "\\x1b[2Jevil\\r\\n\\u202e" in shown


def test_terminal_lines_have_no_colours_where_there_is_no_terminal(set_up: Configure) -> None:
    _logs, stream = set_up(fmt="terminal")
    log.error("failed", exc_info=ValueError("no"))
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().endswith("ValueError: no\n")


def test_journald_gets_fields(set_up: Configure) -> None:
    with tempfile.TemporaryDirectory(prefix="od") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{folder}/journal")
        server.settimeout(10)
        _logs, stream = set_up(fmt="journald", journal_socket=f"{folder}/journal")
        log.info("session.ended", session="s1", token="hunter2")
        fields = server.recv(10_000).decode().splitlines()
    assert fields[:3] == ["MESSAGE=session.ended session=s1 token=********", "PRIORITY=6", "SYSLOG_IDENTIFIER=opendesk"]
    assert "OPENDESK_SESSION=s1" in fields
    assert stream.getvalue() == ""


def test_without_journald_its_format_is_json_and_says_so(set_up: Configure) -> None:
    _logs, stream = set_up(fmt="journald", journal_socket="/nowhere/journal")
    assert [line["event"] for line in lines(stream)] == ["log.no_journal"]


def test_the_format_follows_the_stream(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        status = os.fstat(out.fileno())
        journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert pick_format("auto", out, journal) == "journald"
        assert pick_format("json", out, journal) == "json"
        assert pick_format("auto", out, {"JOURNAL_STREAM": "1:2"}) == "json"


def test_logs_can_be_captured_by_tests(set_up: Configure) -> None:
    _logs, stream = set_up()
    with capture_logs() as captured:
        log.info("seen", a=1)
    assert captured == [{"event": "seen", "a": 1, "log_level": "info"}]
    assert stream.getvalue() == ""


def test_closing_puts_back_what_was() -> None:
    before = (logging.root.handlers[:], logging.root.level, structlog.is_configured())
    configure("debug", "json", io.StringIO(), environ={}).close()
    assert (logging.root.handlers, logging.root.level, structlog.is_configured()) == before
