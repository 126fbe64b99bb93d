"""Orders and their jobs, written together with those that come at the same time: each alone would be five statements and a commit."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from attrs import define, evolve, field, frozen

from opendesk.errors import OpenDeskError
from opendesk.network.gathering import Gathering
from opendesk.network.hotspots import devices, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.orders import Order
from opendesk.network.hotspots.place import Place
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import Added, Crowded, NewJob
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying

# Written by one transaction: some milliseconds of the server's time.
MOST: Final = 100


@frozen
class Asked:
    """For a device that is known by its token, or for a place. `job` is of the grant, and of the places that it was taken from.

    `recorded` is told as soon as it is committed: before anybody can tell how the job ended.
    """

    router: str
    pedido: str
    place: Place | None
    token: str | None
    duration_s: int | None
    job: Callable[[GrantRow, Sequence[Place]], NewJob]
    recorded: Callable[[GrantRow, Added], None] = lambda _grant, _added: None


Granted = tuple[GrantRow, Added]


class _Refused(Exception):
    """Of what was to be written together; it must be begun again without them."""

    def __init__(self, crowded: Crowded, which: Sequence[int]) -> None:
        super().__init__(crowded)
        self.crowded = crowded
        self.which = which


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
            told = await retrying(partial(self._commit_those_with_room, conn, together))
            return [
                await self._revisited(conn, asked, one) if isinstance(one, Order) else one
                for asked, one in zip(together, told, strict=True)
            ]

    async def _commit_those_with_room(
        self, conn: TrioConnection, together: Sequence[Asked]
    ) -> list[Granted | Order | OpenDeskError]:
        """Where too many wait for one device, nothing is written for it, and all for the others."""
        refused: dict[int, OpenDeskError] = {}
        while True:
            some = [(n, asked) for n, asked in enumerate(together) if n not in refused]
            try:
                told = iter(await self._commit(conn, [asked for _, asked in some]))
            except _Refused as error:
                refused |= {some[n][0]: Crowded(error.crowded.keys) for n in error.which}
            else:
                return [refused[n] if n in refused else next(told) for n in range(len(together))]

    async def _commit(self, conn: TrioConnection, together: Sequence[Asked]) -> list[Granted | Order | OpenDeskError]:
        """Orders are told back that take a second look."""
        async with conn.transaction():
            told = await self._granted(conn, await _orders(conn, together))
            granted = [(asked, row) for asked, row in zip(together, told, strict=True) if isinstance(row, GrantRow)]
            jobs = [asked.job(row, ()) for asked, row in granted]
            ends = [end_of(row, dry_run=self._dry_run) for _, row in granted]
            try:
                added = iter(await _add(conn, [*jobs, *(end for end in ends if end is not None)]))
            except Crowded as error:
                keys = {id(asked): (job.lane, job.key) for (asked, _), job in zip(granted, jobs, strict=True)}
                raise _Refused(
                    error, [n for n, asked in enumerate(together) if keys.get(id(asked)) in error.keys]
                ) from error
        answers = [(row, next(added)) if isinstance(row, GrantRow) else row for row in told]
        for asked, answer in zip(together, answers, strict=True):
            if isinstance(answer, tuple):
                asked.recorded(*answer)
        return answers

    async def _revisited(self, conn: TrioConnection, asked: Asked, order: Order) -> Granted | OpenDeskError:
        """One by one, each in a transaction of its own: they lock their orders."""

        async def revisit() -> Granted:
            async with conn.transaction():
                settled = await orders.revisit(conn, order, dry_run=self._dry_run)
                end = end_of(settled.grant, dry_run=self._dry_run)
                job = asked.job(settled.grant, settled.left)
                added, *_ = await table.add_many(conn, [job] if end is None else [job, end])
            asked.recorded(settled.grant, added)
            return settled.grant, added

        try:
            return await retrying(revisit)
        except OpenDeskError as error:
            return error

    async def _granted(
        self, conn: TrioConnection, asked: Sequence[Order | OpenDeskError]
    ) -> list[GrantRow | Order | OpenDeskError]:
        """Who asks for the same order at the same place is told the same; a statement does each once, so those for another time wait."""
        granted: dict[Order, GrantRow | None] = {}
        left = list(dict.fromkeys(order for order in asked if isinstance(order, Order)))
        while left:
            now = list({order.key: order for order in reversed(left)}.values())
            granted |= zip(now, await orders.authorize_all(conn, now, dry_run=self._dry_run), strict=True)
            left = [order for order in left if order not in granted]
        return [order if isinstance(order, OpenDeskError) else granted[order] or order for order in asked]


async def _orders(conn: TrioConnection, together: Sequence[Asked]) -> list[Order | OpenDeskError]:
    tokens = [(asked.token, asked.router) for asked in together if asked.token is not None]
    found = dict(zip(tokens, await devices.find_all(conn, tokens), strict=True)) if tokens else {}
    return [_order(asked, found.get((asked.token or "", asked.router))) for asked in together]


def _order(asked: Asked, device: devices.Device | OpenDeskError | None) -> Order | OpenDeskError:
    if isinstance(device, OpenDeskError):
        return device
    place = asked.place if device is None else device.place
    assert place is not None
    if device is None:
        return Order(asked.router, asked.pedido, place, None, asked.duration_s)
    return Order(asked.router, asked.pedido, place, device.token_hash, asked.duration_s, device.addresses)


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
