"""journald's native protocol: a datagram of fields for each message."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
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
# All fields of ours begin so: none has a meaning to journald, and none is another program's.
PREFIX: Final = "OPENDESK_"
# What is asked for by name has one name, whatever the caller calls it: the words of the wire among them.
SAME: Final = {
    "MIK_ID": "ROUTER",
    "ROUTER_ID": "ROUTER",
    "SESSION_ID": "SESSION",
    "JOB_ID": "JOB",
    "DEVICE_ID": "DEVICE",
}
# A tunnel's device has its router's id, and so has the lane of a router's jobs: who asks for the router finds these lines too.
ALSO_ROUTER: Final = frozenset({"OPENDESK_DEVICE", "OPENDESK_LANE"})
AUDIT_EVENT: Final = "audit"
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNFIT: Final = re.compile(r"[^A-Z0-9]")
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
    if event.get("event") == AUDIT_EVENT:
        # All lines of the audit, and no others: `journalctl OPENDESK_AUDIT=failure`.
        fields.append((f"{PREFIX}AUDIT", as_text(event.get("outcome", ""))))
    # journald has its own time, and PRIORITY is the level.
    own = [(field_name(key), as_text(event[key])) for key in event if key not in {"timestamp", "level"}]
    also = [("OPENDESK_ROUTER", text) for name, text in own if name in ALSO_ROUTER]
    return _datagram([*fields, *own, *also])


def message(event: Mapping[str, Any]) -> str:
    """`router.unavailable router=r1 failures=3`, and below it the traceback if there is one."""
    shown = {key: value for key, value in event.items() if key not in {"timestamp", "level", "event", "exception"}}
    line = " ".join([as_text(event.get("event", "")), *(f"{key}={_quoted(as_text(shown[key]))}" for key in shown)])
    return f"{line}\n{event['exception']}" if "exception" in event else line


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=\x00-\x1f]", text) else text


@lru_cache(maxsize=1024)
def field_name(key: str) -> str:
    """`traceId` and `trace_id` are OPENDESK_TRACE_ID: upper case, digits and _. AUDIT only lines of the audit have."""
    name = _UNFIT.sub("_", _HUMP.sub("_", key).upper())
    name = SAME.get(name, name)
    return f"{PREFIX}{f'{name}_' if name == 'AUDIT' else name}"[:NAME_MAX_CHARS]


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
