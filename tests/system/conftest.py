"""Daemons of a test's own, with data directories of their own; whatever becomes of the test, nothing of them is left."""

from collections.abc import AsyncIterator, Callable, Iterator
import os
from pathlib import Path
import shutil
import signal
import subprocess
from typing import Any, Protocol

import pytest
import trio

from tests.system.daemon import COMMAND, Daemon, environment, launch, postgres_of


class Start(Protocol):
    """Settings are given by their names. Waits until the daemon is ready, unless told not to."""

    async def __call__(
        self, data_dir: Path, *, ready: bool = True, expected: tuple[str, ...] = (), **settings: Any
    ) -> Daemon: ...


@pytest.fixture
def folder(open_folders: Callable[[], Path]) -> Iterator[Path]:
    """A folder that every user can enter. A server that still runs somewhere in it is ended with it."""
    made = open_folders()
    yield made
    for pgdata in made.glob("*/postgres"):
        if (pid := postgres_of(pgdata.parent)) is not None:
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def made_once(open_folders: Callable[[], Path]) -> Iterator[Path]:
    """A data directory with a migrated database that nobody runs."""
    made = open_folders()
    environ = environment({"OPENDESK_DATA_DIR": str(made / "data")})
    subprocess.run([*COMMAND, "migrate"], env=environ, check=True, stdout=subprocess.DEVNULL)
    yield made / "data"
    shutil.rmtree(made)


@pytest.fixture
def data_dir(folder: Path, made_once: Path) -> Path:
    """A copy of it."""
    subprocess.run(["cp", "-a", made_once, folder / "data"], check=True)
    return folder / "data"


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Start]:
    """How a test starts a daemon. Those that run at its end are stopped, and what they said is looked through."""
    started: list[Daemon] = []

    async def begin(data_dir: Path, *, ready: bool = True, expected: tuple[str, ...] = (), **settings: Any) -> Daemon:
        options = {name: settings.pop(name) for name in ("command", "pass_fds") if name in settings}
        daemon = await launch(nursery, data_dir, settings, expected=expected, **options)
        started.append(daemon)
        return await daemon.ready() if ready else daemon

    try:
        yield begin
    finally:
        with trio.CancelScope(shield=True):
            for daemon in started:
                await daemon.close()
    faults = "\n".join(fault for daemon in started for fault in daemon.faults())
    assert not faults, faults
