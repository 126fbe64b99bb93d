"""Listening sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import socket
import stat
import tempfile

import pytest

from opendesk.web.http.listen import listen


@contextmanager
def listening(*binds: str) -> Iterator[list[socket.socket]]:
    listeners = listen(binds)
    yield [listener.socket for listener in listeners]
    for listener in listeners:
        listener.close()


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
    (left,) = listen([f"unix:{path}"])
    left.socket.close()
    assert path.is_socket()
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_a_path_where_somebody_listens_is_left_alone(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(OSError, match="somebody is listening"):
            listen([f"unix:{path}"])
        client.connect(os.fspath(path))


def test_a_path_is_for_us_and_our_group(folder: Path) -> None:
    path = folder / "door"
    before = os.umask(0)
    try:
        with listening(f"unix:{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_a_path_goes_with_its_listener(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"):
        assert path.is_socket()
    assert list(folder.iterdir()) == []


def test_a_path_that_another_daemon_took_meanwhile_is_left_alone(folder: Path) -> None:
    path = folder / "door"
    (left,) = listen([f"unix:{path}"])
    os.link(path, folder / "other")  # else the next file may have the same number, within one tick of the clock
    left.socket.close()  # as it is done before the last answers are out
    with listening(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        left.close()
        client.connect(os.fspath(path))


def test_a_path_with_the_number_of_ours_and_another_time_is_left_alone(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"):
        os.utime(path, ns=(0, 0))
    assert path.is_socket()


def test_a_path_that_somebody_removed_is_no_trouble(folder: Path) -> None:
    path = folder / "door"
    with listening(f"unix:{path}"):
        path.unlink()


def test_of_two_binds_none_leaves_a_path_if_one_fails(folder: Path) -> None:
    with pytest.raises(ValueError, match="bind must be"):
        listen([f"unix:{folder}/door", "nonsense"])
    assert list(folder.iterdir()) == []


def test_a_path_passed_by_systemd_stays(folder: Path) -> None:
    path = folder / "door"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(os.fspath(path))
        with listening(f"fd://{os.dup(theirs.fileno())}"):
            pass
        assert path.is_socket()


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
