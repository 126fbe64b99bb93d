"""What the daemon is made of, put together; nothing runs yet."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import cache, partial
import secrets as random
from typing import Final
from uuid import uuid4

from attrs import frozen
import structlog
import trio

from opendesk.console.parts import Console, console
from opendesk.errors import CannotStart
from opendesk.limits import counted_as
from opendesk.network.access import RelayAccess
from opendesk.network.events.figures import EventFigures
from opendesk.network.figures import NetworkFigures
from opendesk.network.parts import Network, network
from opendesk.network.routeros.client import connect as connect_router
from opendesk.network.routers.figures import FleetFigures
from opendesk.network.routers.link import Connect
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.wireguard.wg import Run
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import api as rental
from opendesk.rental import users, wallets
from opendesk.rental.heartbeats import Heartbeats
from opendesk.rental.timers import Expiry, HostTimeout, Periods
from opendesk.settings import Settings
from opendesk.stream import api as stream
from opendesk.stream import rooms_api
from opendesk.stream import tokens as stream_tokens
from opendesk.stream.figures import RelayFigures
from opendesk.stream.nodes import Nodes
from opendesk.stream.relay import Relay, RelayLimits
from opendesk.stream.room import RoomLimits
from opendesk.web import health
from opendesk.web.app import Application, make_app
from opendesk.web.auth import Passwords, Tokens, utc_now
from opendesk.web.endpoint import Api, Endpoint
from opendesk.web.http.door import Upgrade
from opendesk.web.openapi import document
from opendesk.web.responder import UNIX, Origins, Proxies, Responder, folded
from opendesk.web.wire import dump_json

log = structlog.get_logger()

# RFC 7518, section 3.2: a key for HS256 has at least the size of the hash.
_JWT_SECRET_BYTES: Final = 32

# The first daemon that asks makes it; all of one database use the same.
_KEEP_KEY = """
    WITH made AS (
        INSERT INTO secrets (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT (name) DO NOTHING RETURNING value
    )
    SELECT value FROM made UNION ALL SELECT value FROM secrets WHERE name = %(name)s LIMIT 1
"""


@frozen
class Services:
    """What runs, and what answers: `app` is made of `calls` and `responder`."""

    app: Application
    heartbeats: Heartbeats
    host_timeout: HostTimeout
    expiry: Expiry
    nodes: Nodes
    relay: Relay
    network: Network
    console: Console
    calls: tuple[Endpoint, ...]
    responder: Responder


async def wire(
    settings: Settings,
    pool: Pool,
    upkeep: Pool,
    jobs: Pool,
    metrics: Metrics,
    *,
    listen: Callable[[], Awaitable[TrioConnection]],
    ready: Callable[[], Awaitable[Mapping[str, bool]]],
    connect: Connect = connect_router,
    run_process: Run = trio.run_process,
) -> Services:
    """Calls take their connections from `pool`, heartbeats, timers and looks at sessions theirs from `upkeep`, routers from `jobs`.

    Raise CannotStart.
    """
    await _keep_currency(settings, pool)
    jwt_secret = await _jwt_secret(settings, pool)
    tokens = Tokens(jwt_secret, settings.jwt_expires_in)
    heartbeats = Heartbeats(upkeep, metrics)
    periods = _periods(settings)
    host_timeout = HostTimeout(upkeep, periods, heartbeats, metrics)
    expiry = Expiry(upkeep, periods, metrics, host_timeout.listening_since)
    api = rental.Rental(
        pool=pool,
        tokens=tokens,
        passwords=Passwords(),
        heartbeats=heartbeats,
        terms=_terms(settings),
        metrics=metrics,
        clock=utc_now,
        listening_since=host_timeout.listening_since,
    )
    nodes = Nodes(upkeep, uuid4())
    await nodes.beat()  # before anybody is sent to it
    stream_key = await _shared_key(pool, "stream", stream_tokens.KEY_BYTES)
    proxies = Proxies(settings.trusted_proxies)
    relay = Relay(pool, upkeep, stream_key, _relay_limits(settings), partial(_relay_caller, proxies))
    metrics.registry.register(RelayFigures(relay))
    access = _access(settings, pool)
    shown = health.Health(ready, metrics, settings.metrics_allow, access.holds_token)
    network_figures = NetworkFigures(metrics)
    behind = network(
        settings,
        pool=pool,
        jobs=jobs,
        listen=listen,
        figures=network_figures,
        tunnel_figures=TunnelFigures(metrics),
        event_figures=EventFigures(metrics),
        check_may_see=shown.check_may_see,
        connect=connect,
        run_process=run_process,
    )
    metrics.registry.register(FleetFigures(behind.fleet))
    await behind.fleet.read_registry()  # before anybody asks for a router
    calls = all_endpoints(
        (
            *rental.endpoints(api),
            *stream.endpoints(_stream(settings, stream_key, nodes, metrics)),
            *rooms_api.endpoints(relay),
            *behind.endpoints,
        ),
        shown,
    )
    origins = Origins(frozenset(settings.cors_origins))
    responder = Responder(Api(pool, tokens, users.find_caller, access.admit), origins, proxies, metrics)
    board = console(
        settings,
        rental=api,
        relay=relay,
        network=behind,
        own_node=nodes.own,
        upkeep=upkeep,
        metrics=metrics,
        audit=Audit(network_figures.audited),
        jwt_secret=jwt_secret,
        read=responder.request,
        now=utc_now,
    )
    app = make_app(calls, responder, board.app)
    return Services(app, heartbeats, host_timeout, expiry, nodes, relay, behind, board, calls, responder)


def all_endpoints(calls: tuple[Endpoint, ...], shown: health.Health) -> tuple[Endpoint, ...]:
    """Every call, the document of them all among them."""
    calls = (*calls, *health.endpoints(shown))
    # Not before somebody asks: it takes a tenth of what a daemon has to start in.
    shown.document = cache(lambda: dump_json(document(calls)))
    return calls


def _access(settings: Settings, pool: Pool) -> RelayAccess:
    access = RelayAccess.of(settings, pool)
    if access.is_off:
        log.warning("network.api_off", missing="RELAY_TOKEN")
    return access


async def _keep_currency(settings: Settings, pool: Pool) -> None:
    try:
        async with pool.connection() as conn:
            await wallets.keep_currency(conn, settings.currency)
    except wallets.CurrencyDiffers as error:
        raise CannotStart(str(error)) from error


async def _jwt_secret(settings: Settings, pool: Pool) -> bytes:
    if settings.jwt_secret is not None:
        return settings.jwt_secret.reveal_bytes()
    return await _shared_key(pool, "jwt", _JWT_SECRET_BYTES)


async def _shared_key(pool: Pool, name: str, size_bytes: int) -> bytes:
    values = {"name": name, "value": random.token_bytes(size_bytes)}
    async with pool.connection() as conn:
        # A row that another daemon is just inserting is seen by the second look.
        row = await conn.fetch_one(_KEEP_KEY, values) or await conn.fetch_one(_KEEP_KEY, values)
    assert row is not None
    return bytes(row[0])


def _stream(settings: Settings, key: bytes, nodes: Nodes, metrics: Metrics) -> stream.Stream:
    return stream.Stream(
        key=key,
        node=nodes.own,
        public_url=settings.public_url,
        token_ttl_ms=settings.stream_token_ttl_ms,
        metrics=metrics,
    )


def _relay_limits(settings: Settings) -> RelayLimits:
    return RelayLimits(
        attempts=settings.relay_connect_limit,
        attempts_window_s=settings.relay_connect_window_ms / 1000,
        room=RoomLimits(
            clients=settings.relay_max_clients_per_room,
            host_bytes_per_s=settings.relay_host_max_bytes_per_sec,
            client_messages_per_s=settings.relay_client_max_messages_per_sec,
            message_bytes=settings.relay_max_message_bytes,
            queue_bytes=settings.relay_client_queue_bytes,
        ),
    )


def _relay_caller(proxies: Proxies, upgrade: Upgrade) -> str:
    """Whose attempts are counted together."""
    forwarded = upgrade.head.field(b"x-forwarded-for")
    peer = folded(upgrade.client[0]) if upgrade.client else UNIX
    address, _ = proxies.caller(peer, None if forwarded is None else forwarded.decode("latin-1"))
    return counted_as(address)


def _terms(settings: Settings) -> rental.Terms:
    return rental.Terms(
        currency=settings.currency,
        fee_rate=settings.platform_fee_rate,
        penalty_rate=settings.host_penalty_rate,
        heartbeat_timeout=timedelta(milliseconds=settings.host_heartbeat_timeout_ms),
    )


def _periods(settings: Settings) -> Periods:
    return Periods(
        expiration_s=settings.session_expiration_interval_ms / 1000,
        pending_timeout_ms=settings.session_pending_timeout_ms,
        host_check_s=settings.host_heartbeat_check_interval_ms / 1000,
        host_timeout=timedelta(milliseconds=settings.host_heartbeat_timeout_ms),
        host_timeout_active=timedelta(milliseconds=settings.host_heartbeat_timeout_active_ms),
    )
