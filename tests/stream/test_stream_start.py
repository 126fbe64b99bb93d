"""`POST /sessions/{id}/stream/start`: who is told what, what is written, and what is refused, in which order."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from attrs import frozen
import httpx
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.stream import tokens
from opendesk.stream.tokens import KEY_BYTES, Role, StreamToken
from tests.rental.builders import MINUTE, age, behind_triggers
from tests.web.site import Json, Person, Site, problem, serving_site

NOBODY = "018f9a2e-0000-7000-8000-000000000000"
ADDRESS = {"networkProvider": "DIRECT", "connectAddress": "203.0.113.7:6000"}


@pytest.fixture
async def site(conninfo: str) -> AsyncIterator[Site]:
    async with serving_site(conninfo) as served:
        yield served


@frozen
class Scene:
    """A host with a PC that has an address, a client with money, and their PENDING session."""

    site: Site
    host: Person
    ana: Person
    pc: str
    session: str

    async def call(self, who: Person, **rest: Any) -> httpx.Response:
        return await who.post(f"/sessions/{self.session}/stream/start", **rest)

    async def told(self, who: Person, **rest: Any) -> Json:
        answer = await self.call(who, **rest)
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    async def url(self, who: Person, **rest: Any) -> str:
        return str((await self.told(who, **rest))["transport"]["relay"]["url"])

    async def status(self) -> str:
        return str((await self.ana.get(f"/sessions/{self.session}")).json()["session"]["status"])

    async def written(self) -> tuple[Any, ...]:
        """The end of the tokens, the node, the URL."""
        async with self.site.pool.connection() as conn:
            query = "SELECT stream_expires_at, stream_node, stream_url FROM sessions WHERE id = %s"
            row = await conn.fetch_one(query, (self.session,))
        assert row is not None
        return tuple(row)


async def set_scene(site: Site, *, network: Json | None = ADDRESS, online: bool = True) -> Scene:
    host, ana = await site.host(), await site.user(money=10_000)
    pc = await site.pc(host)
    if network is not None:
        assert (await host.post(f"/pcs/{pc}/network", json=network)).status_code == 200
    session = await site.reserved(ana, pc)
    if not online:
        async with site.pool.connection() as conn:
            await conn.run("UPDATE pcs SET status = 'OFFLINE' WHERE id = %s", (pc,))
    return Scene(site, host, ana, pc, session)


@pytest.fixture
async def scene(site: Site) -> Scene:
    return await set_scene(site)


async def stream_key(conn: TrioConnection) -> bytes:
    row = await conn.fetch_one("SELECT value FROM secrets WHERE name = 'stream'")
    assert row is not None
    return bytes(row[0])


# ---- what is told


async def test_both_sides_are_told_the_same_but_for_their_own_tokens(scene: Scene) -> None:
    host, client = await scene.told(scene.host), await scene.told(scene.ana)
    for told in (host, client):
        for part in (told, told["transport"]["relay"]):
            assert part["streamId"] == tokens.stream_id(part["token"])
            assert part["sessionId"] == scene.session
            assert part["tokenExpiresAt"] == told["tokenExpiresAt"]
    assert host["token"] == client["token"]
    assert host["transport"]["relay"]["token"] != client["transport"]["relay"]["token"]
    assert (client["host"], client["videoPort"], client["inputPort"]) == ("203.0.113.7", 6000, 5505)
    assert client["connectAddress"] == "203.0.113.7:6000"
    assert host["transport"]["lan"] == client["transport"]["lan"]


async def test_tokens_are_those_of_the_key_in_the_database(scene: Scene, conn: TrioConnection) -> None:
    told = {Role.HOST: await scene.told(scene.host), Role.CLIENT: await scene.told(scene.ana)}
    key, session = await stream_key(conn), UUID(scene.session)
    assert len(key) == KEY_BYTES
    for role, who in ((Role.HOST, scene.host), (Role.CLIENT, scene.ana)):
        assert tokens.read_token(key, told[role]["token"]) == StreamToken(session, None, None)
        assert tokens.read_token(key, told[role]["transport"]["relay"]["token"]) == StreamToken(session, role, who.id)


async def test_a_second_daemon_has_the_same_key(conninfo: str, conn: TrioConnection) -> None:
    keys = set()
    for _ in range(2):
        async with serving_site(conninfo):
            keys.add(await stream_key(conn))
    assert len(keys) == 1


async def test_a_pc_behind_the_relay_needs_no_address(site: Site) -> None:
    scene = await set_scene(site, network={"networkProvider": "RELAY"})
    told = await scene.told(scene.ana)
    assert (told["transport"]["recommended"], told["transport"]["lan"], told["host"]) == ("RELAY_WS", None, None)


# ---- starting


async def test_the_host_s_call_leaves_it_pending(scene: Scene) -> None:
    told = await scene.told(scene.host)
    assert (told["sessionStatus"], told["streamState"]) == ("PENDING", "STARTING")
    assert await scene.status() == "PENDING"


async def test_the_client_s_call_starts_it(scene: Scene) -> None:
    told = await scene.told(scene.ana)
    assert (told["sessionStatus"], told["streamState"]) == ("ACTIVE", "ACTIVE")
    session = (await scene.ana.get(f"/sessions/{scene.session}")).json()["session"]
    assert session["status"] == "ACTIVE"
    assert session["endAt"] is not None
    assert (await scene.ana.get(f"/pcs/{scene.pc}")).json()["pc"]["status"] == "BUSY"
    assert (await scene.told(scene.host))["streamState"] == "ACTIVE"


async def test_a_start_is_counted_and_logged_once(scene: Scene) -> None:
    for who in (scene.host, scene.ana, scene.ana, scene.host):
        await scene.told(who)
    figures = (await scene.site.client.get("/metrics")).text
    assert 'opendesk_sessions_total{event="started"} 1.0' in figures.splitlines()
    (line,) = [line for line in scene.site.lines() if line.get("event") == "session.started"]
    assert (line["session"], line["by"]) == (scene.session, str(scene.ana.id))


async def test_calls_at_once_start_it_once(scene: Scene) -> None:
    told: list[Json] = []

    async def call(who: Person) -> None:
        told.append(await scene.told(who))

    async with trio.open_nursery() as nursery:
        for who in [scene.ana] * 5 + [scene.host] * 3:
            nursery.start_soon(call, who)
    assert len({each["token"] for each in told}) == 1
    assert len({each["transport"]["relay"]["url"] for each in told}) == 1
    assert await scene.status() == "ACTIVE"
    figures = (await scene.site.client.get("/metrics")).text
    assert 'opendesk_sessions_total{event="started"} 1.0' in figures.splitlines()


async def test_a_repeated_call_moves_the_end_and_keeps_the_tokens(scene: Scene, conn: TrioConnection) -> None:
    first = await scene.told(scene.ana)
    await conn.run("UPDATE sessions SET stream_expires_at = stream_expires_at - interval '50 seconds'")
    before, *_ = await scene.written()
    again = await scene.told(scene.ana, headers={"Idempotency-Key": "looked at by nobody"})
    after, *_ = await scene.written()
    assert (after - before).total_seconds() >= 50
    assert [again["token"], again["transport"]["relay"]["token"]] == [
        first["token"],
        first["transport"]["relay"]["token"],
    ]


async def test_the_tokens_end_a_while_after_the_call_by_the_database_s_clock(conninfo: str) -> None:
    async with serving_site(conninfo, STREAM_TOKEN_TTL_MS="3600000") as site:
        scene = await set_scene(site)
        before = await database_now(site)
        told = datetime.fromisoformat((await scene.told(scene.ana))["tokenExpiresAt"])
        after = await database_now(site)
    assert int(before.timestamp()) + 3599 <= told.timestamp() <= after.timestamp() + 3600


async def database_now(site: Site) -> datetime:
    async with site.pool.connection() as conn:
        row = await conn.fetch_one("SELECT now()")
    assert row is not None
    now: datetime = row[0]
    return now


# ---- refusals


async def test_an_unknown_session_is_not_found(site: Site) -> None:
    ana = await site.user()
    assert problem(await ana.post(f"/sessions/{NOBODY}/stream/start")) == (404, "SESSION_NOT_FOUND")


async def test_strangers_and_admins_may_not(scene: Scene) -> None:
    for who in (await scene.site.user(), await scene.site.host(), await scene.site.admin()):
        assert problem(await scene.call(who)) == (403, "FORBIDDEN")
    assert problem(await scene.site.client.post(f"/sessions/{scene.session}/stream/start"))[0] == 401
    assert await scene.written() == (None, None, None)


async def test_an_admin_who_rents_is_a_client(site: Site) -> None:
    scene = await set_scene(site)
    async with site.pool.connection() as conn:
        await conn.run("UPDATE users SET role = 'ADMIN' WHERE id = %s", (scene.ana.id,))
    assert (await scene.told(scene.ana))["streamState"] == "ACTIVE"


@pytest.mark.parametrize("how", ["end", "cancel"])
async def test_a_session_that_is_over_streams_no_more(scene: Scene, how: str) -> None:
    await scene.told(scene.ana if how == "end" else scene.host)
    assert (await scene.ana.post(f"/sessions/{scene.session}/{how}")).status_code == 200
    before = await scene.written()
    for who in (scene.ana, scene.host):
        assert problem(await scene.call(who)) == (409, "SESSION_NOT_STREAMABLE")
    assert await scene.written() == before


async def test_a_stranger_is_not_told_that_it_is_over(scene: Scene) -> None:
    assert (await scene.ana.post(f"/sessions/{scene.session}/cancel")).status_code == 200
    assert problem(await scene.call(await scene.site.user())) == (403, "FORBIDDEN")


async def test_over_comes_before_a_missing_address(site: Site) -> None:
    scene = await set_scene(site, network=None)
    assert (await scene.ana.post(f"/sessions/{scene.session}/cancel")).status_code == 200
    assert problem(await scene.call(scene.ana)) == (409, "SESSION_NOT_STREAMABLE")


@pytest.mark.parametrize("network", [None, {"networkProvider": "DIRECT", "connectAddress": "rig:99999"}])
async def test_without_an_address_nothing_is_started(site: Site, network: Json | None) -> None:
    scene = await set_scene(site, network=network, online=False)
    for who in (scene.ana, scene.host):
        assert problem(await scene.call(who)) == (409, "MISSING_HOST_ADDRESS")
    assert await scene.status() == "PENDING"
    assert await scene.written() == (None, None, None)


async def test_a_pc_that_can_t_be_taken_is_told_as_by_start(site: Site) -> None:
    scene = await set_scene(site, online=False)
    assert problem(await scene.call(scene.ana)) == (409, "PC_OFFLINE")
    async with site.pool.connection() as conn:
        await conn.run("UPDATE pcs SET status = 'BUSY' WHERE id = %s", (scene.pc,))
    assert problem(await scene.call(scene.ana)) == (409, "PC_BUSY")
    assert await scene.status() == "PENDING"
    assert await scene.written() == (None, None, None)
    assert (await scene.told(scene.host))["streamState"] == "STARTING"


async def test_a_body_with_something_in_it_is_refused(scene: Scene) -> None:
    assert problem(await scene.call(scene.ana, json={"role": "host"})) == (422, "VALIDATION_FAILED")
    assert await scene.status() == "PENDING"
    assert (await scene.told(scene.ana, json={}))["streamState"] == "ACTIVE"


async def test_a_grant_that_cannot_be_written_starts_nothing(scene: Scene, conn: TrioConnection) -> None:
    """The database was made read-only between the two statements, say."""
    await conn.execute("""
        CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'refused' USING ERRCODE = 'read_only_sql_transaction'; END $$;
        CREATE TRIGGER bad BEFORE UPDATE OF stream_url ON sessions FOR EACH ROW EXECUTE FUNCTION bad()
    """)
    assert problem(await scene.call(scene.ana)) == (503, "DATABASE_UNAVAILABLE")
    assert await scene.status() == "PENDING"
    assert (await scene.ana.get(f"/pcs/{scene.pc}")).json()["pc"]["status"] == "ONLINE"


# ---- the relay's URL


async def test_the_url_is_the_request_s_own_host(scene: Scene) -> None:
    assert await scene.url(scene.host) == f"ws://127.0.0.1:{scene.site.port}/stream/relay"


@pytest.mark.parametrize("spoken", ["for", "nobody"])
async def test_a_stranger_s_word_on_scheme_and_host_doesn_t_count(scene: Scene, spoken: str) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    headers |= {"X-Forwarded-For": "127.0.0.1"} if spoken == "for" else {}
    assert await scene.url(scene.host, headers=headers) == f"ws://127.0.0.1:{scene.site.port}/stream/relay"


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "desk.example"}, "wss://desk.example/stream/relay"),
        ({"X-Forwarded-Proto": "https", "Host": "desk.example"}, "wss://desk.example/stream/relay"),
        ({"X-Forwarded-Host": "desk.example:8080"}, "ws://desk.example:8080/stream/relay"),
        # Of several the nearest proxy's; what it can't have meant, not at all.
        ({"X-Forwarded-Host": "evil.example, desk.example"}, "ws://desk.example/stream/relay"),
        ({"X-Forwarded-Proto": "gopher", "Host": "desk.example"}, "ws://desk.example/stream/relay"),
        ({"X-Forwarded-Proto": "HTTPS", "X-Forwarded-Host": "", "Host": "d.example"}, "wss://d.example/stream/relay"),
    ],
)
async def test_a_trusted_proxy_s_word_counts(conninfo: str, headers: dict[str, str], url: str) -> None:
    async with serving_site(conninfo, TRUSTED_PROXIES="127.0.0.1") as site:
        scene = await set_scene(site)
        assert await scene.url(scene.host, headers=headers) == url


async def test_public_url_counts_before_all(conninfo: str) -> None:
    public = "https://desk.example/rent"
    async with serving_site(conninfo, TRUSTED_PROXIES="127.0.0.1", PUBLIC_URL=public) as site:
        scene = await set_scene(site)
        url = await scene.url(scene.host, headers={"X-Forwarded-Host": "other.example", "Host": "a b"})
    assert url == "wss://desk.example/rent/stream/relay"


async def test_a_host_that_makes_no_url_is_a_bad_request(scene: Scene) -> None:
    assert problem(await scene.call(scene.ana, headers={"Host": "a@b"})) == (400, "BAD_REQUEST")
    assert await scene.status() == "PENDING"


# ---- whose relay


async def test_the_first_call_says_where_and_a_later_one_keeps_to_it(scene: Scene) -> None:
    await scene.told(scene.host, headers={"Host": "first.example"})
    _, node, url = await scene.written()
    assert url == "ws://first.example/stream/relay"
    await scene.told(scene.ana, headers={"Host": "second.example"})
    assert (await scene.written())[1:] == (node, url)


async def test_each_side_is_told_the_url_of_its_own_request_whatever_the_other_one_s_host_said(scene: Scene) -> None:
    own = f"ws://127.0.0.1:{scene.site.port}/stream/relay"
    for liar, other in ((scene.host, scene.ana), (scene.ana, scene.host)):
        assert await scene.url(liar, headers={"Host": "evil.example"}) == "ws://evil.example/stream/relay"
        assert await scene.url(other) == own


async def move(conn: TrioConnection, scene: Scene, alive_for: str | None) -> UUID:
    """As if the first call had gone to another daemon, which says that it's alive for so long; None: it's forgotten."""
    other = uuid4()
    if alive_for is not None:
        await conn.run("INSERT INTO relay_nodes VALUES (%s, now() + %s::interval)", (other, alive_for))
    values = {"id": scene.session, "node": other}
    query = """UPDATE sessions SET stream_expires_at = now(), stream_node = %(node)s, stream_url = 'wss://other.example/stream/relay'
                WHERE id = %(id)s"""
    assert await behind_triggers(conn, query, values) == 1
    return other


async def test_another_daemon_s_url_is_given_while_it_is_alive(scene: Scene, conn: TrioConnection) -> None:
    other = await move(conn, scene, "10 seconds")
    for who in (scene.ana, scene.host):
        assert await scene.url(who) == "wss://other.example/stream/relay"
    assert (await scene.written())[1] == other


@pytest.mark.parametrize("alive_for", ["-1 milliseconds", None])
async def test_a_dead_daemon_s_place_is_taken(scene: Scene, conn: TrioConnection, alive_for: str | None) -> None:
    other = await move(conn, scene, alive_for)
    own = f"ws://127.0.0.1:{scene.site.port}/stream/relay"
    for who in (scene.host, scene.ana):
        assert await scene.url(who) == own
    _, node, url = await scene.written()
    assert (node != other, url) == (True, own)


async def test_a_daemon_whose_row_is_late_keeps_its_sessions(scene: Scene, conn: TrioConnection) -> None:
    await scene.told(scene.host, headers={"Host": "first.example"})
    before = await scene.written()
    await conn.run("DELETE FROM relay_nodes")
    assert await scene.url(scene.host) == f"ws://127.0.0.1:{scene.site.port}/stream/relay"
    assert (await scene.written())[1:] == before[1:]


async def test_a_daemon_is_alive_before_it_answers(scene: Scene, conn: TrioConnection) -> None:
    await scene.told(scene.host)
    row = await conn.fetch_one("SELECT id FROM relay_nodes WHERE alive_until > now()")
    assert row is not None
    assert (await scene.written())[1] == row[0]


async def test_many_at_once_at_two_daemons_agree_on_one_place(
    conninfo: str, scene: Scene, conn: TrioConnection
) -> None:
    await move(conn, scene, None)
    urls: list[str] = []

    async def call(url: str) -> None:
        answer = await scene.site.client.post(
            f"{url}/sessions/{scene.session}/stream/start", headers=scene.host.authorization
        )
        assert answer.status_code == 200, answer.text
        urls.append(answer.json()["transport"]["relay"]["url"])

    async with serving_site(conninfo) as other, trio.open_nursery() as nursery:
        for url in [scene.site.url, other.url] * 4:
            nursery.start_soon(call, url)
    assert len(urls) == 8
    assert len(set(urls)) == 1


async def test_several_daemons_with_a_public_url_tell_only_that(conninfo: str) -> None:
    public = "https://desk.example"
    async with serving_site(conninfo, PUBLIC_URL=public) as one, serving_site(conninfo, PUBLIC_URL=public) as other:
        scene = await set_scene(one)
        for site in (one, other, one):
            answer = await one.client.post(
                f"{site.url}/sessions/{scene.session}/stream/start",
                headers={**scene.host.authorization, "Host": "evil.example"},
            )
            assert answer.json()["transport"]["relay"]["url"] == "wss://desk.example/stream/relay"


async def test_a_host_that_was_to_come_to_the_relay_is_missed_there_whatever_it_says_later(site: Site) -> None:
    scene = await set_scene(site, network={"networkProvider": "RELAY"})
    await scene.told(scene.ana)
    answer = await scene.host.post(f"/pcs/{scene.pc}/network", json=ADDRESS)
    assert answer.status_code == 200
    assert (await scene.told(scene.ana))["transport"]["recommended"] != "RELAY_WS"
    async with site.pool.connection() as conn:
        await conn.run(
            """INSERT INTO stream_presence (session_id, node, host_down_since, client_up_since, seen_at)
               VALUES (%(id)s, gen_random_uuid(), now() - interval '10 minutes', now() - interval '10 minutes', now())""",
            {"id": scene.session},
        )
        await age(conn, UUID(scene.session), 10 * MINUTE)
    ended = await scene.ana.post(f"/sessions/{scene.session}/end", json={"failureReason": "HOST"})
    assert ended.status_code == 200, ended.text
    assert ended.json()["session"]["failureReason"] == "HOST"
