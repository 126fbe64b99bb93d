"""Listening sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import socket
import tempfile

import pytest

from opendesk.web.http.listen import listen


@contextmanager
def listening(*binds: str) -> Iterator[list[socket.socket]]:
    sockets = listen(binds)
    yield sockets
    for sock in sockets:
        sock.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: those of sockets have some 100 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_port_of_an_address() -> None:
    with listening("127.0.0.1:0", "localhost:0") as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET] * 2
        for sock in sockets:
            socket.create_connection(sock.getsockname()).close()


def test_ipv6_leaves_ipv4_alone() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with listening("[::]:0") as (sock,):
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize(
    "bind",
    [
        "",
        "3333",
        ":3333",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "fd://",
        "fd://x",
    ],
)
def test_what_does_not_parse_is_refused(bind: str) -> None:
    with pytest.raises(ValueError, match="bind must be"):
        listen([bind])


def test_all_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with pytest.raises(OSError, match="in use"):
            listen([f"127.0.0.1:{port}", f"127.0.0.1:{taken.getsockname()[1]}"])
        with listening(f"127.0.0.1:{port}"):
            pass


def test_a_path_that_a_killed_daemon_left_is_taken(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"):
        pass
    assert path.is_socket()
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_path_where_somebody_listens_is_left_alone(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(OSError, match="somebody is listening"):
            listen([f"unix:{path}"])
        client.connect(os.fspath(path))


def test_a_file_is_never_removed(folder: Path) -> None:
    path = folder / "door"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen([f"unix:{path}"])
    assert path.read_text() == "precious"


def test_a_socket_passed_by_systemd() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, listening(f"fd://{os.dup(server.fileno())}") as (sock,):
        assert sock.getsockname() == server.getsockname()


def test_a_passed_socket_of_another_kind_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        number = os.dup(datagrams.fileno())
        with pytest.raises(ValueError, match="not a stream socket"):
            listen([f"fd://{number}"])
