"""journald's native protocol: a datagram of fields for each message."""

from collections.abc import Iterable, Mapping
import json
import os
import re
import socket
import struct
from typing import Any, Final, TextIO

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "opendesk"
# Far below the smallest send buffer that Linux comes with (208 KiB): no larger datagram is tried.
DATAGRAM_MAX_BYTES: Final = 64 * 1024
# systemd's own limit for a field's name.
NAME_MAX_CHARS: Final = 64
PRIORITY: Final = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
# Fields that have a meaning to journald, which no key of ours may take.
RESERVED: Final = frozenset({"MESSAGE", "MESSAGE_ID", "PRIORITY", "ERRNO", "TID", "UNIT", "TRUNCATED"})
RESERVED_PREFIXES: Final = ("_", "SYSLOG_", "CODE_", "OBJECT_", "COREDUMP_", "USER_", "INVOCATION_", "DOCUMENTATION")
_TRUNCATED: Final = b"TRUNCATED=1\n"


class JournalSink:
    """Sends to journald; drops and counts when its queue is full or it is away."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self.dropped = 0
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def write(self, datagram: bytes) -> bool:
        """Return whether it was taken."""
        try:
            # Not connected: a journald that was restarted is found again.
            self._socket.sendto(datagram, self._path)
        except OSError:
            # There is nowhere to say so; the count is in the metrics.
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        self._socket.close()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd connected this very stream to the journal: $JOURNAL_STREAM is its device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def render_journal(event: Mapping[str, Any]) -> bytes:
    """A datagram of a redacted event: MESSAGE for people, each key as a field of its own for queries."""
    level = event.get("level", "info")
    fields = [("MESSAGE", message(event)), ("PRIORITY", str(PRIORITY.get(level, 6))), ("SYSLOG_IDENTIFIER", IDENTIFIER)]
    # journald has its own time, and PRIORITY is the level.
    rest = ((key, value) for key, value in event.items() if key not in {"timestamp", "level"})
    return _datagram([*fields, *((field_name(key), as_text(value)) for key, value in rest)])


def message(event: Mapping[str, Any]) -> str:
    """`router.unavailable router=r1 failures=3`, and below it the traceback if there is one."""
    shown = {key: value for key, value in event.items() if key not in {"timestamp", "level", "event", "exception"}}
    line = " ".join([as_text(event.get("event", "")), *(f"{key}={_quoted(as_text(shown[key]))}" for key in shown)])
    return f"{line}\n{event['exception']}" if "exception" in event else line


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=\x00-\x1f]", text) else text


def field_name(key: str) -> str:
    """Upper case, digits and _, not beginning with a digit or _, and none of journald's own."""
    name = re.sub(r"[^A-Z0-9]", "_", key.upper())[:NAME_MAX_CHARS]
    if not name[:1].isalpha() or name in RESERVED or name.startswith(RESERVED_PREFIXES):
        name = f"F_{name}"[:NAME_MAX_CHARS]
    return name


def _datagram(fields: Iterable[tuple[str, str]]) -> bytes:
    """Leave out what does not fit, and say so."""
    data = bytearray()
    truncated = False
    for name, text in fields:
        entry = _entry(name, text.encode("utf-8", "backslashreplace"))
        if len(data) + len(entry) + len(_TRUNCATED) <= DATAGRAM_MAX_BYTES:
            data += entry
        else:
            truncated = True
    return bytes(data + _TRUNCATED if truncated else data)


def _entry(name: str, value: bytes) -> bytes:
    """NAME=value in one line; a value of several has its length before it, 64 bits, little endian."""
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)
