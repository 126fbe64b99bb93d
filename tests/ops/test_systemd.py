from collections.abc import Iterator
import os
import socket
import sys
import tempfile

import pytest

from opendesk.ops.systemd import FDS_MAX, READY, STOPPING, WATCHDOG, extend, listen_fds, sd_notify, status, watchdog_s


@pytest.fixture
def systemd() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="od") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{folder}/notify")
        server.settimeout(10)
        yield server


def test_systemd_hears_what_it_is_told(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": systemd.getsockname()}
    assert sd_notify(environ, READY, status("listening on\n127.0.0.1:3333"))
    assert sd_notify(environ, WATCHDOG)
    assert sd_notify(environ, STOPPING)
    assert systemd.recv(1000) == b"READY=1\nSTATUS=listening on 127.0.0.1:3333"
    assert systemd.recv(1000) == b"WATCHDOG=1"
    assert systemd.recv(1000) == b"STOPPING=1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(b"")  # the kernel picks an abstract name
        server.settimeout(10)
        name = server.getsockname()
        assert sd_notify({"NOTIFY_SOCKET": f"@{name[1:].decode()}"}, READY)
        assert server.recv(1000) == b"READY=1"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/nowhere/notify"}]
)
def test_without_a_socket_nobody_hears(environ: dict[str, str]) -> None:
    assert not sd_notify(environ, READY)


def test_a_full_queue_is_not_waited_for(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": systemd.getsockname()}
    heard = [sd_notify(environ, status("x" * 200)) for _ in range(3000)]
    assert heard[0]
    assert not heard[-1]


def test_a_status_is_one_short_line() -> None:
    assert status(" a\nREADY=1 \t b ") == "STATUS=a READY=1 b"
    assert len(status("x" * 1000)) < 300


@pytest.mark.parametrize(
    ("environ", "allowed_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_time_is_known_to_the_process_that_it_is_for(
    environ: dict[str, str], allowed_s: float | None
) -> None:
    assert watchdog_s(environ, 42) == allowed_s


def test_more_time_is_asked_for_in_microseconds() -> None:
    assert extend(1.5) == "EXTEND_TIMEOUT_USEC=1500000"


def test_sockets_from_systemd_are_taken_and_kept_from_children() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        os.set_inheritable(server.fileno(), True)  # noqa: FBT003  # takes no keywords
        fds = listen_fds({"LISTEN_PID": "42", "LISTEN_FDS": "1"}, 42, first=server.fileno())
        assert fds == [server.fileno()]
        assert not os.get_inheritable(server.fileno())


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "43", "LISTEN_FDS": "1"}, {"LISTEN_PID": "42"}]
)
def test_sockets_for_nobody_or_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert listen_fds(environ, 42) == []


@pytest.mark.parametrize("count", ["many", "-1", str(FDS_MAX + 1)])
def test_a_wrong_count_of_sockets_is_refused(count: str) -> None:
    with pytest.raises(ValueError, match="LISTEN_FDS"):
        listen_fds({"LISTEN_PID": "42", "LISTEN_FDS": count}, 42)


def test_a_socket_that_is_not_open_is_refused() -> None:
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        listen_fds({"LISTEN_PID": "42", "LISTEN_FDS": "1"}, 42, first=100_000)
