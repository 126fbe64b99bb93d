"""The relay alone, in a process of its own: says its port in one line, and ends at SIGTERM.

python serve_relay.py CONNINFO KEY

KEY, in hex, is what tokens are made with. Nobody is refused for coming too often: all of a test come from one address.
"""

from contextlib import aclosing
from functools import partial
import signal
import sys
from typing import Any

import trio

from opendesk.ops import collector, logging
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.stream.follow import follow_sessions
from opendesk.stream.relay import Relay, RelayLimits
from opendesk.stream.room import RoomLimits
from opendesk.web.http.server import serve_http

MIB = 2**20
LIMITS = RelayLimits(
    attempts=1_000_000,
    attempts_window_s=10,
    room=RoomLimits(
        clients=8,
        host_bytes_per_s=25 * MIB,
        client_messages_per_s=700,
        message_bytes=4 * MIB,
        queue_bytes=4 * MIB,
    ),
)
# As the daemon waits for its requests; sockets are given less to say good-bye.
GRACE_S = 10


async def main(conninfo: str, key: str) -> None:
    logging.configure("warning")
    collector.look_seldom()
    async with aclosing(Pool(conninfo)) as pool, trio.open_nursery() as services:
        relay = Relay(pool, pool, bytes.fromhex(key), LIMITS, lambda _: "203.0.113.1")
        services.start_soon(follow_sessions, relay, lambda: TrioConnection.connect(conninfo, autocommit=True))
        services.start_soon(relay.keep_alive)
        serve = partial(
            serve_http, _app, bind=["127.0.0.1:0"], stop=partial(_stop, relay), grace_s=GRACE_S, upgrade=relay.take_over
        )
        async with trio.open_nursery() as web:
            urls = await web.start(serve)
            print(urls[0].rpartition(":")[2], flush=True)  # noqa: T201  # what whoever started this waits for
            collector.spare_what_stays()
        services.cancel_scope.cancel()


async def _stop(relay: Relay) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as received:
        async for _ in received:
            break
    relay.drain()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Whatever isn't the relay's; only its start and its end are asked for."""
    assert scope["type"] == "lifespan"
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
