"""The whole daemon, listening where BIND names a path."""

from functools import partial
from pathlib import Path
import signal
import stat
import tempfile

from structlog.testing import capture_logs
import trio

from opendesk import daemon
from opendesk.settings import load
from tests.system.daemon import url_of
from tests.web.serving import ask
from tests.web.site import ORIGIN, PATIENCE_S, SETTINGS

TOO_LARGE = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nOrigin: %b\r\nContent-Length: 99999999\r\n\r\n" % ORIGIN.encode()


async def test_it_is_there_for_the_group_while_the_daemon_is_and_gone_with_it(conninfo: str) -> None:
    with tempfile.TemporaryDirectory() as folder, capture_logs(), trio.fail_after(PATIENCE_S):
        path = Path(folder) / "door"
        settings = load({**SETTINGS, "DATABASE_URL": url_of(conninfo), "BIND": f"unix:{path}"})
        async with trio.open_nursery() as nursery:
            assert await nursery.start(partial(daemon.run, settings, environ={})) == [f"unix:{path}"]
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            async with await trio.open_unix_socket(path) as stream:
                answer = await ask(stream, TOO_LARGE)
            signal.raise_signal(signal.SIGTERM)
        assert not path.exists()
    assert answer.problem == (413, "BODY_TOO_LARGE")
    assert answer.fields[b"access-control-allow-origin"] == ORIGIN.encode()
