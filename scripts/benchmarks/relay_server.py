"""Our relay as a process of its own, with its checks on and its limits out of reach: `python -m scripts.benchmarks.relay_server`.

The environment says where (`PORT`), on which database (`CONNINFO`), by which key tokens are made (`STREAM_KEY`, in hex), and with which
certificate it speaks TLS if it does (`TLS_CERT`, `TLS_KEY`). What the daemon runs beside it, the look after sessions and the pings, runs here too.
"""

from contextlib import aclosing
import os
from pathlib import Path
import signal
from typing import Any, Final

import trio

from opendesk.ops import collector, logging
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.stream.follow import follow_sessions
from opendesk.stream.relay import Relay, RelayLimits
from opendesk.stream.room import RoomLimits
from opendesk.web.http.certificate import Certificate
from opendesk.web.http.door import Upgrade
from opendesk.web.http.limits import MIB
from opendesk.web.http.server import serve_http
from scripts.benchmarks.relay_sockets import raise_descriptor_limit

# The sockets of a benchmark all come from one address.
ATTEMPTS: Final = 100_000
# No run sends as much in a second; the sum is kept all the same.
OUT_OF_REACH: Final = 1 << 50
# The contract's, as everything else is.
_ROOM: Final = RoomLimits(
    clients=8,
    host_bytes_per_s=OUT_OF_REACH,
    client_messages_per_s=700,
    message_bytes=4 * MIB,
    queue_bytes=4 * MIB,
)
_GRACE_S: Final = 0.5


async def main() -> None:
    raise_descriptor_limit()
    logging.configure("warning")
    collector.look_seldom()
    conninfo, port = os.environ["CONNINFO"], int(os.environ["PORT"])
    async with aclosing(Pool(conninfo)) as pool, trio.open_nursery() as nursery:
        limits = RelayLimits(attempts=ATTEMPTS, attempts_window_s=10, room=_ROOM)
        relay = Relay(pool, pool, bytes.fromhex(os.environ["STREAM_KEY"]), limits, _caller)
        nursery.start_soon(follow_sessions, relay, lambda: TrioConnection.connect(conninfo, autocommit=True))
        nursery.start_soon(relay.keep_alive)
        collector.spare_what_stays()
        await serve_http(
            _ready,
            bind=[f"127.0.0.1:{port}"],
            stop=_stop,
            grace_s=_GRACE_S,
            tls=_certificate(),
            upgrade=relay.take_over,
        )
        nursery.cancel_scope.cancel()


def _certificate() -> Certificate | None:
    certificate = os.environ.get("TLS_CERT")
    return Certificate(Path(certificate), Path(os.environ["TLS_KEY"])) if certificate else None


def _caller(upgrade: Upgrade) -> str:
    return upgrade.client[0] if upgrade.client else ""


async def _ready(scope: Any, receive: Any, send: Any) -> None:
    """The one thing that is asked of it besides."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ready"})
        return
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


async def _stop() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            return


if __name__ == "__main__":
    trio.run(main)
