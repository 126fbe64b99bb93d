"""The network API as the daemon has it, and simulated routers, in one loop on real sockets; the whole document judges each answer."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
import io
import json
from typing import Any, Final

from attrs import define, evolve, field, frozen
import httpx
from prometheus_client.parser import text_string_to_metric_families
import trio

from opendesk import database
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.transport import Target
from opendesk.network.routers.link import Api, Connect
from opendesk.ops import logging
from opendesk.ops.metrics import Metrics
from opendesk.settings import Settings, load
from opendesk.simulators.routeros import PASSWORD, USER, HandClock, Router, simulated
from opendesk.simulators.wireguard import SimulatedWireguard
from opendesk.web.http.server import serve_http
from opendesk.wiring import Services, wire
from tests.web.conformance import Conformance
from tests.web.site import problem

Json = dict[str, Any]

# The port of TCP's that nobody listens at.
NOBODY_S_PORT: Final = 1
# What a test that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 30

TOKEN: Final = "hush the relay token"
INTERNAL: Final = "hush the internal one"
SETTINGS: Final = {
    "OPENDESK_DATA_DIR": "/nowhere",
    "RELAY_TOKEN": TOKEN,
    "RELAY_INTERNAL_TOKEN": INTERNAL,
    "METRICS_ALLOW": "127.0.0.1",
    "RELAY_LOCK_TTL_MS": "4000",
    "RELAY_JOB_BACKOFF_BASE_MS": "100",
}

LISTS: Final = "/ip/firewall/address-list"
BINDINGS: Final = "/ip/hotspot/ip-binding"
SCHEDULERS: Final = "/system/scheduler"

MAC: Final = "AA:BB:CC:DD:EE:01"
IP: Final = "10.5.50.7"
HERE: Final = {"ipAtual": IP, "macAtual": MAC}


@define(eq=False)
class Behind:
    """`routers` by their ids: r1, r2 …; their clocks stand still. `call` calls as a backend that may."""

    client: httpx.AsyncClient
    services: Services
    routers: Mapping[str, Router]
    log: io.StringIO
    conninfo: str
    conformance: Conformance
    errors_expected: bool = field(default=False)

    async def call(self, path: str, body: Any = None, **rest: Any) -> httpx.Response:
        if body is None and not rest:
            return await self.client.get(path)
        return await self.client.post(path, json=body, **rest)

    async def hello(self, router: str = "r1", *, ip: str = IP, mac: str = MAC, **more: Any) -> str:
        """A device's token."""
        told = good(await self.call("/relay/device/hello", {"mikId": router, "ip": ip, "mac": mac, **more}))
        return str(told["deviceToken"])

    async def authorize(self, pedido: str = "1", router: str = "r1", **more: Any) -> httpx.Response:
        return await self.call("/relay/authorize-by-pedido", {"mikId": router, "pedidoId": pedido, **(more or HERE)})

    async def revoke(self, router: str = "r1", **more: Any) -> httpx.Response:
        return await self.call("/relay/revoke", {"mikId": router, **more})

    async def job(self, job_id: str) -> Json:
        return dict(good(await self.call(f"/relay/jobs/{job_id}"))["job"])

    async def job_is(self, job_id: str, state: str) -> Json:
        with trio.fail_after(PATIENCE_S):
            while (job := await self.job(job_id))["state"] != state:  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.02)
        return job

    async def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        async with await database.connect(self.conninfo) as conn:
            cursor = await conn.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def finds(self, statement: str, rows: int = 1, **values: Any) -> None:
        """Wait until there are so many."""
        with trio.fail_after(PATIENCE_S):
            while len(await self.sql(statement, **values)) != rows:  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.01)

    def lines(self, event: str, **facts: Any) -> list[Json]:
        told = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in told if line["event"] == event and facts.items() <= line.items()]

    async def figure(self, name: str, **labels: str) -> float:
        """A sample of /relay/metrics; 0 where there is none."""
        families = text_string_to_metric_families((await self.client.get("/relay/metrics")).text)
        found = (s.value for f in families for s in f.samples if s.name == name and s.labels == labels)
        return next(found, 0.0)


def good(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def refused(answer: httpx.Response) -> tuple[int, str]:
    return problem(answer)


async def until(is_so: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.01)


def nodes(ports: Mapping[str, int], **more: Any) -> str:
    """MIKROTIK_NODES for routers of this machine."""
    common = {"host": "127.0.0.1", "user": USER, "pass": PASSWORD, **more}
    return json.dumps([{"id": name, "port": port, **common} for name, port in ports.items()])


def held(router: Router) -> dict[str, list[str]]:
    """The comments and addresses of all that opens the way."""
    return {
        "lists": sorted(f"{row['address']} {row.get('comment')}" for row in router.rows(LISTS)),
        "bindings": sorted(
            f"{row.get('address')} {row.get('mac-address')} {row.get('comment')}"
            for row in router.rows(BINDINGS)
            if row["disabled"] == "false"
        ),
    }


def open_for(*pedidos: str, ip: str = IP, mac: str = MAC) -> dict[str, list[str]]:
    """What a router holds for one device of this order."""
    return {
        "lists": [f"{ip} pedido:{pedido}" for pedido in pedidos],
        "bindings": [f"{ip} {mac} pedido:{pedido}" for pedido in pedidos],
    }


NOTHING: Final = open_for()


def aged_router(name: str = "router", **options: Any) -> Router:
    """One that has been up for a while, so that a reboot is seen for one."""
    clock = HandClock()
    router = Router(name, clock=clock, **options)
    clock.advance(5000)
    return router


@asynccontextmanager
async def behind(
    conninfo: str,
    *routers: Router,
    latency_s: float = 0.0,
    wireguard: SimulatedWireguard | None = None,
    through: Mapping[str, str] = {},
    **settings: Any,
) -> AsyncIterator[Behind]:
    """On leaving, the log is looked through: no error that isn't expected, and no secret. `through` says which router is at which tunnel IP."""
    named = {f"r{number}": router for number, router in enumerate(routers or (aged_router(),), 1)}
    stream = io.StringIO()
    logs = logging.configure("debug", "json", stream, environ={})
    try:
        async with AsyncExitStack() as stack:
            ports = {
                name: (await stack.enter_async_context(simulated(router, latency_s=latency_s)))[1]
                for name, router in named.items()
            }
            wanted = load({**SETTINGS, "MIKROTIK_NODES": nodes(ports), **settings})
            outside = _Outside(
                _connect_to({ip: ports[name] for ip, name in through.items()}), wireguard or SimulatedWireguard()
            )
            serving = await stack.enter_async_context(_served(conninfo, wanted, named, stream, outside))
            yield serving
    finally:
        logs.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    errors = [line for line in told if line["level"] in {"error", "critical"}]
    assert serving.errors_expected or not errors, errors
    secrets = (TOKEN, INTERNAL, PASSWORD)
    leaks = [line for line in stream.getvalue().splitlines() if any(secret in line for secret in secrets)]
    assert not leaks, leaks


@frozen
class _Outside:
    """What the daemon reaches of the world."""

    connect: Connect
    wireguard: SimulatedWireguard


def _connect_to(ports: Mapping[str, int]) -> Connect:
    """Routers behind tunnels are on ports of this machine; a tunnel IP that nobody has refuses connections."""

    def through(target: Target) -> AbstractAsyncContextManager[Api]:
        if target.host.startswith("127."):
            return connect(target)
        return connect(evolve(target, host="127.0.0.1", port=ports.get(target.host, NOBODY_S_PORT), interface=None))

    return through


async def _all_is_well() -> Mapping[str, bool]:
    return {"database": True}


@asynccontextmanager
async def _served(
    conninfo: str, settings: Settings, routers: Mapping[str, Router], log: io.StringIO, outside: _Outside
) -> AsyncIterator[Behind]:
    stop, listen = trio.Event(), partial(database.connect, conninfo)
    async with (
        database.open_pool(conninfo, settings) as pool,
        database.open_pool(conninfo, settings, size=database.JOBS_CONNECTIONS) as jobs,
        trio.open_nursery() as fleet,
    ):
        services = await wire(
            settings,
            pool,
            pool,
            jobs,
            Metrics(),
            listen=listen,
            ready=_all_is_well,
            connect=outside.connect,
            run_process=outside.wireguard.run,
        )
        fleet.start_soon(services.network.fleet.run)
        async with trio.open_nursery() as nursery:
            for service in services.network.services.values():
                nursery.start_soon(service)
            serve = partial(serve_http, services.app, bind=["127.0.0.1:0"], stop=stop.wait, grace_s=1)
            (url,) = await nursery.start(serve)
            headers = {"x-relay-token": TOKEN, "x-relay-internal-token": INTERNAL}
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, headers=headers) as client:
                conformance = await Conformance.published(client)

                async def check(response: httpx.Response) -> None:
                    await response.aread()
                    conformance.check(response)

                client.event_hooks = {"response": [check]}
                yield Behind(client, services, routers, log, conninfo, conformance)
            nursery.cancel_scope.cancel()
        fleet.cancel_scope.cancel()
