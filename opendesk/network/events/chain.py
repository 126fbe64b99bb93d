"""The whole story of an event, an order, a device, an address or a job, as the database knows it: event → job → commands → rows → grant → its end → ACK."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from attrs import evolve, frozen

from opendesk.network.events import looking
from opendesk.network.events.acks import ACK_EVENT
from opendesk.network.events.address import Address
from opendesk.network.events.looking import EventView
from opendesk.network.hotspots.work import Kind, end_key
from opendesk.network.jobs import JobView
from opendesk.network.jobs import looking as jobs
from opendesk.postgres.driver import TrioConnection

# Of each kind: more of one order or device are told as "and more"; whoever has that many looks by event.
MOST_EVENTS: Final = 50
MOST_GRANTS: Final = 50
# The last ones, beside the first, those that the events name, ACKs and ends.
MOST_JOBS: Final = 200
# The last ACKs of one event, or ends of one grant, beside the first: a backend that gives an event again is told again.
LAST_EACH: Final = 3

# Of devices with the same address.
MOST_DEVICES: Final = 20

# Jobs are looked for from the first of what they were made for; their ids have the time in milliseconds, by the same clock.
_EARLIER: Final = timedelta(seconds=1)
_TIME_SHIFT: Final = 80

# Statements that read all there is of a kind are ended: it is an operator who waits, and the daemon that shares the server.
_STATEMENT_LIMIT_S: Final = 30

_GRANT: Final = """
    SELECT g.id, g.router_id, g.pedido_id, host(g.ip) AS ip, upper(g.mac::text) AS mac, g.trial, g.dry_run, g.duration_s, g.created_at,
           g.begun_at, g.until, g.opening_at, g.observed_at, g.ended_at, g.end_reason
      FROM hotspot_grants g
"""
_GRANTS: Final = f"""
    SELECT * FROM (
        {_GRANT} WHERE g.pedido_id = ANY (%(orders)s)
        UNION
        {_GRANT} WHERE g.device = %(device)s
        UNION
        {_GRANT} JOIN unnest(%(routers)s::text[], %(ips)s::inet[], %(macs)s::macaddr[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
                      AS revoked (router, ip, mac, begins, ends)
                   ON g.router_id = revoked.router AND g.ended_at BETWEEN revoked.begins AND revoked.ends AND g.end_reason = 'revoked'
                      AND (revoked.ip IS NULL OR revoked.ip = g.ip) AND (revoked.mac IS NULL OR revoked.mac = g.mac)
        UNION
        {_GRANT} WHERE (g.mac = %(mac)s::macaddr OR g.ip = %(ip)s::inet) AND (g.ended_at IS NULL OR g.ended_at > now() - interval '7 days')
    ) AS found ORDER BY id DESC LIMIT %(limit)s
"""
_DEVICES: Final = (
    "SELECT router_id, host(ip) AS ip, upper(mac::text) AS mac, created_at, seen_at, addresses FROM hotspot_devices"
)
_DEVICE: Final = f"{_DEVICES} WHERE token_hash = %(hash)s"
_DEVICES_AT: Final = (
    f"{_DEVICES} WHERE mac = %(mac)s::macaddr OR ip = %(ip)s::inet ORDER BY seen_at DESC LIMIT %(limit)s"
)
# `nth`: counted from the newest of its kind; of the first, how many there are.
_JOBS: Final = f"""
    WITH found AS (
        SELECT id, type = '{ACK_EVENT}' AS is_ack,
               CASE WHEN type = '{ACK_EVENT}' OR type = '{Kind.END}' AND key = ANY (%(ends)s) THEN lane || key END AS about
          FROM jobs
         WHERE id >= %(since)s AND (type = '{ACK_EVENT}' AND key = ANY (%(acks)s) OR type = '{Kind.END}' AND key = ANY (%(ends)s)
                                    OR payload ->> 'pedidoId' = ANY (%(orders)s) AND (%(calls_too)s OR type = '{Kind.END}'))
    ), numbered AS (
        SELECT id, is_ack, CASE WHEN about IS NULL THEN {MOST_JOBS} ELSE {LAST_EACH} END AS most,
               row_number() OVER (PARTITION BY about ORDER BY id DESC) AS nth, row_number() OVER (PARTITION BY about ORDER BY id) = 1 AS is_first
          FROM found
    )
    SELECT id, is_ack, nth > most + 1 AS is_cut FROM numbered WHERE is_first OR nth <= most
"""
_ORDER_OF: Final = "SELECT payload ->> 'pedidoId' FROM jobs WHERE id = %(id)s"
_ROUTERS: Final = """
    SELECT router_id, leased_until > clock_timestamp() AS is_driven, open_until, last_error, last_error_at
      FROM router_states WHERE router_id = ANY (%(ids)s)
"""


@frozen(kw_only=True)
class GrantView:
    id: UUID
    router_id: str
    pedido_id: str
    ip: str
    mac: str
    trial: bool
    dry_run: bool
    duration_s: int | None
    created_at: datetime
    begun_at: datetime | None
    until: datetime | None
    opening_at: datetime | None
    observed_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None


@frozen(kw_only=True)
class DeviceView:
    """Known by its token, which is nowhere."""

    router_id: str
    ip: str
    mac: str
    created_at: datetime
    seen_at: datetime
    addresses: Any


@frozen(kw_only=True)
class RouterView:
    """What its jobs may wait for. `open_until`: its circuit is open."""

    router_id: str
    is_driven: bool
    open_until: datetime | None
    last_error: str | None
    last_error_at: datetime | None


@frozen(kw_only=True)
class Chain:
    """`cut`: of which kinds there are more."""

    now: datetime
    found_as: tuple[str, ...] = ()
    events: tuple[EventView, ...] = ()
    grants: tuple[GrantView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    device: DeviceView | None = None
    devices: tuple[DeviceView, ...] = ()  # at the address that was asked for
    routers: tuple[RouterView, ...] = ()
    cut: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.events or self.grants or self.jobs or self.device or self.devices)


async def find(conn: TrioConnection, word: str, *, as_token: bool = True) -> Chain:
    """All that hangs together with an eventId, a pedidoId, a deviceToken, a MAC or IP address, or a job's id.

    One snapshot, and nothing is written. Without `as_token` it is no deviceToken, whatever it is.
    """
    async with conn.transaction():
        await conn.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.run(f"SET LOCAL statement_timeout = '{_STATEMENT_LIMIT_S}s'")
        return await _find(conn, word, as_token=as_token)


async def _find(conn: TrioConnection, word: str, *, as_token: bool) -> Chain:
    token = sha256(word.encode("utf-8", "surrogatepass")).digest()
    device = await conn.fetch_one(_DEVICE, {"hash": token}, row=DeviceView) if as_token else None
    address = Address.of(word)
    named, job = await looking.find(conn, word), await _job(conn, word)
    events = list(named) + await looking.of_orders(conn, [word], limit=MOST_EVENTS + 1)
    if job is not None:
        events += await _events_of(conn, job)
    if device is not None:
        events += await looking.of_device(conn, device.router_id, device.mac, limit=MOST_EVENTS + 1)
    if address.mac is not None:
        events += await looking.of_mac(conn, address.mac, limit=MOST_EVENTS + 1)
    found = sorted(
        {(event.id_hash, event.dry_run): event for event in events}.values(), key=lambda event: event.received_at
    )
    orders = {word} | {event.pedido_id for event in found if event.pedido_id}
    if job is not None and (order := await conn.fetch_one(_ORDER_OF, {"id": job.id})) and order[0]:
        orders.add(order[0])
    grants = await _grants(conn, orders, None if device is None else token, address, found)
    devices = await _devices(conn, address)
    is_order = word in {event.pedido_id for event in found} | {grant.pedido_id for grant in grants}
    is_there = bool(found or grants or devices)
    kinds = {
        "eventId": bool(named),
        "pedidoId": is_order,
        "deviceToken": device is not None,
        "jobId": job is not None,
        "mac": address.mac is not None and is_there,
        "ip": address.ip is not None and is_there,
    }
    shown, given = found[-MOST_EVENTS:], grants[-MOST_GRANTS:]
    calls_too = is_order or device is not None or address != Address()
    made, cut = await _jobs(conn, shown, given, job, calls_too=calls_too)
    chain = Chain(
        now=await _now(conn),
        found_as=tuple(kind for kind, is_it in kinds.items() if is_it),
        events=tuple(shown),
        grants=given,
        jobs=made,
        device=device,
        devices=devices[:MOST_DEVICES],
        cut=(
            *_cut(
                events=len(found) > MOST_EVENTS, grants=len(grants) > MOST_GRANTS, devices=len(devices) > MOST_DEVICES
            ),
            *cut,
        ),
    )
    return evolve(chain, routers=await _routers(conn, chain))


async def _devices(conn: TrioConnection, address: Address) -> tuple[DeviceView, ...]:
    if address == Address():
        return ()
    values = {"mac": address.mac, "ip": address.ip, "limit": MOST_DEVICES + 1}
    return tuple(await conn.fetch(_DEVICES_AT, values, row=DeviceView))


async def _now(conn: TrioConnection) -> datetime:
    row = await conn.fetch_one("SELECT now()")
    assert row is not None
    now: datetime = row[0]
    return now


def _cut(**more: bool) -> tuple[str, ...]:
    return tuple(kind for kind, is_more in more.items() if is_more)


async def _job(conn: TrioConnection, word: str) -> JobView | None:
    try:
        job_id = UUID(word)
    except ValueError:
        return None
    return await jobs.get(conn, job_id)


async def _events_of(conn: TrioConnection, job: JobView) -> list[EventView]:
    if job.type == ACK_EVENT:
        return await looking.with_hashes(conn, [bytes.fromhex(job.key)])
    return await looking.of_jobs(conn, [job.id], limit=MOST_EVENTS + 1)


async def _grants(
    conn: TrioConnection, orders: Collection[str], device: bytes | None, address: Address, events: Sequence[EventView]
) -> tuple[GrantView, ...]:
    """In the order in which they were given; of a revoke, those that it ended."""
    revokes = [
        event for event in events if event.type == "REVOKE_REQUESTED" and event.router_id and (event.ip or event.mac)
    ]
    values = {
        "orders": list(orders),
        "device": device,
        "mac": address.mac,
        "ip": address.ip,
        "routers": [event.router_id for event in revokes],
        "ips": [event.ip for event in revokes],
        "macs": [event.mac for event in revokes],
        # Intent and event are one transaction, and have its time.
        "begins": [event.received_at - _EARLIER for event in revokes],
        "ends": [event.received_at + _EARLIER for event in revokes],
        "limit": MOST_GRANTS + 1,
    }
    return tuple(reversed(await conn.fetch(_GRANTS, values, row=GrantView)))


async def _jobs(
    conn: TrioConnection,
    events: Sequence[EventView],
    grants: Sequence[GrantView],
    job: JobView | None,
    *,
    calls_too: bool,
) -> tuple[tuple[JobView, ...], tuple[str, ...]]:
    """In the order in which they were made: what does these events, ends these grants, and tells of it; what calls asked for these orders, too.

    And of which there are more.
    """
    moments = [event.received_at for event in events] + [grant.created_at for grant in grants]
    ids = {event.job_id for event in events if event.job_id} | ({job.id} if job else set())
    cut = {"jobs": False, "ACKs": False}
    if moments:
        since = UUID(int=int((min(moments) - _EARLIER).timestamp() * 1000) << _TIME_SHIFT)
        values = {
            "since": since,
            "orders": [grant.pedido_id for grant in grants] + [event.pedido_id for event in events if event.pedido_id],
            "acks": [event.id_hash for event in events],
            "ends": [end_key(grant.id) for grant in grants],
            "calls_too": calls_too,
        }
        for found, is_ack, is_cut in await conn.fetch(_JOBS, values):
            ids.add(found)
            cut["ACKs" if is_ack else "jobs"] |= is_cut
    made = sorted(await jobs.get_many(conn, list(ids)), key=lambda view: view.id)
    return tuple(made), _cut(**cut)


async def _routers(conn: TrioConnection, chain: Chain) -> tuple[RouterView, ...]:
    ids = {grant.router_id for grant in chain.grants} | {event.router_id for event in chain.events if event.router_id}
    return tuple(await conn.fetch(_ROUTERS, {"ids": sorted(ids)}, row=RouterView))
