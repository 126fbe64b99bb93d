"""The servers that ours is measured against, each a process: `python -m scripts.benchmarks.peer SERVER BEATS`.

SERVER   stock: hypercorn and quart-trio as they come. ours: our own server.
BEATS    batched: as the daemon does. ordinary: a call like any other, which looks its caller up and writes by one UPDATE.
         fused: on the daemon's short way past the framework, both by one statement, the least that a beat of its own can be.

The handlers are the daemon's own, on a pool like the daemon's; only what is named differs.
"""

from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
import os
import signal
import sys
from typing import Any, Final

from attrs import evolve, frozen
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio
import trio

from opendesk import database
from opendesk.ops import collector, logging
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool, with_options
from opendesk.rental.errors import HostNotFound
from opendesk.rental.heartbeats import BeatAnswer
from opendesk.settings import Settings, load
from opendesk.web.app import add_routes, make_app
from opendesk.web.endpoint import Answer, Call, Endpoint
from opendesk.web.http.limits import Limits
from opendesk.web.http.server import serve_http
from opendesk.wiring import Services, wire

_UPDATE: Final = """
    UPDATE host_beats SET last_seen_at = now() FROM hosts
     WHERE host_beats.host_id = hosts.id AND hosts.id = %(host_id)s AND hosts.user_id = %(user_id)s
 RETURNING last_seen_at
"""
_FUSED: Final = """
    UPDATE host_beats SET last_seen_at = now()
      FROM users u JOIN hosts h ON h.user_id = u.id
     WHERE u.id = %(user_id)s AND u.token_version = %(version)s AND u.banned_at IS NULL AND h.id = %(host_id)s
       AND host_beats.host_id = h.id
 RETURNING last_seen_at
"""

# A beat each for a statement: whoever falls behind for a moment is to be measured, not refused.
_MAX_WAITING: Final = 10_000
_PATIENCE_S: Final = 60.0


@frozen
class Beats:
    """A beat for itself. None looks for live sessions, as the batch does."""

    _pool: Pool

    async def ordinary(self, call: Call, conn: TrioConnection) -> Answer:
        values = {"user_id": call.caller.id, "host_id": call.ids["id"]}
        return _answer(await conn.fetch_one(_UPDATE, values))

    async def fused(self, call: Call) -> Answer:
        assert call.claims is not None
        values = {"user_id": call.claims.user_id, "version": call.claims.version, "host_id": call.ids["id"]}
        async with self._pool.connection() as conn:
            return _answer(await conn.fetch_one(_FUSED, values))


def _answer(row: tuple[Any, ...] | None) -> Answer:
    if row is None:
        raise HostNotFound
    return Answer(BeatAnswer(ok=True, last_seen_at=row[0], sessions=()))


async def main(server: str, beats: str) -> None:
    settings = load(os.environ)
    logging.configure(settings.log_level, settings.log_format)
    url = database.external(settings)
    assert url is not None
    ready = with_options(url, search_path="opendesk", statement_timeout_ms=database.STATEMENT_TIMEOUT_MS)
    pool = Pool(ready, size=settings.relay_db_pool_size, max_waiting=_MAX_WAITING, acquire_timeout_s=_PATIENCE_S)
    async with aclosing(pool), trio.open_nursery() as nursery:
        listen = partial(database.connect, ready)
        services = await wire(settings, pool, pool, pool, Metrics(), listen=listen, ready=partial(_ready, pool))
        nursery.start_soon(services.heartbeats.run)
        calls = tuple(_beating(call, beats, pool) if call.hot else call for call in services.calls)
        await {"stock": _serve_stock, "ours": _serve_ours}[server](settings, services, calls)
        nursery.cancel_scope.cancel()


def _beating(call: Endpoint, beats: str, pool: Pool) -> Endpoint:
    match beats:
        case "batched":
            return call
        case "fused":
            return evolve(call, handler=Beats(pool).fused)
        case "ordinary":
            return evolve(call, handler=None, unit=Beats(pool).ordinary, hot=False)
    raise ValueError(beats)


async def _serve_stock(settings: Settings, services: Services, calls: tuple[Endpoint, ...]) -> None:
    app = QuartTrio("peer", static_folder=None)
    add_routes(app, calls, services.responder)
    config = Config()
    config.bind = [settings.listen_address]
    config.errorlog = None  # it greets at each start
    # As ours has them, so that it isn't measured how it makes and closes connections.
    config.backlog = 1024
    config.keep_alive_timeout = Limits().idle_s
    config.keep_alive_max_requests = Limits().requests_per_connection
    await serve(app, config, shutdown_trigger=_stop)


async def _serve_ours(settings: Settings, services: Services, calls: tuple[Endpoint, ...]) -> None:
    collector.look_seldom()
    app: Any = make_app(calls, services.responder)
    await serve_http(app, bind=[settings.listen_address], stop=_stop, grace_s=settings.shutdown_grace_ms / 1000)


async def _stop() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            return


async def _ready(pool: Pool) -> Mapping[str, bool]:
    return {"database": await database.answers(pool)}


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
