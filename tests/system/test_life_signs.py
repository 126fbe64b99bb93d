"""Every service of a daemon gives signs of life: one that gave none would be taken for one that hangs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
import signal

import pytest
from structlog.testing import capture_logs
import trio

from opendesk import daemon
from opendesk.settings import load
from opendesk.supervise import LifeSigns
from opendesk.telling import Telling
from tests.system.daemon import PATIENCE_S, until, url_of

# Nobody listens there. A queue of events that never comes, and routers that nobody reaches.
NOWHERE = "http://127.0.0.1:9/"


def is_new(signs: LifeSigns) -> list[str]:
    return [service for service, part in signs.known if part == "start"]


async def test_each_service_gives_a_sign_soon_after_its_start(
    conninfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tellings: list[Telling] = []

    def kept(environ: Mapping[str, str], grace_s: float) -> Telling:
        tellings.append(Telling(environ, grace_s))
        return tellings[-1]

    async def nobody_is_new() -> bool:
        await trio.lowlevel.checkpoint()
        return not is_new(tellings[0].signs)

    monkeypatch.setattr(daemon, "Telling", kept)
    settings = load(
        {
            "DATABASE_URL": url_of(conninfo),
            "PORT": "0",
            "OPENDESK_DATA_DIR": str(tmp_path),
            "BACKEND_EVENTS_URL": NOWHERE,
            "BACKEND_ACK_URL": NOWHERE,
            "RELAY_EVENTS_FILE": str(tmp_path / "events"),
        }
    )
    with capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(daemon.run, settings, environ={}))
            await until(nobody_is_new)
            services = {service for service, _ in tellings[0].signs.known}
            signal.raise_signal(signal.SIGTERM)
    assert {"expiry", "routers", "jobs", "events", "events_file", "backend", "database", "watchdog"} <= services
    assert not [line for line in logs if line["event"] == "service.silent"]
