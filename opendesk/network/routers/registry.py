"""Which routers there are: those registered in the database, and those of MIKROTIK_NODES."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from attrs import evolve, field, frozen
import structlog

from opendesk.network.routeros.dialling import NO_INTERFACE
from opendesk.network.routers.errors import CannotOpen, RouterNotFound, SealingUnavailable
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.postgres.driver import TrioConnection
from opendesk.settings import Settings
from opendesk.settings.routers import API_PORT, API_TLS_PORT, RouterNode
from opendesk.settings.secret import Secret

log = structlog.get_logger()

CHANNEL: Final = "opendesk_routers"

# Of a router that has none of its own: far over what one takes that is well (some ms, and a tunnel's round trip), and short enough for
# a caller, who waits for 8 s, to be told.
TIMEOUT_S: Final = 5.0

# One daemon drives a thousand; this is where a table that grew by mistake stops costing.
ROUTERS_MAX: Final = 20_000

# Where a router is known from. Of two of one id MIKROTIK_NODES wins.
DATABASE: Final = "database"
ENVIRONMENT: Final = "environment"
OVER_DATABASE: Final = "environment over database"

_COLUMNS: Final = "id, host, port, tls, tls_sha256, username, password_sealed, timeout_ms, created_at, updated_at"
# What was only pretended is seen by those who pretend.
_SEEN: Final = "dry_run <= %(dry_run)s"
_LIST: Final = f"SELECT {_COLUMNS} FROM routers WHERE {_SEEN} ORDER BY id LIMIT %(limit)s"
_GET: Final = f"SELECT {_COLUMNS} FROM routers WHERE id = %(id)s AND {_SEEN}"
# In one order, so that two who hold some of them don't wait for each other in a circle.
_HOLD: Final = f"SELECT id FROM routers WHERE id = ANY (%(ids)s) AND {_SEEN} ORDER BY id FOR KEY SHARE"
_PUT: Final = """
    WITH put AS (
        INSERT INTO routers AS r (id, host, port, tls, tls_sha256, username, password_sealed, timeout_ms, dry_run)
        VALUES (%(id)s, %(host)s, %(port)s, %(tls)s, %(tls_sha256)s, %(username)s, %(password_sealed)s, %(timeout_ms)s, %(dry_run)s)
            ON CONFLICT (id) DO UPDATE
           SET host = excluded.host, port = excluded.port, tls = excluded.tls, tls_sha256 = excluded.tls_sha256,
               username = excluded.username, password_sealed = excluded.password_sealed, timeout_ms = excluded.timeout_ms,
               dry_run = excluded.dry_run, updated_at = now()
         WHERE r.dry_run OR NOT excluded.dry_run
     RETURNING xmax = 0 AS is_new
    ), afresh AS (
        -- What failed may have been mended by the change, and another router's uptime says nothing.
        UPDATE router_states
           SET failures = 0, open_until = NULL, booted_at = NULL, resets = resets + 1,
               moved = moved OR EXISTS (SELECT FROM routers
                                         WHERE id = %(id)s AND (host, port) IS DISTINCT FROM (%(host)s::text, %(port)s::integer))
         WHERE router_id = %(id)s AND NOT %(dry_run)s
    )
    SELECT is_new FROM put
"""
# Which of these addresses are at the other end of a tunnel.
_TUNNELLED: Final = """
    SELECT host(tunnel_ip) FROM tunnel_devices WHERE dry_run = %(dry_run)s AND tunnel_ip = ANY (%(ips)s::inet[])
     UNION
    SELECT host(mikrotik_ip) FROM tunnel_bindings WHERE dry_run = %(dry_run)s AND mikrotik_ip = ANY (%(ips)s::inet[])
"""
# Its state stays for a while, and its lease with it: whoever drives it may not have heard yet.
_REMOVE: Final = """
    DELETE FROM routers WHERE id = %(id)s AND dry_run = %(dry_run)s AND host = coalesce(%(host)s::text, host)
"""
_OTHER_AT: Final = (
    f"SELECT id FROM routers WHERE host = %(host)s AND {_SEEN} AND id IS DISTINCT FROM %(id)s ORDER BY id LIMIT 1"
)


@frozen(kw_only=True)
class NewRouter:
    """How to reach a router. What is None is MIKROTIK_PORT, MIKROTIK_USER and MIKROTIK_PASS."""

    id: str
    host: str
    port: int | None = None
    tls: bool = False
    tls_sha256: bytes | None = None
    user: str | None = None
    password: Secret[str] | None = None
    timeout_ms: int | None = None


@frozen(kw_only=True)
class StoredRouter:
    """A row; the password as it is sealed, and in no repr."""

    id: str
    host: str
    port: int | None
    tls: bool
    tls_sha256: bytes | None
    username: str | None
    password_sealed: bytes | None = field(repr=False)
    timeout_ms: int | None
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class RouterSpec:
    """All that it takes to dial a router; `fault` says why it can't be dialled all the same.

    One that `is_tunnelled` is the business of the daemon that has the interface, and dialled through that `interface` or not at all.
    """

    id: str
    host: str
    port: int
    tls: bool
    tls_sha256: bytes | None
    user: str
    password: Secret[str]
    timeout_s: float
    source: str
    fault: str | None = None
    is_tunnelled: bool = False
    interface: str | None = None


async def load(conn: TrioConnection, settings: Settings) -> dict[str, RouterSpec]:
    """Every router by its id. Of two of one id the environment's counts."""
    sealer = Sealer(settings.relay_master_key)
    specs = {
        row.id: _row_or_fault(row, sealer, settings) for row in await list_all(conn, dry_run=settings.relay_dry_run)
    }
    for node in settings.mikrotik_nodes:
        specs[node.id] = _node_or_fault(node, settings, OVER_DATABASE if node.id in specs else ENVIRONMENT)
    return {spec.id: spec for spec in await through_tunnels(conn, settings, specs.values())}


async def hold(conn: TrioConnection, ids: Iterable[str], *, dry_run: bool) -> set[str]:
    """Those that are registered in the database, and stay so until the caller's transaction ends: what it writes for them is seen by
    whoever removes one.
    """
    return {row[0] for row in await conn.fetch(_HOLD, {"ids": list(ids), "dry_run": dry_run})}


async def find(conn: TrioConnection, settings: Settings, router_id: str) -> RouterSpec:
    """Raise RouterNotFound."""
    spec = await _spec(conn, settings, router_id)
    (found,) = await through_tunnels(conn, settings, [spec])
    return found


async def _spec(conn: TrioConnection, settings: Settings, router_id: str) -> RouterSpec:
    for node in settings.mikrotik_nodes:
        if node.id == router_id:
            return _node_or_fault(node, settings, ENVIRONMENT)
    row = await get(conn, router_id, dry_run=settings.relay_dry_run)
    if row is None:
        raise RouterNotFound(f"there is no router {router_id}")
    return _row_or_fault(row, Sealer(settings.relay_master_key), settings)


async def through_tunnels(
    conn: TrioConnection, settings: Settings, specs: Iterable[RouterSpec]
) -> Sequence[RouterSpec]:
    """With the interface that each is to be dialled through, if it is behind a tunnel."""
    specs = list(specs)
    in_pool = {spec.host: _is_in_pool(spec.host, settings) for spec in specs}
    ips = [host for host, is_in in in_pool.items() if is_in is not None]
    rows = await conn.fetch(_TUNNELLED, {"dry_run": settings.relay_dry_run, "ips": ips}) if ips else ()
    tunnelled = {host for (host,) in rows}
    # Also where no device is any more; unless this daemon has no tunnels at all, and the pool may be anything.
    pooled = {host for host in ips if in_pool[host] and settings.wg_interface is not None}
    interface = settings.wg_interface or NO_INTERFACE
    return [
        evolve(spec, is_tunnelled=spec.host in tunnelled, interface=interface)
        if spec.host in pooled | tunnelled
        else spec
        for spec in specs
    ]


def _is_in_pool(host: str, settings: Settings) -> bool | None:
    """None of what is no tunnel's address: a name, or one that is good on one link only."""
    try:
        return None if "%" in host else ip_address(host) in settings.wg_tunnel_pool
    except ValueError:
        return None


async def list_all(conn: TrioConnection, *, dry_run: bool = False) -> Sequence[StoredRouter]:
    """ROUTERS_MAX at most; that there are more is said in the log."""
    found = await conn.fetch(_LIST, {"limit": ROUTERS_MAX + 1, "dry_run": dry_run}, row=StoredRouter)
    if len(found) > ROUTERS_MAX:
        log.error("registry.too_many", known=ROUTERS_MAX, first_unknown=found[ROUTERS_MAX].id)
    return found[:ROUTERS_MAX]


async def get(conn: TrioConnection, router_id: str, *, dry_run: bool = False) -> StoredRouter | None:
    return await conn.fetch_one(_GET, {"id": router_id, "dry_run": dry_run}, row=StoredRouter)


async def put(conn: TrioConnection, router: NewRouter, sealer: Sealer, *, dry_run: bool = False) -> bool:
    """Register a router, or change how it is reached; whether it is a new one. Raise SealingUnavailable rather than store a password.

    Who only pretends changes nothing of one that is there.
    """
    sealed = None if router.password is None else sealer.seal(router.password, about=password_of(router.id))
    return await put_sealed(conn, router, sealed, dry_run=dry_run)


async def put_sealed(
    conn: TrioConnection, router: NewRouter, password_sealed: bytes | None, *, dry_run: bool = False
) -> bool:
    """As `put`, with a password that was sealed before, for this router."""
    row = await conn.fetch_one(
        _PUT,
        {
            "id": router.id,
            "host": router.host,
            "port": router.port,
            "tls": router.tls,
            "tls_sha256": router.tls_sha256,
            "username": router.user,
            "password_sealed": password_sealed,
            "timeout_ms": router.timeout_ms,
            "dry_run": dry_run,
        },
    )
    return row is not None and bool(row[0])


async def other_at(conn: TrioConnection, host: str, router_id: str | None, *, dry_run: bool = False) -> str | None:
    """Another router that is dialled there."""
    found = await conn.fetch_one(_OTHER_AT, {"host": host, "id": router_id, "dry_run": dry_run})
    return None if found is None else str(found[0])


async def remove(conn: TrioConnection, router_id: str, *, host: str | None = None, dry_run: bool = False) -> None:
    """Raise RouterNotFound, also if it isn't dialled at `host`, where that is told. What is said of it in MIKROTIK_NODES stays."""
    if await conn.run(_REMOVE, {"id": router_id, "host": host, "dry_run": dry_run}) == 0:
        raise RouterNotFound(f"there is no router {router_id} in the database")


def _row_or_fault(row: StoredRouter, sealer: Sealer, settings: Settings) -> RouterSpec:
    try:
        return spec_of_row(row, sealer, settings)
    except Exception as error:  # noqa: BLE001  # it is told as this router's, and keeps no other from being driven
        return _faulty(row.id, row.host, DATABASE, error)


def _node_or_fault(node: RouterNode, settings: Settings, source: str) -> RouterSpec:
    try:
        return spec_of_node(node, settings, source=source)
    except Exception as error:  # noqa: BLE001  # the same
        return _faulty(node.id, node.host, source, error)


def _faulty(router_id: str, host: str, source: str, error: Exception) -> RouterSpec:
    """Without the error's text, which may quote a password."""
    fault = f"what is known of it can't be used ({type(error).__name__})"
    return RouterSpec(
        id=router_id, host=host, port=API_PORT, tls=False, tls_sha256=None, user="", password=Secret(""),
        timeout_s=TIMEOUT_S, source=source, fault=fault,
    )  # fmt: skip


def spec_of_node(node: RouterNode, settings: Settings, *, source: str = ENVIRONMENT) -> RouterSpec:
    return RouterSpec(
        id=node.id,
        host=node.host,
        port=node.api_port(settings.mikrotik_port),
        tls=node.tls,
        tls_sha256=None,
        user=node.user,
        password=node.password,
        timeout_s=_timeout_s(node.timeout_ms),
        source=source,
    )


def spec_of_row(row: StoredRouter, sealer: Sealer, settings: Settings) -> RouterSpec:
    user, password, fault = _credentials(row, sealer, settings)
    return RouterSpec(
        id=row.id,
        host=row.host,
        port=row.port or settings.mikrotik_port or (API_TLS_PORT if row.tls else API_PORT),
        tls=row.tls,
        tls_sha256=row.tls_sha256,
        user=user,
        password=password,
        timeout_s=_timeout_s(row.timeout_ms),
        source=DATABASE,
        fault=fault,
    )


def _credentials(row: StoredRouter, sealer: Sealer, settings: Settings) -> tuple[str, Secret[str], str | None]:
    """User, password, and what is wrong with them. A router whose password nobody can open is still one that there is."""
    if row.username is None:
        if settings.mikrotik_user is None:
            return "", Secret(""), "it has no user of its own, and MIKROTIK_USER is not set"
        return settings.mikrotik_user, settings.mikrotik_pass or Secret(""), None
    if row.password_sealed is None:
        return row.username, Secret(""), None
    try:
        return row.username, sealer.open(row.password_sealed, about=password_of(row.id)), None
    except (SealingUnavailable, CannotOpen) as error:
        return row.username, Secret(""), error.detail


def _timeout_s(timeout_ms: int | None) -> float:
    return TIMEOUT_S if timeout_ms is None else timeout_ms / 1000
