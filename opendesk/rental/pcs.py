"""PCs: what hosts offer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import attrs
from attrs import frozen
from msgspec import Meta
import psycopg

from opendesk.errors import Forbidden
from opendesk.postgres.driver import TrioConnection
from opendesk.rental.errors import LocalPcIdTaken, PcBusy, PcNotFound, TooManyPcs
from opendesk.rental.lifecycle import NetworkProvider
from opendesk.rental.shapes import HostName, Level, PcStatus, Port, Tags, Text

# Of one host. A large internet café has some hundreds; each more would be work for every heartbeat that speaks for all of them.
MAX_PCS: Final = 1_000

_COLUMNS = """
    p.id, p.host_id, p.local_pc_id, p.name, p.level, p.cpu, p.ram_gb, p.gpu, p.vram_gb, p.storage_type, p.internet_upload_mbps,
    p.price_per_hour, p.currency, p.categories, p.software_tags, p.description, p.network_provider, p.status,
    b.last_seen_at, p.created_at, p.connect_address, p.connect_hint, p.connection_host, p.connection_port
"""
_SELECT = f"SELECT {_COLUMNS} FROM pcs p LEFT JOIN pc_beats b ON b.pc_id = p.id WHERE p.deleted_at IS NULL"
_BY_ID = f"{_SELECT} AND p.id = %(id)s"
_LIST = f"""{_SELECT} AND p.id < %(before)s
    AND (%(host_id)s::uuid IS NULL OR p.host_id = %(host_id)s)
    AND (%(status)s::text IS NULL OR p.status = %(status)s)
    AND (%(category)s::text IS NULL OR %(category)s = ANY (p.categories))
  ORDER BY p.id DESC LIMIT %(wanted)s
"""
_SHOWN = """name, level, cpu, ram_gb, gpu, vram_gb, storage_type, internet_upload_mbps, price_per_hour, categories, software_tags,
             description"""
_VALUES = """%(name)s, %(level)s, %(cpu)s, %(ram_gb)s, %(gpu)s, %(vram_gb)s, %(storage_type)s, %(internet_upload_mbps)s, %(price_per_hour)s,
             %(categories)s, %(software_tags)s, %(description)s"""
_COUNT = "SELECT count(*) FROM pcs WHERE host_id = %(host_id)s AND deleted_at IS NULL"
_IS_FULL = f"SELECT ({_COUNT}) >= %(most)s"
_ADD = f"""
    INSERT INTO pcs (host_id, currency, {_SHOWN}, local_pc_id, connection_host, connection_port)
    SELECT %(host_id)s, %(currency)s, {_VALUES}, %(local_pc_id)s, %(connection_host)s, %(connection_port)s
     WHERE ({_COUNT}) < %(most)s
        ON CONFLICT (host_id, local_pc_id) WHERE deleted_at IS NULL DO NOTHING
 RETURNING id
"""
_BY_LOCAL_ID = f"{_SELECT} AND p.host_id = %(host_id)s AND p.local_pc_id = %(local_pc_id)s"
# What a host set for the way to its PC, and its own name for it, stay when they are left out.
_CHANGE = f"""
    UPDATE pcs SET ({_SHOWN}) = ({_VALUES}), local_pc_id = coalesce(%(local_pc_id)s, local_pc_id),
                   connection_host = coalesce(%(connection_host)s, connection_host),
                   connection_port = coalesce(%(connection_port)s, connection_port)
     WHERE id = %(id)s AND deleted_at IS NULL
"""
_SET_NETWORK = """
    UPDATE pcs SET network_provider = %(network_provider)s, connect_address = %(connect_address)s, connect_hint = %(connect_hint)s,
                   connection_host = %(connection_host)s, connection_port = %(connection_port)s
     WHERE id = %(id)s AND deleted_at IS NULL
"""
# The lock keeps a reservation from coming in between: `create` takes the same one first.
_LOCK = "SELECT FROM pcs WHERE id = %(id)s AND deleted_at IS NULL FOR UPDATE"
_DELETE = """
    UPDATE pcs SET deleted_at = now(), status = 'OFFLINE'
     WHERE id = %(id)s AND NOT EXISTS (SELECT FROM sessions WHERE pc_id = %(id)s AND status IN ('PENDING', 'ACTIVE'))
"""


@frozen
class PcOffer:
    """What a host says of a PC."""

    name: Annotated[str, Meta(min_length=1, max_length=80, examples=["Living room"])]
    level: Level
    cpu: Annotated[Text, Meta(examples=["Ryzen 7 7800X3D"])]
    ram_gb: Annotated[int, Meta(ge=1, le=100_000, examples=[32])]
    gpu: Annotated[Text, Meta(examples=["RTX 4070"])]
    vram_gb: Annotated[int, Meta(ge=0, le=100_000, examples=[12])]
    storage_type: Annotated[Text, Meta(examples=["SSD"])]
    internet_upload_mbps: Annotated[int, Meta(ge=0, le=10_000_000, examples=[100])]
    price_per_hour: Annotated[int, Meta(ge=0, le=10_000_000, description="minor units; 0 is free", examples=[2400])]
    categories: Annotated[Tags, Meta(examples=[["games"]])] = ()
    software_tags: Annotated[Tags, Meta(examples=[["Blender"]])] = ()
    description: Annotated[str, Meta(max_length=4000)] = ""
    local_pc_id: Annotated[Text, Meta(description="the host's own name for it; unique among the host's PCs")] | None = (
        None
    )
    connection_host: HostName | None = None
    connection_port: Port | None = None


@frozen
class PcNetwork:
    """How a PC is reached."""

    network_provider: NetworkProvider
    connect_address: HostName | None = None
    connect_hint: Text | None = None
    connection_host: HostName | None = None
    connection_port: Port | None = None


@frozen
class Pc:
    """A PC as everybody sees it."""

    id: UUID
    host_id: UUID
    local_pc_id: str | None
    name: str
    level: Level
    cpu: str
    ram_gb: int
    gpu: str
    vram_gb: int
    storage_type: str
    internet_upload_mbps: int
    price_per_hour: int
    currency: str
    categories: tuple[str, ...]
    software_tags: tuple[str, ...]
    description: str
    network_provider: NetworkProvider
    status: PcStatus
    last_seen_at: datetime | None
    created_at: datetime


@frozen
class OwnPc(Pc):
    """A PC as its host sees it."""

    connect_address: str | None
    connect_hint: str | None
    connection_host: str | None
    connection_port: int | None

    @property
    def public(self) -> Pc:
        return Pc(**{a.name: getattr(self, a.name) for a in attrs.fields(Pc)})


async def by_id(conn: TrioConnection, pc_id: UUID) -> OwnPc:
    """Raise PcNotFound."""
    pc = await conn.fetch_one(_BY_ID, {"id": pc_id}, row=OwnPc)
    if pc is None:
        raise PcNotFound
    return pc


async def list_some(
    conn: TrioConnection,
    *,
    before: UUID,
    wanted: int,
    host_id: UUID | None = None,
    status: str | None = None,
    category: str | None = None,
) -> Sequence[OwnPc]:
    values = {"before": before, "wanted": wanted, "host_id": host_id, "status": status, "category": category}
    return await conn.fetch(_LIST, values, row=OwnPc)


async def add(conn: TrioConnection, host_id: UUID, offer: PcOffer, *, currency: str) -> tuple[OwnPc, bool]:
    """The PC, and whether it is new: a repeat of (host, localPcId) gives the existing one. Raise TooManyPcs."""
    values = {**_plain(offer), "host_id": host_id, "currency": currency, "most": MAX_PCS}
    made = await conn.fetch_one(_ADD, values)
    if made is not None:
        return await by_id(conn, made[0]), True
    existing = await conn.fetch_one(_BY_LOCAL_ID, values, row=OwnPc)
    if existing is not None:
        return existing, False
    if await conn.fetch_one(_IS_FULL, values) == (True,):
        raise TooManyPcs(f"a host has {MAX_PCS} PCs at most")
    raise LocalPcIdTaken("this localPcId is just being deleted; try again")  # between the two statements


async def change(conn: TrioConnection, pc_id: UUID, offer: PcOffer) -> None:
    """Raise LocalPcIdTaken. The price of sessions that exist stays as it was."""
    try:
        await conn.run(_CHANGE, {**_plain(offer), "id": pc_id})
    except psycopg.errors.UniqueViolation:
        raise LocalPcIdTaken from None


async def set_network(conn: TrioConnection, pc_id: UUID, network: PcNetwork) -> None:
    await conn.run(_SET_NETWORK, {**attrs.asdict(network), "id": pc_id})


async def delete(conn: TrioConnection, pc_id: UUID) -> None:
    """Raise PcNotFound or PcBusy. Its past sessions keep it; nobody else sees it again."""
    async with conn.transaction():
        if await conn.fetch_one(_LOCK, {"id": pc_id}) is None:
            raise PcNotFound
        if await conn.run(_DELETE, {"id": pc_id}) == 0:
            raise PcBusy("the PC has a live session")


def owned(pc: OwnPc, host_id: UUID | None, *, admin: bool) -> OwnPc:
    """Raise Forbidden when the PC is another host's."""
    if not admin and pc.host_id != host_id:
        raise Forbidden
    return pc


def _plain(offer: PcOffer) -> dict[str, Any]:
    return {**attrs.asdict(offer), "categories": list(offer.categories), "software_tags": list(offer.software_tags)}
