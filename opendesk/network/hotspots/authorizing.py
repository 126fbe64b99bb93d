"""Orders and their jobs, written together with those that come at the same time: each alone would be five statements and a commit."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from attrs import define, evolve, field, frozen

from opendesk.errors import OpenDeskError
from opendesk.network.gathering import Gathering
from opendesk.network.hotspots import devices, orders
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.orders import Order
from opendesk.network.hotspots.place import Place
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import Added, NewJob
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying

# Written by one transaction: some milliseconds of the server's time.
MOST: Final = 100


@frozen
class Asked:
    """For a device that is known by its token, or for a place. `job` is of the grant."""

    router: str
    pedido: str
    place: Place | None
    token: str | None
    duration_s: int | None
    job: Callable[[GrantRow], NewJob]


Granted = tuple[GrantRow, Added]


@define(eq=False)
class Authorizing:
    """`ask` raises GrantEnded, DeviceNotFound, RouterMismatch."""

    _pool: Pool
    _dry_run: bool
    _gathering: Gathering[Asked, Granted] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._gathering = Gathering(self._write, MOST)

    async def ask(self, asked: Asked) -> Granted:
        return await self._gathering.ask(asked)

    async def _write(self, together: Sequence[Asked]) -> list[Granted | Exception]:
        async with self._pool.connection() as conn:
            return await retrying(partial(self._commit, conn, together))

    async def _commit(self, conn: TrioConnection, together: Sequence[Asked]) -> list[Granted | Exception]:
        async with conn.transaction():
            told = await self._granted(conn, await _orders(conn, together))
            granted = [(asked, row) for asked, row in zip(together, told, strict=True) if isinstance(row, GrantRow)]
            added = iter(await _add(conn, [asked.job(row) for asked, row in granted]))
        return [(row, next(added)) if isinstance(row, GrantRow) else row for row in told]

    async def _granted(
        self, conn: TrioConnection, asked: Sequence[Order | OpenDeskError]
    ) -> list[GrantRow | OpenDeskError]:
        """Who asks for the same order at the same place is told the same; a statement does each once, so those for another time wait."""
        granted: dict[Order, GrantRow | None] = {}
        left = list(dict.fromkeys(order for order in asked if isinstance(order, Order)))
        while left:
            now = list({order.key: order for order in reversed(left)}.values())
            granted |= zip(now, await orders.authorize_all(conn, now, dry_run=self._dry_run), strict=True)
            left = [order for order in left if order not in granted]
        return [order if isinstance(order, OpenDeskError) else granted[order] or GrantEnded() for order in asked]


async def _orders(conn: TrioConnection, together: Sequence[Asked]) -> list[Order | OpenDeskError]:
    tokens = [(asked.token, asked.router) for asked in together if asked.token is not None]
    found = dict(zip(tokens, await devices.find_all(conn, tokens), strict=True)) if tokens else {}
    return [_order(asked, found.get((asked.token or "", asked.router))) for asked in together]


def _order(asked: Asked, device: devices.Device | OpenDeskError | None) -> Order | OpenDeskError:
    if isinstance(device, OpenDeskError):
        return device
    place = asked.place if device is None else device.place
    assert place is not None
    return Order(asked.router, asked.pedido, place, None if device is None else device.token_hash, asked.duration_s)


async def _add(conn: TrioConnection, jobs: Sequence[NewJob]) -> list[Added]:
    """One that does the same as another of them joins it."""
    first: dict[object, NewJob] = {}
    for job in jobs:
        first.setdefault(_sameness(job), job)
    added = dict(zip(first, await table.add_many(conn, list(first.values())), strict=True)) if first else {}
    return [
        added[_sameness(job)] if first[_sameness(job)] is job else evolve(added[_sameness(job)], joined=True)
        for job in jobs
    ]


def _sameness(job: NewJob) -> object:
    return (job.lane, job.key, job.dedupe) if job.dedupe is not None and job.joins else id(job)
