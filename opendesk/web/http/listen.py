"""Listening sockets, from `host:port`, `unix:/path` or `fd://3` (passed by systemd)."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
import errno
import os
from pathlib import Path
import socket
import stat
from typing import Final

from attrs import frozen

# Connections that the kernel keeps until we take them: a burst of clients after a restart.
_BACKLOG: Final = 1024

# For ourselves and our group: the proxy in front is put into it. Whoever can connect is believed as to who the callers are, so not for all.
_PATH_MODE: Final = 0o660


@frozen
class MadePath:
    """A socket's file that we made, and by what it is known again: a number of a file that is gone may be another's soon, at another time."""

    path: Path
    identity: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> "MadePath":
        return cls(path, _identity(path))

    def remove(self) -> None:
        """Unless it is another daemon's by now, which took its place once we didn't listen any more."""
        with suppress(FileNotFoundError):
            if _identity(self.path) == self.identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns


@frozen
class Listener:
    """A socket that listens."""

    socket: socket.socket
    made: MadePath | None = None

    def close(self) -> None:
        self.socket.close()
        if self.made is not None:
            self.made.remove()


def listen(binds: Sequence[str]) -> list[Listener]:
    """All or none. Raise ValueError for a bind that doesn't parse, OSError for one that can't be had."""
    with ExitStack() as opened:
        listeners = [_listen(bind, opened) for bind in binds]
        opened.pop_all()
        return listeners


def _listen(bind: str, opened: ExitStack) -> Listener:
    listener = _opened(bind)
    opened.callback(listener.close)
    return listener


def _opened(bind: str) -> Listener:
    if bind.startswith("unix:"):
        return _on_path(Path(bind.removeprefix("unix:")))
    return Listener(_passed(bind) if bind.startswith("fd://") else _on_port(bind))


def _on_port(bind: str) -> socket.socket:
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 — the largest port
        raise ValueError(f"bind must be host:port, unix:/path or fd://number, not {bind!r}")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else IPv4 clients would have two spellings of their address, and no second socket could take 0.0.0.0.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, int(port)))
        return _listening(sock, opened)


def _on_path(path: Path) -> Listener:
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _remove_stale(path)
        sock.bind(os.fspath(path))
        made = MadePath.of(path)
        opened.callback(made.remove)
        path.chmod(_PATH_MODE)  # nobody can connect before it listens
        return Listener(_listening(sock, opened), made)


def _remove_stale(path: Path) -> None:
    """A socket that nobody listens on is what a killed daemon left. Raise OSError if somebody does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody is listening there", os.fspath(path))
    path.unlink()


def _passed(bind: str) -> socket.socket:
    number = bind.removeprefix("fd://")
    if not number.isdecimal():
        raise ValueError(f"bind must be fd:// and a number, not {bind!r}")
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(fileno=int(number)))
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"{bind} is not a stream socket")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):  # with systemd's Backlog=
            opened.pop_all()
            return sock
        return _listening(sock, opened)


def _listening(sock: socket.socket, opened: ExitStack) -> socket.socket:
    sock.listen(_BACKLOG)
    opened.pop_all()
    return sock
