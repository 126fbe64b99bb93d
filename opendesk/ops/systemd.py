"""What systemd and a service tell each other: readiness, the watchdog, sockets that it opened for us."""

from collections.abc import Mapping
import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
# The first descriptor that systemd passes (SD_LISTEN_FDS_START).
FIRST_FD: Final = 3
# No unit has more sockets; a wrong number must not make us touch descriptors that are not ours.
FDS_MAX: Final = 256
# A status is a line for people in `systemctl status`.
STATUS_MAX_CHARS: Final = 200


def status(text: str) -> str:
    """A line for `systemctl status`."""
    return f"STATUS={' '.join(text.split())[:STATUS_MAX_CHARS]}"


def sd_notify(environ: Mapping[str, str], *states: str) -> bool:
    """Tell systemd; return whether it heard. False without $NOTIFY_SOCKET, or when its queue is full."""
    if not (address := environ.get("NOTIFY_SOCKET", "")).startswith(("/", "@")):
        return False
    # An abstract socket is written with @ and has a NUL there.
    address = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0)
        try:
            sender.sendto("\n".join(states).encode(), address)
        except OSError:
            return False
    return True


def extend(by_s: float) -> str:
    """What is under way, a start or a stop, takes longer: the unit's time-out is at least this far away from now on."""
    return f"EXTEND_TIMEOUT_USEC={round(by_s * 1_000_000)}"


def watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """For how long WATCHDOG=1 may stay away. None where nobody waits for it."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    allowed_us = environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / 1_000_000 if allowed_us.isdecimal() and int(allowed_us) > 0 else None


def listen_fds(environ: Mapping[str, str], pid: int, *, first: int = FIRST_FD) -> list[int]:
    """Return the listening sockets' descriptors meant for process `pid`, and keep them from its children.

    Raises `ValueError` for a count that is none, `OSError` for a descriptor that is not open.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdecimal() or int(count) > FDS_MAX:
        raise ValueError(f"LISTEN_FDS: {count!r} is not a number up to {FDS_MAX}")
    fds = list(range(first, first + int(count)))
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003  # takes no keywords
    return fds
