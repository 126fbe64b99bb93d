"""Users of the API: they register, own PCs, rent, and read their wallets, over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

from attrs import define, frozen
import httpx
import trio

from opendesk.postgres.driver import TrioConnection

PASSWORD: Final = "correct horse"

PC: Final = {
    "name": "Rig",
    "level": "A",
    "cpu": "Ryzen 7",
    "ramGb": 32,
    "gpu": "RTX 4070",
    "vramGb": 12,
    "storageType": "NVME",
    "internetUploadMbps": 300,
    "pricePerHour": 2400,
}

_numbers = count(1)


@define
class Person:
    """A user with a token. `http` is the daemon that is asked; it may be replaced by another."""

    http: httpx.AsyncClient
    id: str
    email: str
    token: str
    host_id: str | None

    def headers(self, key: str | None = None) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self.token}"}
        return bearer if key is None else {**bearer, "Idempotency-Key": key}

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path, headers=self.headers())

    async def post(self, path: str, body: object = None, *, key: str | None = None) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.headers(key))

    async def balance(self) -> int:
        balance: int = good(await self.get(f"/wallets/{self.id}"))["balance"]
        return balance

    async def beat(self) -> httpx.Response:
        return await self.post(f"/hosts/{self.host_id}/heartbeat")


@frozen
class Rented:
    """One host with a PC that is online, one client with money, an admin."""

    host: Person
    client: Person
    admin: Person
    pc_id: str


def good(response: httpx.Response) -> Any:
    """The answer's JSON; what was wrong, if something was."""
    assert response.is_success, f"{response.request.method} {response.request.url.path}: {response.text}"
    return response.json()


async def register(http: httpx.AsyncClient, *, role: str = "CLIENT") -> Person:
    name = f"{role.lower()}{next(_numbers)}"
    body = {"email": f"{name}@example.org", "password": PASSWORD, "username": name, "role": role}
    made = good(await http.post("/auth/register", json=body))
    return Person(http, made["userId"], body["email"], made["token"], made["hostProfileId"])


async def admin(http: httpx.AsyncClient, conn: TrioConnection) -> Person:
    """Straight in the database; the command line has its own tests."""
    person = await register(http)
    await conn.execute("UPDATE opendesk.users SET role = 'ADMIN' WHERE id = %s", (person.id,))
    return person


async def add_pc(host: Person) -> str:
    """A PC that can be rented."""
    pc_id: str = good(await host.post("/pcs", PC))["pc"]["id"]
    good(await host.beat())
    return pc_id


async def top_up(admin: Person, person: Person, amount: int, *, key: str | None = None) -> httpx.Response:
    body = {"type": "CREDIT", "amount": amount, "reason": key or "TOP_UP"}
    return await admin.post(f"/wallets/{person.id}/tx", body, key=key)


async def settle_in(http: httpx.AsyncClient, conn: TrioConnection, *, money: int = 100_000) -> Rented:
    host, client, boss = await register(http, role="HOST"), await register(http), await admin(http, conn)
    good(await top_up(boss, client, money))
    return Rented(host, client, boss, await add_pc(host))


async def reserve(client: Person, pc_id: str, *, minutes: int = 60, key: str | None = None) -> Any:
    return good(await client.post("/sessions", {"pcId": pc_id, "minutesPurchased": minutes}, key=key))["session"]


async def rent(client: Person, pc_id: str, *, minutes: int = 60) -> Any:
    """An ACTIVE session."""
    session = await reserve(client, pc_id, minutes=minutes)
    return good(await client.post(f"/sessions/{session['id']}/start"))["session"]


@asynccontextmanager
async def beating(host: Person, every_s: float = 0.2) -> AsyncIterator[None]:
    """The host is alive for as long as this lasts, whatever it is answered."""

    async def beat() -> None:
        while True:
            await host.beat()
            await trio.sleep(every_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        yield
        nursery.cancel_scope.cancel()
