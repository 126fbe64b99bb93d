"""What the service manager is told of an end, whatever brings it about."""

from collections.abc import Iterator
from pathlib import Path
import socket

import pytest
from structlog.testing import capture_logs
import trio

from opendesk import daemon
from opendesk.postgres.identity import SameDatabase
from opendesk.telling import Telling


class Manager:
    """The service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)  # noqa: FBT003 - takes no keywords
        self.environ = {"NOTIFY_SOCKET": str(path)}

    def heard(self) -> list[str]:
        states: list[str] = []
        try:
            while True:
                states += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return states

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


async def test_a_daemon_that_ends_by_itself_asks_for_the_time_that_it_takes(manager: Manager) -> None:
    """As when a service gave up: what feeds the watchdog ends first, and the database's last checkpoint is still to come."""
    told = Telling(manager.environ, 120.0)
    with trio.move_on_after(0):
        await told.watch()
    assert manager.heard()[-3:] == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=140000000"]
    told.stopping()
    assert manager.heard() == [], "said once: the second time would put its end off"


async def test_a_daemon_whose_database_was_exchanged_asks_for_its_whole_grace(manager: Manager) -> None:
    same, stop = SameDatabase(), daemon.Stop()
    same.exchanged.set()
    with capture_logs():
        await daemon._end_when_exchanged(same, stop, Telling(manager.environ, 120.0))
    assert manager.heard() == ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=140000000"]
    assert stop.asked
