"""A daemon that everything is done to, at LOG_LEVEL=debug, says none of the secrets that it was told; nor do commands."""

import base64
import json
from pathlib import Path
import secrets
from typing import Any, Final

from attrs import define, field
import pytest
import trio

from opendesk.settings.table import DECLARED
from opendesk.simulators.routeros import USER, Router
from opendesk.simulators.routeros.server import serve
from tests.network.access.calling import signature
from tests.system.commands import opendesk
from tests.system.daemon import PATIENCE_S, Daemon, database_of, launch
from tests.system.people import PASSWORD, Rented, good, reserve, settle_in
from tests.system.test_stream import at_the_relay, streamed

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

MAC: Final = "AA:BB:CC:DD:EE:01"
WRONG_DATABASE: Final = "postgresql://somebody:{}@127.0.0.1:1/opendesk"
# Whose text isn't one secret: it is told in parts.
IN_PARTS: Final = frozenset({"MIKROTIK_NODES", "DATABASE_URL", "RELAY_DATABASE_URL"})


@define
class Known:
    """Every secret of this run, by what it is."""

    by_name: dict[str, str] = field(factory=dict)

    def new(self, name: str) -> str:
        self.by_name[name] = made = f"hush{secrets.token_hex(16)}"
        return made

    def add(self, name: str, secret: str) -> str:
        self.by_name[name] = secret
        return secret

    def key(self, name: str) -> str:
        return self.add(name, base64.b64encode(secrets.token_bytes(32)).decode())

    def told_in(self, output: str) -> list[str]:
        return sorted(name for name, secret in self.by_name.items() if secret in output)


def settings(known: Known, ports: dict[str, int]) -> dict[str, str]:
    """Every setting that is a secret, and routers with passwords, which the first one refuses; nobody is at the second."""
    nodes = [
        {"id": name, "host": "127.0.0.1", "port": port, "user": USER, "pass": known.new(f"password of {name}")}
        for name, port in ports.items()
    ]
    two = [known.new("RELAY_TOKEN"), known.new("the next RELAY_TOKEN")]
    given = {
        "RELAY_TOKEN": ",".join(two),
        "MIKROTIK_NODES": json.dumps(nodes),
        "RELAY_MASTER_KEY": known.key("RELAY_MASTER_KEY"),
    }
    others = {one.name for one in DECLARED if one.kind.secret} - given.keys() - IN_PARTS
    return {
        **given,
        **{name: known.new(name) for name in others},
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",  # what may be told is settled before it is rendered
        "BACKEND_EVENTS_URL": f"http://127.0.0.1:1/events?key={known.new('a key in BACKEND_EVENTS_URL')}",
        "RELAY_ACTION_TIMEOUT_MS": "1000",
        "METRICS_ALLOW": "127.0.0.0/8",
    }


async def begun(nursery: trio.Nursery, data_dir: Path, given: dict[str, str]) -> Daemon:
    """Its errors are expected."""
    daemon = await launch(nursery, data_dir, given)
    return await daemon.ready()


async def log_in(daemon: Daemon, people: Rented, known: Known) -> None:
    for person in (people.host, people.client, people.admin):
        known.add(f"token of {person.email}", person.token)
        known.add(f"signature of the token of {person.email}", person.token.rpartition(".")[2])
    body = {"email": people.client.email, "password": known.new("a wrong password")}
    assert (await daemon.http.post("/auth/login", json=body)).status_code == 401
    token = good(await daemon.http.post("/auth/login", json={**body, "password": PASSWORD}))["token"]
    known.add("token of a log-in", token)
    broken = b'{"email": "a@example.org", "password": "' + known.new("a password in a body that is no JSON").encode()
    assert (await daemon.http.post("/auth/login", content=broken)).status_code in {400, 415}
    headers = {"Authorization": f"Bearer {known.new('a token that is none')}", "Cookie": f"a={known.new('a cookie')}"}
    assert (await daemon.http.get(f"/wallets?token={known.new('a token in a query')}", headers=headers)).is_error


async def stream(people: Rented, known: Known) -> None:
    good(await people.host.post(f"/pcs/{people.pc_id}/network", {"networkProvider": "RELAY"}))
    session = str((await reserve(people.client, people.pc_id))["id"])
    hosts, clients = await streamed(people.host, session), await streamed(people.client, session)
    known.add("stream token of the host", hosts["token"])
    known.add("stream token of the client", clients["token"])
    with trio.fail_after(PATIENCE_S):
        async with at_the_relay(hosts, "host", people.host.id) as host:
            async with at_the_relay(clients, "client", people.client.id):
                await host.picture(bytes(100))
            with pytest.raises(TypeError, match="CloseConnection"):  # no welcome, but the end
                async with at_the_relay(
                    {**clients, "token": known.new("a wrong stream token")}, "client", people.client.id
                ):
                    pass


async def network(daemon: Daemon, known: Known) -> None:
    token, internal, api = (known.by_name[name] for name in ("RELAY_TOKEN", "RELAY_INTERNAL_TOKEN", "RELAY_API_SECRET"))

    async def post(target: str, body: Any, secret: str = api) -> Any:
        content = json.dumps(body).encode()
        signed = signature("POST", target, content, secret=secret)
        headers = {
            "x-relay-token": token,
            "x-relay-internal-token": internal,
            "Content-Type": "application/json",
            **signed,
        }
        return await daemon.http.post(target, content=content, headers=headers)

    hello = {"mikId": "r1", "ip": "10.5.50.7", "mac": MAC}
    device = known.add("device token", good(await post("/relay/device/hello", hello))["deviceToken"])
    assert (await post("/relay/device/hello", hello, secret=known.new("a wrong API secret"))).status_code == 401
    for router in ("r1", "r2"):
        body = {"pedidoId": "p1", "mikId": router, "deviceToken": device}
        await post("/relay/authorize-by-pedido", body)
        action = {"action": "AUTHORIZE_BY_PEDIDO", "payload": body}
        await post("/relay/action", action)
    unknown = {"pedidoId": "p1", "mikId": "r1", "deviceToken": known.new("a device token of nobody's")}
    assert (await post("/relay/authorize-by-pedido", unknown)).status_code == 404
    peer = {"publicKey": base64.b64encode(bytes(32)).decode(), "presharedKey": known.key("a preshared key")}
    login = {"username": "admin", "password": known.new("a router's password in a body")}
    await post("/relay/routers/register", {"deviceId": "HOTSPOT-09", **peer, **login})
    wrong = {"x-relay-token": known.new("a wrong relay token")}
    assert (await daemon.http.get("/relay/routers", headers=wrong)).status_code == 401
    for page in ("/metrics", "/relay/metrics", "/health/ready"):
        text = (await daemon.http.get(page)).text
        assert known.told_in(text) == [], page


async def fail(daemon: Daemon, people: Rented, data_dir: Path, known: Known) -> None:
    """A fault of ours, with its traceback."""
    async with database_of(data_dir) as conn:
        await conn.run("ALTER TABLE users RENAME TO somewhere_else")
        body = {"email": people.client.email, "password": known.new("a password at a broken daemon")}
        try:
            assert (await daemon.http.post("/auth/login", json=body)).status_code == 500
        finally:
            await conn.run("ALTER TABLE somewhere_else RENAME TO users")


async def command(data_dir: Path, given: dict[str, str], known: Known) -> str:
    """What commands say, those that fail as well."""
    wrong = {"DATABASE_URL": WRONG_DATABASE.format(known.new("a database's password"))}
    short = {"MIKROTIK_NODES": json.dumps([{"id": "?", "pass": known.new("a password of a broken MIKROTIK_NODES")}])}
    # Each is a process of a second or two.
    rows: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
        (("settings", "--json"), {}),
        (("router", "test", "r1"), {}),
        (("ledger", "verify"), wrong),
        (("settings",), short),
    )
    done = [await opendesk(*words, data_dir=data_dir, **dict[str, Any](given | changed)) for words, changed in rows]
    return "\n".join(one.out + one.err for one in done)


async def test_a_whole_run_tells_no_secret(nursery: trio.Nursery, data_dir: Path) -> None:
    known = Known()
    known.add("password of all people", PASSWORD)
    port = await nursery.start(serve, Router())
    given = settings(known, {"r1": port, "r2": 1})
    daemon = await begun(nursery, data_dir, given)
    try:
        async with database_of(data_dir) as conn:
            people = await settle_in(daemon.http, conn)
        await log_in(daemon, people, known)
        await stream(people, known)
        await network(daemon, known)
        await fail(daemon, people, data_dir, known)
        commands = await command(data_dir, given, known)
        assert await daemon.stop() == 0
    finally:
        await daemon.close()
    said = "\n".join([*map(json.dumps, daemon.log), *daemon.noise, *daemon.welcome])
    events = {line["event"] for line in daemon.log}
    # It was a run worth looking through.
    assert {"http.request", "http.failed", "relay.connected", "network.refused", "events.not_fetched"} <= events
    assert "Traceback" in said
    assert known.told_in(said) == []
    assert known.told_in(commands) == []
    assert len(known.by_name) > 25
