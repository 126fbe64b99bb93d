"""Orders that come at once are written together, and each is told its own."""

from collections.abc import Sequence

from attrs import define, field
import trio

from opendesk.network.hotspots import devices
from opendesk.network.hotspots.authorizing import Asked, Authorizing, Granted
from opendesk.network.hotspots.errors import DeviceNotFound, GrantEnded, RouterMismatch
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.network.jobs.shapes import NewJob
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

HERE = Place("10.5.50.7", "AA:BB:CC:DD:EE:01")
THERE = Place("10.5.50.8", "AA:BB:CC:DD:EE:02")


def job(grant: GrantRow, left: Sequence[Place]) -> NewJob:
    payload = {"places": [[place.ip, place.mac] for place in (grant.place, *left)]}
    dedupe = f"{grant.id} {grant.duration_s}"
    return NewJob("OPEN", grant.router_id, grant.mac, payload, dedupe=dedupe, joins=not left)


def order(pedido: str, place: Place | None = HERE, *, token: str | None = None, duration_s: int | None = None) -> Asked:
    return Asked("r1", pedido, place, token, duration_s, job)


@define(eq=False)
class Together:
    """All who ask at once: the first leads a round of its own, the others are the second."""

    authorizing: Authorizing
    answers: list[Granted | Exception | None] = field(factory=list)

    async def ask(self, *asked: Asked) -> list[Granted | Exception | None]:
        self.answers = [None] * len(asked)
        async with trio.open_nursery() as nursery:
            for n, one in enumerate(asked):
                nursery.start_soon(self._ask, n, one)
        return self.answers

    async def _ask(self, n: int, asked: Asked) -> None:
        try:
            self.answers[n] = await self.authorizing.ask(asked)
        except (GrantEnded, DeviceNotFound, RouterMismatch) as error:
            self.answers[n] = error


async def test_each_order_gets_its_grant_and_its_job(pool: Pool, conn: TrioConnection) -> None:
    asked = [order(str(n), Place(f"10.5.50.{n}", f"AA:BB:CC:DD:EE:{n:02X}")) for n in range(1, 20)]
    answers = await Together(Authorizing(pool, dry_run=False)).ask(*asked)
    told = [(answer[0].pedido_id, answer[0].place) for answer in answers if isinstance(answer, tuple)]
    assert told == [(one.pedido, one.place) for one in asked]
    jobs = dict(await conn.fetch("SELECT id, key FROM jobs"))
    assert [jobs[answer[1].id] for answer in answers if isinstance(answer, tuple)] == [place.mac for _, place in told]


async def test_the_same_order_at_once_is_one_grant_and_one_job(pool: Pool, conn: TrioConnection) -> None:
    answers = await Together(Authorizing(pool, dry_run=False)).ask(*[order("1")] * 8)
    granted = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(granted) == 8
    assert len({row.id for row, _ in granted}) == len({added.id for _, added in granted}) == 1
    assert sum(not added.joined for _, added in granted) == 1
    assert await conn.fetch_one("SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM hotspot_grants)") == (1, 1)


async def test_the_same_order_for_another_time_is_a_grant_that_is_changed(pool: Pool, conn: TrioConnection) -> None:
    asked = [order("1", duration_s=seconds) for seconds in (60, 60, 600, 120)]
    await Together(Authorizing(pool, dry_run=False)).ask(*asked)
    assert await conn.fetch("SELECT duration_s FROM hotspot_grants") == [(600,)]


async def test_who_is_refused_takes_nobody_along(pool: Pool, conn: TrioConnection) -> None:
    await conn.run(
        "INSERT INTO hotspot_grants (router_id, pedido_id, ip, mac, duration_s, begun_at, until, observed_at, ended_at, end_reason, dry_run) "
        "VALUES ('r1', 'over', '10.5.50.7', 'AA:BB:CC:DD:EE:01', 60, now() - interval '1 hour', now() - interval '1 minute', now() - interval '1 hour', now(), 'expired', false)"
    )
    for router, token, place in (("r1", "known", THERE), ("r2", "elsewhere", HERE)):
        await devices.hello(conn, router, place, token=None, user_agent=None, new_token=token)
    asked = [
        order("1"),
        order("over", duration_s=60),
        order("2", None, token="nobody's"),
        order("3", None, token="elsewhere"),
        order("4", None, token="known"),
    ]
    first, over, unknown, mismatched, known = await Together(Authorizing(pool, dry_run=False)).ask(*asked)
    assert isinstance(over, GrantEnded)
    assert isinstance(unknown, DeviceNotFound)
    assert isinstance(mismatched, RouterMismatch)
    assert isinstance(first, tuple)
    assert isinstance(known, tuple)
    assert (first[0].place, known[0].place) == (HERE, THERE)
