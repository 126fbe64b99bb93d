"""Structured logs: journald fields, colours on a terminal, or one JSON object a line; secrets never.

Everybody logs with `log = structlog.get_logger()`, event names like "router.unavailable" and key-values. What libraries
log through the standard library comes out the same way. A call neither waits nor raises.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
import json
import logging
import os
from pathlib import Path
import re
import sys
import time
from typing import Any, Final, NoReturn, Protocol, TextIO

import msgspec
import structlog
from structlog.contextvars import merge_contextvars
from structlog.processors import format_exc_info

from opendesk.ops.journal import JOURNAL_SOCKET, JournalSink, is_journal, render_journal
from opendesk.ops.lines import LineSink
from opendesk.ops.redaction import plain, redacted

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# httpx tells every request with its whole URL at INFO.
QUIET_LIBRARIES: Final = ("httpx", "httpcore")
# Set by us; a key of the same name in an event gets a _ behind it.
OWN_KEYS: Final = frozenset({"timestamp", "level"})

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Sink(Protocol):
    """Takes what was rendered, at once, or counts it as dropped."""

    dropped: int

    def write(self, data: bytes, /) -> bool: ...


class Logs:
    """What `configure` set up. `close` puts back what was before."""

    def __init__(self, sink: Sink, render: Callable[[Mapping[str, Any]], bytes], now: Callable[[], float]) -> None:
        self._sink = sink
        self._render = render
        self._now = now
        self._failed = 0
        self._told = 0
        self.lines = dict.fromkeys(LEVELS, 0)
        self._handler = _LibraryHandler(self)
        self._before = (logging.root.handlers[:], logging.root.level)

    @property
    def dropped(self) -> int:
        """Lines that got lost: a full pipe, a full journal, a value that could not be rendered."""
        return self._sink.dropped + self._failed

    def process(self, _logger: object, level: str, event: structlog.types.EventDict) -> NoReturn:
        """End structlog's chain: nothing is left for its logger to do."""
        self.emit(level, event)
        raise structlog.DropEvent

    def emit(self, level: str, event: structlog.types.EventDict) -> None:
        dropped = self.dropped
        self.lines[level if level in LEVELS else "error"] += 1
        try:
            if dropped > self._told:
                event["dropped_before"] = dropped - self._told
            data = self._render(_finished(level, event, self._now()))
            if self._sink.write(data):
                self._told = dropped
        except Exception:  # noqa: BLE001  # a request must not fail because its log line does; it is counted
            self._failed += 1

    def install(self, level: str) -> None:
        structlog.configure(
            processors=[self.process],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            logger_factory=_no_logger,
            # A cached logger would keep the output of an earlier `configure`.
            cache_logger_on_first_use=False,
        )
        logging.root.handlers[:] = [self._handler]
        logging.root.setLevel(LEVELS[level])
        for name in QUIET_LIBRARIES:
            logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))
        logging.captureWarnings(capture=True)

    def close(self) -> None:
        logging.captureWarnings(capture=False)
        logging.root.handlers[:], level = self._before
        logging.root.setLevel(level)
        for name in QUIET_LIBRARIES:
            logging.getLogger(name).setLevel(logging.NOTSET)
        structlog.reset_defaults()
        if isinstance(self._sink, JournalSink):
            self._sink.close()


def _no_logger(*_names: object) -> None:
    """What structlog asks for with each call: `process` leaves nothing for it to do."""


class _LibraryHandler(logging.Handler):
    """Brings what libraries log to the same place."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        event: structlog.types.EventDict = {"event": _message(record), "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        self._logs.emit(_level_name(record.levelno), event)


def configure(
    level: str = "info",
    fmt: str = "auto",
    stream: TextIO | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    now: Callable[[], float] = time.time,
    journal_socket: str = JOURNAL_SOCKET,
) -> Logs:
    """Send all logs of `level` and above to `stream` (standard error), or to journald.

    `level` and `fmt` are LOG_LEVEL and LOG_FORMAT. Where there is no journald, `journald` is JSON, and says so.
    """
    stream = stream or sys.stderr
    wanted = pick_format(fmt, stream, environ)
    picked = "json" if wanted == "journald" and not Path(journal_socket).is_socket() else wanted
    logs = Logs(*_output(picked, stream, environ, journal_socket), now)
    logs.install(level)
    if picked != wanted:
        structlog.get_logger().warning("log.no_journal", socket=journal_socket, instead=picked)
    return logs


def pick_format(fmt: str, stream: TextIO, environ: Mapping[str, str]) -> str:
    """`auto` is journald's fields where systemd connected the stream to it, colours on a terminal, JSON elsewhere."""
    if fmt != "auto":
        return fmt
    if is_journal(stream, environ):
        return "journald"
    return "terminal" if stream.isatty() else "json"


def _output(
    fmt: str, stream: TextIO, environ: Mapping[str, str], journal_socket: str
) -> tuple[Sink, Callable[[Mapping[str, Any]], bytes]]:
    if fmt == "journald":
        return JournalSink(journal_socket), render_journal
    if fmt == "terminal":
        return LineSink(stream), terminal_renderer(colors=stream.isatty() and not environ.get("NO_COLOR"))
    return LineSink(stream), render_json


def _finished(level: str, event: structlog.types.EventDict, now_s: float) -> dict[str, Any]:
    """Context variables merged in, the exception as one text, nothing secret; time, level and name first."""
    event = format_exc_info(None, level, merge_contextvars(None, level, event))
    # Apart from the rest, of which only so many are kept.
    finished = {"timestamp": rfc3339(now_s), "level": level}
    if "event" in event:
        finished["event"] = plain(event.pop("event"))
    exception = {"exception": plain(event.pop("exception"))} if "exception" in event else {}
    own = redacted(event)
    if not OWN_KEYS.isdisjoint(own):
        own = {f"{key}_" if key in OWN_KEYS else key: value for key, value in own.items()}
    return {**finished, **own, **exception}


def rfc3339(now_s: float) -> str:
    """UTC with milliseconds."""
    second, micros = divmod(round(now_s * 1_000_000), 1_000_000)
    return f"{_to_the_second(second)}.{micros // 1000:03d}Z"


@lru_cache(maxsize=1)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def render_json(event: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(event) + b"\n"
    except Exception:  # noqa: BLE001  # halves of characters, numbers of 65 bits, texts of classes of their own: json takes them
        return _JSON.encode(event).encode("utf-8", "backslashreplace") + b"\n"


def terminal_renderer(*, colors: bool) -> Callable[[Mapping[str, Any]], bytes]:
    console = structlog.dev.ConsoleRenderer(colors=colors)

    def render(event: Mapping[str, Any]) -> bytes:
        # What a stranger sent must not move the cursor or make up a line.
        safe = {key: _visible(value, keep="\n" if key == "exception" else "") for key, value in event.items()}
        return console(None, event["level"], safe).encode("utf-8", "backslashreplace") + b"\n"

    return render


def _visible(value: object, *, keep: str) -> object:
    if not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], value)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  # a library's format that does not fit its arguments: the format is told
        return str(record.msg)


def _level_name(number: int) -> str:
    return next(name for name, low in reversed(LEVELS.items()) if number >= low or name == "debug")
