"""Clients who rent and hosts who beat, all at once, and who remember every answer that they got."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
import random
from typing import Any, Final
from uuid import UUID

from attrs import define, field, frozen
import httpx
import trio

from opendesk.postgres.driver import TrioConnection
from tests.system.daemon import PATIENCE_S
from tests.system.people import Person, add_pc, admin, register

CLIENTS: Final = 5
PCS: Final = 4
BEAT_S: Final = 0.1
PAUSE_S: Final = 0.02

# Answers that say: ask again.
AGAIN: Final = frozenset({"DATABASE_UNAVAILABLE", "OVERLOADED", "IDEMPOTENCY_IN_PROGRESS"})

# A client has few: three reservations in an hour that were never started shut it out.
NEVER_STARTED: Final = 2


@frozen
class Answered:
    """A request that succeeded."""

    person: Person
    path: str
    body: object
    key: str
    answer: bytes


@define
class Crowd:
    """Everybody asks again until there is an answer, with the same key, as careful clients do."""

    random: random.Random
    http: httpx.AsyncClient | None
    admin: Person
    clients: list[Person]
    hosts: list[Person]
    pcs: list[str]
    answered: list[Answered] = field(factory=list)
    created: list[dict[str, Any]] = field(factory=list)
    ended: list[dict[str, Any]] = field(factory=list)
    unsettled: set[str] = field(factory=set)
    """Keys of requests that have no answer yet."""
    _numbers: Iterator[int] = field(factory=count)
    _busy: int = 0
    _resting: bool = False
    _going: bool = False
    _changed: trio.Event = field(factory=trio.Event)

    def begin(self, nursery: trio.Nursery) -> None:
        for client in self.clients:
            nursery.start_soon(self._rent, client)
        for host in self.hosts:
            nursery.start_soon(self._beat, host)

    def serve_from(self, http: httpx.AsyncClient | None) -> None:
        self.http = http
        self._wake()

    async def works(self, times: int) -> None:
        """Come back when so many more requests have succeeded."""
        wanted = len(self.answered) + times
        with trio.fail_after(PATIENCE_S):
            while len(self.answered) < wanted:
                await self._changed.wait()

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Nobody is asking anything; what failed meanwhile is asked again afterwards."""
        self._resting = True
        with trio.fail_after(PATIENCE_S):
            while self._busy:
                await self._changed.wait()
        yield
        self._resting = False
        self._wake()

    async def go_home(self) -> None:
        """Everybody ends what they are at."""
        self._going = True
        with trio.fail_after(PATIENCE_S):
            while self.unsettled:
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # What they do

    async def _beat(self, host: Person) -> None:
        while not self._going:
            response = await self._ask(host, f"/hosts/{host.host_id}/heartbeat", None, None)
            assert response is None or response.status_code in {200, 503}, response.text
            await trio.sleep(BEAT_S)

    async def _rent(self, client: Person) -> None:
        never_started = 0
        while not self._going:
            key = self._new_key()
            top_up = {"type": "CREDIT", "amount": self.random.randint(1, 4000), "reason": key}
            await self._insist(self.admin, f"/wallets/{client.id}/tx", top_up, key)
            wish = {"pcId": self.random.choice(self.pcs), "minutesPurchased": self.random.randint(1, 60)}
            made = await self._insist(client, "/sessions", wish)
            if made is None:
                await trio.sleep(PAUSE_S)
                continue
            self.created.append(made["session"])
            path = f"/sessions/{made['session']['id']}"
            if never_started < NEVER_STARTED and self.random.random() < 0.2:
                never_started += 1
                if self.random.random() < 0.5:
                    await self._insist(client, f"{path}/cancel")
            elif await self._insist(client, f"{path}/start") and self.random.random() < 0.8:
                over = await self._insist(client, f"{path}/end")
                self.ended += [] if over is None else [over["session"]]

    def _new_key(self) -> str:
        return f"key-{next(self._numbers)}"

    async def _insist(self, person: Person, path: str, body: object = None, key: str | None = None) -> Any:
        """The answer's JSON, whatever it takes; None if it was refused."""
        key = key or self._new_key()
        self.unsettled.add(key)
        response = await self._ask(person, path, body, key)
        while response is None or asks_again(response):
            await trio.sleep(PAUSE_S)
            response = await self._ask(person, path, body, key)
        self.unsettled.remove(key)
        self._wake()
        if not response.is_success:
            assert response.status_code in {402, 409, 429}, response.text
            return None
        self.answered.append(Answered(person, path, body, key, response.content))
        return response.json()

    async def _ask(self, person: Person, path: str, body: object, key: str | None) -> httpx.Response | None:
        while self.http is None or self._resting:
            await self._changed.wait()
        self._busy += 1
        try:
            return await self.http.post(path, json=body, headers=person.headers(key))
        except httpx.TransportError:
            return None
        finally:
            self._busy -= 1
            self._wake()

    # What must have become of it

    async def compare(self, conn: TrioConnection, *, exactly: bool = False) -> None:
        """What was answered is in the database once; beside it only what is still asked for, and `exactly` not even that."""
        assert not (exactly and self.unsettled)
        top_ups = {each.key for each in self.answered if "/wallets/" in each.path}
        rows = await (
            await conn.execute("SELECT reason, count(*) FROM entries WHERE reason LIKE 'key-%' GROUP BY 1")
        ).fetchall()
        found: dict[str, int] = dict(rows)
        assert top_ups <= found.keys() <= top_ups | self.unsettled
        assert set(found.values()) <= {2}  # the wallet's and the outside's
        sessions = {
            row[0]: row[1:]
            for row in await (await conn.execute("SELECT id, status, host_payout, retained FROM sessions")).fetchall()
        }
        created = {UUID(each["id"]) for each in self.created}
        assert created <= sessions.keys()
        assert len(sessions.keys() - created) <= len(self.unsettled)
        for each in self.ended:
            settled = each["settlement"]
            assert sessions[UUID(each["id"])] == ("ENDED", settled["hostPayout"], settled["retained"])


def asks_again(response: httpx.Response) -> bool:
    return response.status_code in {409, 503} and response.json()["code"] in AGAIN


async def move_in(http: httpx.AsyncClient, conn: TrioConnection, chance: random.Random) -> Crowd:
    boss = await admin(http, conn)
    hosts = [await register(http, role="HOST") for _ in range(2)]
    pcs = [await add_pc(hosts[number % len(hosts)]) for number in range(PCS)]
    return Crowd(chance, http, boss, [await register(http) for _ in range(CLIENTS)], hosts, pcs)
