"""A daemon of one's own: what it is told, and what is left of it."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path

import httpx
import pytest

from opendesk.simulators import daemon_process
from opendesk.simulators.daemon_process import DaemonFailed, daemon_environ, running_daemon, throw_away_folder


def test_no_setting_of_the_caller_reaches_it() -> None:
    foreign = {
        "DATABASE_URL": "postgresql://production",
        "RELAY_DATABASE_URL": "postgresql://production",
        "OPENDESK_DATA_DIR": "/var/lib/opendesk",
        "OPENDESK_ENV_FILE": "/etc/opendesk.env",
        "PLATFORM_FEE_RATE": "1",
        "JWT_SECRET": "production",
        "CREDENTIALS_DIRECTORY": "/run/credentials",
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "PORT": "443",
    }
    environ = daemon_environ({"PATH": "/bin", **foreign}, {"OPENDESK_DATA_DIR": "/tmp/x"})
    assert environ["PATH"] == "/bin"
    assert (environ["OPENDESK_DATA_DIR"], environ["PORT"], environ["BIND"]) == ("/tmp/x", "0", "127.0.0.1")
    assert not {name for name, value in foreign.items() if environ.get(name) == value}


def test_the_folder_is_gone_whatever_happens_in_it() -> None:
    made: list[Path] = []

    def stumble() -> None:
        with throw_away_folder() as folder:
            made.append(folder)
            (folder / "postgres").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        stumble()
    assert not made[0].exists()


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, open_folders: Callable[[], Path]) -> Iterator[Path]:
    """Where the daemons of a test have their folders: none is left at its end."""
    parent = open_folders()
    monkeypatch.setattr(daemon_process, "_reachable_parent", lambda: parent)
    yield parent
    parent.rmdir()


async def test_one_that_does_not_start_says_why_and_leaves_nothing(folders: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(DaemonFailed, match="PLATFORM_FEE_RATE")):
        async with running_daemon(os.environ, {"PLATFORM_FEE_RATE": "lots"}):
            pytest.fail("it is not ready")


async def test_one_that_serves_is_found_commanded_and_stopped(folders: Path) -> None:
    async with running_daemon(os.environ, {}) as daemon:
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{daemon.url}/health/ready")).status_code == 200
        assert daemon.data_dir.parent == folders
        assert str(daemon.data_dir) in await daemon.conninfo()
        assert "ok" in await daemon.command("ledger", "verify")
        with pytest.raises(DaemonFailed, match="there is no user"):
            await daemon.command("admin", "ban", "nobody@example.org")
        assert await daemon.stop() == 0
        assert daemon.levels["error"] == 0
