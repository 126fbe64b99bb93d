"""What callers ask for: the intent and its job in one transaction, then a wait for what the router was seen to hold.

Nothing here talks to a router, and nothing is lost with a caller who hangs up: by then the job is there, or nothing is.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
import secrets
from typing import Final

from attrs import field, frozen

from opendesk.errors import OpenDeskError
from opendesk.network.hotspots import devices, grants, moves
from opendesk.network.hotspots.answers import HelloAnswer, Told, circuit_open, told, tunnel_silent
from opendesk.network.hotspots.authorizing import Asked, Authorizing
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.requests import (
    AuthorizeByPedido,
    Hello,
    ResyncDevice,
    RevokeSession,
    place_of,
    whole_place_of,
)
from opendesk.network.hotspots.work import PLACES_AT_ONCE, Kind, Work, portions
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import Added, NewJob
from opendesk.network.jobs.waiting import Waiters
from opendesk.network.routers.errors import RouterNotFound
from opendesk.network.routers.fleet import Fleet
from opendesk.ops.audit import Audit
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying

# 128 bits are the contract's least.
TOKEN_BYTES: Final = 16
SECONDS_A_MINUTE: Final = 60


@frozen
class Intent:
    """What is to be done of it: now, and when its time is over. Who says the `same` and has changed nothing joins a job that is there."""

    work: Work
    same: str
    is_news: bool = False
    later: tuple[NewJob, ...] = ()

    def job(self, trace_id: str) -> NewJob:
        return self.work.job(trace_id, same=self.same, joins=not self.is_news)


Intend = Callable[[TrioConnection], Awaitable[Intent]]


@frozen
class Actions:
    _pool: Pool
    _fleet: Fleet
    _waiters: Waiters
    _audit: Audit
    timeout_s: float  # RELAY_ACTION_TIMEOUT_MS
    _new_token: Callable[[], str] = field(default=partial(secrets.token_urlsafe, TOKEN_BYTES))
    _authorizing: Authorizing = field(init=False)

    @_authorizing.default
    def _authorizing_of_ours(self) -> Authorizing:
        return Authorizing(self._pool, self._fleet.dry_run)

    async def hello(self, asked: Hello) -> HelloAnswer:
        """A device without a token is given one."""
        place = whole_place_of(asked.ip, asked.mac)
        assert place.ip is not None
        assert place.mac is not None
        async with self._pool.connection() as conn:
            await self._check_router(conn, asked.mik_id)
            token = await devices.hello(
                conn,
                asked.mik_id,
                place,
                token=asked.device_token,
                user_agent=asked.user_agent,
                new_token=self._new_token(),
            )
        return HelloAnswer(ok=True, device_token=token, mik_id=asked.mik_id, ip_atual=place.ip, mac_atual=place.mac)

    async def authorize(self, asked: AuthorizeByPedido, trace_id: str, source: str | None = None) -> Told:
        """Open the way for an order: to a device that is known, or to the addresses that are given."""
        token = asked.device_token
        given = None if token is not None else whole_place_of(asked.ip_atual, asked.mac_atual, "ipAtual", "macAtual")
        duration_s = None if asked.minutes is None else asked.minutes * SECONDS_A_MINUTE

        router, pedido = asked.mik_id, asked.pedido_id

        def work_of(grant: GrantRow, left: Sequence[Place] = ()) -> Work:
            return Work(Kind.AUTHORIZE, router, (grant.place, *left), pedido, source, dry_run=self._fleet.dry_run)

        def job(grant: GrantRow, left: Sequence[Place]) -> NewJob:
            return Intent(work_of(grant, left), grant.same, is_news=bool(left)).job(trace_id)

        def recorded(grant: GrantRow, added: Added) -> None:
            self._recorded(work_of(grant), added, trace_id)

        with self._refusals_told(Kind.AUTHORIZE, trace_id, router=router, pedidoId=pedido, source=source):
            if router not in self._fleet.specs:
                async with self._pool.connection() as conn:
                    await self._check_router(conn, router)
            grant, added = await self._authorizing.ask(Asked(router, pedido, given, token, duration_s, job, recorded))
        return await self._outcome(work_of(grant), added)

    async def resync(self, asked: ResyncDevice, trace_id: str, source: str | None = None) -> Told:
        """Move the device, withdraw what its order had where it was, and open the way where it is."""
        place = whole_place_of(asked.ip_atual, asked.mac_atual, "ipAtual", "macAtual")
        router, pedido = asked.mik_id, asked.pedido_id

        async def intend(conn: TrioConnection) -> Intent:
            was = await devices.find(conn, asked.device_token, router)
            await devices.hello(conn, router, place, token=asked.device_token, user_agent=None, new_token="")
            moved = await moves.move(
                conn, router, pedido, place, was.addresses, device=was.token_hash, dry_run=self._fleet.dry_run
            )
            places = tuple(dict.fromkeys((*moved.places, was.place)))
            end = end_of(moved.grant, dry_run=self._fleet.dry_run)
            work = Work(Kind.RESYNC, router, places, pedido, source, dry_run=self._fleet.dry_run)
            is_news = len(places) > 1
            return Intent(work, moved.grant.same, is_news, () if end is None else (end,))

        with self._refusals_told(Kind.RESYNC, trace_id, router=router, pedidoId=pedido, source=source):
            work, added = await self._do(router, intend, trace_id)
        return await self._outcome(work, added)

    async def revoke(self, asked: RevokeSession, trace_id: str, source: str | None = None) -> Told:
        """Close the way of all that is granted there, and of what an earlier system left open."""
        place = place_of(asked.ip, asked.mac)

        async def intend(conn: TrioConnection) -> Intent:
            touched = await grants.revoke(conn, asked.mik_id, place, dry_run=self._fleet.dry_run)
            places = tuple(dict.fromkeys((place, *touched)))
            first, *others = (
                Work(Kind.REVOKE, asked.mik_id, portion, None, source, dry_run=self._fleet.dry_run)
                for portion in portions(places, PLACES_AT_ONCE)
            )
            later = tuple(work.job(trace_id) for work in others)
            return Intent(first, f"{place.ip} {place.mac}", bool(touched), later)

        with self._refusals_told(Kind.REVOKE, trace_id, router=asked.mik_id, pedidoId=None, source=source):
            work, added = await self._do(asked.mik_id, intend, trace_id)
        return await self._outcome(work, added)

    # ---- the one way of all three

    @contextmanager
    def _refusals_told(self, kind: Kind, trace_id: str, **facts: str | None) -> Iterator[None]:
        """What comes to nothing before there is a job was an attempt as well."""
        try:
            yield
        except OpenDeskError as error:
            self._audit.attempt(kind, trace_id, joined=False, **facts)
            self._audit.failure(kind, trace_id, error=f"{error.code}: {error}", **facts)
            raise

    async def _do(self, router: str, intend: Intend, trace_id: str) -> tuple[Work, Added]:
        async with self._pool.connection() as conn:
            await self._check_router(conn, router)
            work, added = await retrying(partial(_commit, conn, intend, trace_id))
            self._recorded(work, added, trace_id)
            return work, added

    def _recorded(self, work: Work, added: Added, trace_id: str) -> None:
        """Told as soon as it is committed: the job may be done before the connection is back in its pool."""
        facts = {"router": work.router, "pedidoId": work.pedido_id, "source": work.source, "jobId": str(added.id)}
        self._audit.attempt(work.kind, trace_id, joined=added.joined, **facts)

    async def _outcome(self, work: Work, added: Added) -> Told:
        """What became of it as far as the router is known to be there, and as long as a caller is patient."""
        if self._fleet.silent_here(work.router):
            raise tunnel_silent(work.router, added.id)
        is_shut = self._fleet.circuit_open_here(work.router)
        if is_shut is None:
            async with self._pool.connection() as conn:
                is_shut = await self._fleet.circuit_open(conn, work.router)
        if is_shut:
            raise circuit_open(work.router, added.id)
        view = await self._waiters.outcome(added.id, timeout_s=self.timeout_s, since=added.outcomes)
        return told(work, view, added.id)

    async def _check_router(self, conn: TrioConnection, router: str) -> None:
        if not await self._fleet.knows(conn, router):
            raise RouterNotFound(f"there is no router {router}")


async def _commit(conn: TrioConnection, intend: Intend, trace_id: str) -> tuple[Work, Added]:
    async with conn.transaction():
        intent = await intend(conn)
        (added,) = await table.add_many(conn, [intent.job(trace_id)])
        if intent.later:
            await table.add_many(conn, intent.later)
    return intent.work, added
