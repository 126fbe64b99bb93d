"""`console`: what an update a second costs with a thousand routers and 500 rooms, watched by one and by ten, and how soon a browser shows it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
import re
import subprocess
import sys
from typing import Any, Final

from attrs import field, frozen
import httpx
import trio

from scripts.benchmarks.console_paint import program
from scripts.benchmarks.measure import middle
from scripts.benchmarks.relay_peers import STREAM_KEY, Party, Serving, add_parties
from scripts.benchmarks.report import Report, Row, less_is_better, only_told
from scripts.benchmarks.routers_child import child
from scripts.benchmarks.routers_world import Fleet, World, world
from scripts.benchmarks.servers import Database, database
from scripts.benchmarks.sizes import Size

CPU_BAR_PERCENT: Final = 3.0
PAINT_BAR_MS: Final = 1_000.0
ROUTERS: Final = 1_000
ROOMS: Final = 500
WATCHERS: Final = (1, 10)

# Over all rooms: a picture a second in every tenth, and some words of control.
_PICTURES_A_SECOND: Final = 50.0
_PINGS_A_SECOND: Final = 10.0
_PICTURE_BYTES: Final = 16 * 1024

# Until what comes with connecting is over, and pages have had their first patch.
_SETTLE_S: Final = 15.0
_FIRST_PATCH_S: Final = 3.0
_MEASURED_S: Final = 20.0
# For all rounds, and the browser; the load is cancelled before that.
_AT_MOST_S: Final = 3_600.0
_PATIENCE_S: Final = 30.0
_ENTERED_S: Final = 120.0

_EMAIL: Final = "admin@example.org"
_PASSWORD: Final = "bench bench bench"  # noqa: S105  # of a database that is gone afterwards
_KEEP_KEY: Final = "INSERT INTO opendesk.secrets (name, value) VALUES ('stream', %(key)s)"
_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')
_SETTINGS: Final = {"RELAY_CONNECT_LIMIT": "100000", "HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS": "3600000"}


@frozen
class LoggedIn:
    """A cookie of the console's."""

    url: str
    name: str
    value: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": f"{self.name}={self.value}"}


@frozen
class Round:
    """% of a core that the daemon took, by how many watched; and what a watcher was sent a second."""

    percent: dict[int, float]
    bytes_a_second: float


async def measure(size: Size) -> Report:
    async with database() as base:
        parties = await add_parties(base, size.count(ROOMS))
        async with base.connection() as conn:
            await conn.run(_KEEP_KEY, {"key": STREAM_KEY})
        await _make_admin(base)
        fleet = Fleet("console", size.count(ROUTERS))
        async with world(base, fleet, settings=_SETTINGS) as found, _streaming(found, parties):
            await trio.sleep(size.seconds(_SETTLE_S))
            who = await _log_in(found.served.port)
            rounds = [await _round(found, who, size) for _ in range(size.rounds)]
            paint_ms, notes = await _painted(who, size)
    return Report("console", [*_cpu_rows(rounds, size), *_paint_rows(paint_ms, size)], [*notes, *_notes(rounds)])


@asynccontextmanager
async def _streaming(found: World, parties: Sequence[Party]) -> AsyncIterator[None]:
    """Entered when all are in their rooms, with pictures trickling; gone when left."""
    async with trio.open_nursery() as nursery:
        relay = Serving("ours", found.served.port, found.served.process.pid)
        scopes = [(party.host.scope, party.client.scope) for party in parties]
        told = {"size": _PICTURE_BYTES, "rate": _PICTURES_A_SECOND, "pings": _PINGS_A_SECOND, "scopes": scopes}
        nursery.start_soon(partial(relay.load, "rooms", parties, seconds=_AT_MOST_S, **told))
        with trio.fail_after(_ENTERED_S):
            while _sockets(found) < 2 * len(parties):  # noqa: ASYNC110  # other processes know
                await trio.sleep(1)
        yield
        nursery.cancel_scope.cancel()


def _sockets(found: World) -> int:
    """Connections that came to the daemon's port."""
    return sum(
        bool(each.laddr) and each.laddr.port == found.served.port and each.status == "ESTABLISHED"
        for each in found.served.process.net_connections("tcp")
    )


async def _make_admin(base: Database) -> None:
    command = [sys.executable, "-m", "opendesk", "admin", "create", _EMAIL, "--password-stdin"]
    environ = {"DATABASE_URL": base.url}
    await trio.run_process(command, stdin=f"{_PASSWORD}\n".encode(), env=environ, stdout=subprocess.DEVNULL)


async def _log_in(port: int) -> LoggedIn:
    """As a browser does it. Raise RuntimeError if the console won't have it."""
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S, trust_env=False) as http:
        form = await http.get("/console/login")
        found = _CSRF.search(form.text)
        if found is None:
            raise RuntimeError(f"no form to log in with: {form.status_code}")
        told = {"email": _EMAIL, "password": _PASSWORD, "csrf": found[1]}
        before = set(http.cookies)
        done = await http.post("/console/login", data=told, headers={"Origin": url})
        name = next(iter(set(http.cookies) - before), None)
        if name is None:
            raise RuntimeError(f"not logged in: {done.status_code}")
        return LoggedIn(f"{url}/console", name, http.cookies[name])


async def _round(found: World, who: LoggedIn, size: Size) -> Round:
    percent, sent = {0: await _percent(found, size)}, 0.0
    for count in WATCHERS:
        async with _watched(who, count) as received:
            await trio.sleep(_FIRST_PATCH_S)
            before = sum(received)
            percent[count] = await _percent(found, size)
            sent = (sum(received) - before) / count / size.seconds(_MEASURED_S)
    return Round(percent, sent)


async def _percent(found: World, size: Size) -> float:
    before, begun_s = found.served.cpu(), trio.current_time()
    await trio.sleep(size.seconds(_MEASURED_S))
    return (found.served.cpu() - before).daemon / (trio.current_time() - begun_s) * 100


@asynccontextmanager
async def _watched(who: LoggedIn, count: int) -> AsyncIterator[list[int]]:
    """So many pages, each with its stream; what each has received so far."""
    received = [0] * count
    limits = httpx.Limits(max_connections=count)
    async with (
        httpx.AsyncClient(limits=limits, timeout=_PATIENCE_S, trust_env=False) as http,
        trio.open_nursery() as nursery,
    ):
        for number in range(count):
            nursery.start_soon(_watch, http, who, received, number)
        yield received
        nursery.cancel_scope.cancel()


async def _watch(http: httpx.AsyncClient, who: LoggedIn, received: list[int], number: int) -> None:
    async with http.stream("GET", f"{who.url}/live", headers=who.headers) as stream:
        async for data in stream.aiter_raw():
            received[number] += len(data)
    raise RuntimeError(f"a page's stream ended: {stream.status_code}")


async def _painted(who: LoggedIn, size: Size) -> tuple[list[float], list[str]]:
    """Milliseconds from the visit to the first paint of what there is to see, each a first visit."""
    if program() is None:
        return [], ["without first paint: there is no Chromium"]
    async with child("console_paint") as browser:
        told = {"url": who.url, "name": who.name, "value": who.value, "times": size.rounds + 1}
        found: dict[str, Any] = await browser.ask(told)
    # The first visit of all waits for the browser itself.
    return found["paint_ms"][1:], [
        f"the page had {found['rows']} rows; the browser's very first visit took {found['paint_ms'][0]:.0f} ms"
    ]


# ---- what is told


def _cpu_rows(rounds: list[Round], size: Size) -> list[Row]:
    work = f"{size.count(ROUTERS)} routers, {size.count(ROOMS)} rooms, an update a second"
    rows = []
    for count in WATCHERS:
        more = middle([each.percent[count] - each.percent[0] for each in rounds])
        rows.append(less_is_better(f"{work}, {count} watching: CPU beyond nobody's", "% of a core", more, CPU_BAR_PERCENT, "bar", bar=1.0))  # fmt: skip
    return [
        *rows,
        only_told("the same: sent to each", "KiB/s", middle([each.bytes_a_second for each in rounds]) / 1024),
    ]


def _paint_rows(paint_ms: list[float], size: Size) -> list[Row]:
    work = f"{size.count(ROUTERS)} routers, {size.count(ROOMS)} rooms: first paint in Chromium, nothing cached"
    return [less_is_better(work, "ms", middle(paint_ms), PAINT_BAR_MS, "bar", bar=1.0)] if paint_ms else []


def _notes(rounds: list[Round]) -> list[str]:
    alone = ", ".join(f"{each.percent[0]:.1f}" for each in rounds)
    return [f"unwatched, the daemon took {alone} % of a core"]
