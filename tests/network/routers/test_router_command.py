"""`opendesk router` as somebody at a terminal runs it."""

import base64
from collections.abc import Callable
import json
import socket
from uuid import uuid4

from click.testing import CliRunner, Result
import pytest
import trio

from opendesk.cli import group
from opendesk.network.hotspots import orders
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import add, get, replay
from opendesk.network.jobs.table import claim
from opendesk.postgres.driver import TrioConnection
from tests.system.daemon import url_of

KEY = base64.b64encode(bytes(range(32))).decode()
OLD_KEY = base64.b64encode(bytes(32)).decode()
PIN = "AB:" * 31 + "CD"

Router = Callable[..., Result]


@pytest.fixture
def router(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> Router:
    monkeypatch.setenv("DATABASE_URL", url_of(conninfo))
    monkeypatch.setenv("RELAY_MASTER_KEY", KEY)

    def run(*arguments: str, stdin: str = "", **settings: str) -> Result:
        return CliRunner(env=settings).invoke(group, ["router", *arguments], input=stdin)

    return run


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_is_added_shown_and_removed(router: Router) -> None:
    added = router("add", "r1", "10.0.0.1", "--user", "api", "--password-stdin", stdin="s3cret-word\n")
    assert done(added) == "router r1 (10.0.0.1) added\n"
    shown = router("show", "r1", "--json")
    told = json.loads(done(shown))
    assert (told["host"], told["port"], told["breaker"]["state"], told["node"]) == ("10.0.0.1", 8728, "closed", None)
    listed = router("list", "--json")
    assert [told["id"] for told in json.loads(done(listed))["routers"]] == ["r1"]
    plain = [router("list"), router("show", "r1")]
    assert all("10.0.0.1" in done(result) for result in plain)
    assert not any("s3cret" in result.output for result in [added, shown, listed, *plain])
    assert done(router("remove", "r1")) == "router r1 removed\n"
    assert json.loads(done(router("list", "--json"))) == {"routers": []}


def test_added_again_it_is_changed(router: Router) -> None:
    done(router("add", "r1", "h.example"))
    told = done(router("add", "r1", "h.example", "--tls", "--tls-sha256", PIN, "--timeout-ms", "900", "--json"))
    assert json.loads(told) == {"id": "r1", "new": False}
    shown = json.loads(done(router("show", "r1", "--json")))
    assert (shown["port"], shown["tls"]) == (8729, True)


def test_the_password_is_asked_for_and_not_shown(router: Router) -> None:
    added = router("add", "r1", "10.0.0.1", "--user", "api", stdin="s3cret\ns3cret\n")
    assert "added" in done(added)
    assert "s3cret" not in added.output


def test_there_is_no_way_to_give_a_password_as_an_argument(router: Router) -> None:
    assert router("add", "r1", "10.0.0.1", "--user", "api", "--password", "x").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("a b", "10.0.0.1"), ("x" * 65, "10.0.0.1"), ("r1", "not a host"), ("r1", "10.0.0.1", "--port", "0"),
        ("r1", "10.0.0.1", "--tls-sha256", PIN), ("r1", "10.0.0.1", "--tls", "--tls-sha256", "AB"),
        ("r1", "10.0.0.1", "--tls", "--tls-sha256", "Z" * 64), ("r1", "10.0.0.1", "--user", ""),
        ("r1", "10.0.0.1", "--timeout-ms", "0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(router: Router, arguments: tuple[str, ...]) -> None:
    refused = router("add", *arguments)
    assert refused.exit_code == 2, refused.output
    assert json.loads(done(router("list", "--json"))) == {"routers": []}


async def test_what_a_router_says_moves_no_cursor(router: Router, conn: TrioConnection) -> None:
    evil = "x\n\x1b]0;owned\x07\x1b[2Jr2  a row that is none"
    await in_thread(lambda: done(router("add", "r1", "10.0.0.1")))
    await conn.run(
        "INSERT INTO router_states (router_id, leased_by, leased_until, identity, last_error)"
        " VALUES ('r1', gen_random_uuid(), now(), %s, %s)",
        (evil, evil),
    )

    def look() -> None:
        listed, shown = done(router("list")), done(router("show", "r1"))
        assert len(listed.splitlines()) == 1
        assert all(char == "\n" or char.isprintable() for char in listed + shown)
        assert "x\\n\\x1b]0;owned\\x07" in listed

    await in_thread(look)


async def test_who_removes_a_router_ends_what_it_gives_and_what_waits_for_it(
    router: Router, conn: TrioConnection
) -> None:
    await in_thread(lambda: done(router("add", "r1", "10.0.0.1")))
    place = Place("10.5.50.7", "AA:BB:CC:DD:EE:01")
    waiting = [
        await add(conn, Work(Kind.AUTHORIZE, name, (place,), "1", dry_run=dry_run).job("trace"))
        for name in ("r1", "r2")
        for dry_run in (False, True)
    ]
    for name in ("r1", "r2"):
        for dry_run in (False, True):
            await orders.authorize(conn, name, "1", place, device=None, duration_s=None, dry_run=dry_run)
    [running] = await claim(conn, uuid4(), {"r1": 1}, limit=1, ttl_s=60)
    assert running.id == waiting[0]

    def remove() -> None:
        assert json.loads(done(router("remove", "r1", "--json"))) == {"id": "r1", "jobs": 2, "grants": 2}

    await in_thread(remove)
    jobs = [await get(conn, job_id) for job_id in waiting]
    assert [job and job.state for job in jobs] == ["dead", "dead", "due", "due"]
    assert [job and job.last_error for job in jobs] == ["the router was removed"] * 2 + [None] * 2
    ended = await conn.fetch("SELECT router_id, end_reason FROM hotspot_grants ORDER BY router_id")
    assert [tuple(row) for row in ended] == [("r1", "removed")] * 2 + [("r2", None)] * 2
    assert await replay(conn, waiting[0])


async def test_what_the_environment_names_as_well_keeps_its_jobs(router: Router, conn: TrioConnection) -> None:
    nodes = json.dumps([{"id": "r1", "host": "10.9.9.9", "user": "u", "pass": "x"}])
    await in_thread(lambda: done(router("add", "r1", "10.0.0.1")))
    job_id = await add(conn, Work(Kind.RESTORE, "r1").job("trace"))
    await in_thread(lambda: done(router("remove", "r1", MIKROTIK_NODES=nodes)))
    view = await get(conn, job_id)
    assert view is not None
    assert view.state == "due"


def test_no_password_at_all_on_standard_input_is_refused(router: Router) -> None:
    for stdin in ("", "\n"):
        refused = router("add", "r1", "h", "--user", "u", "--password-stdin", stdin=stdin)
        assert refused.exit_code == 2
        assert "no password on standard input" in refused.stderr


def test_a_password_too_long_is_refused(router: Router) -> None:
    assert router("add", "r1", "h", "--user", "u", "--password-stdin", stdin="x" * 129 + "\n").exit_code == 2


def test_without_a_key_it_says_which_setting_is_missing(router: Router) -> None:
    refused = router("add", "r1", "h", "--user", "u", "--password-stdin", stdin="x\n", RELAY_MASTER_KEY="")
    assert refused.exit_code == 1
    assert "RELAY_MASTER_KEY" in refused.stderr


@pytest.mark.parametrize("command", [("show",), ("remove",), ("test",), ("breaker", "reset")])
def test_an_unknown_one_is_a_line_and_exit_code_1(router: Router, command: tuple[str, ...]) -> None:
    refused = router(*command, "nobody")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        f"Error: there is no router nobody{' in the database' * (command == ('remove',))}"
    ]


def test_those_of_the_environment_are_listed_too(router: Router) -> None:
    nodes = json.dumps([{"id": "env1", "host": "10.9.9.9", "user": "u", "pass": "hidden-word"}])
    listed = router("list", MIKROTIK_NODES=nodes)
    assert "env1" in done(listed)
    assert "hidden-word" not in listed.output


def test_rekey_seals_anew_and_names_what_no_key_opens(router: Router) -> None:
    done(router("add", "r1", "h", "--user", "u", "--password-stdin", stdin="x\n", RELAY_MASTER_KEY=OLD_KEY))
    refused = router("rekey")
    assert refused.exit_code == 1
    assert "r1" in refused.stderr
    assert done(router("rekey", RELAY_MASTER_KEY=f"{KEY},{OLD_KEY}")) == "1 secrets sealed anew\n"
    assert json.loads(done(router("rekey", "--json"))) == {"resealed": 0, "unopened": [], "unopenedDevices": []}


async def test_a_breaker_is_reset(router: Router, conn: TrioConnection) -> None:
    nodes = json.dumps([{"id": "env1", "host": "10.9.9.9", "user": "u", "pass": "x"}])
    await conn.run(
        "INSERT INTO router_states (router_id, leased_by, leased_until, failures, open_until)"
        " VALUES ('env1', gen_random_uuid(), now(), 9, now() + interval '1 hour')"
    )
    told: list[str] = []
    await in_thread(lambda: told.append(done(router("breaker", "reset", "env1", "--json", MIKROTIK_NODES=nodes))))
    assert json.loads(told[0]) == {"id": "env1", "state": "closed"}
    row = await conn.fetch_one("SELECT failures, open_until, resets FROM router_states")
    assert row == (0, None, 1)


async def in_thread(work: Callable[[], object]) -> None:
    """A command runs a Trio of its own."""
    await trio.to_thread.run_sync(work)


def test_trying_one_that_is_not_there_fails_with_a_line(router: Router) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done(router("add", "r1", "127.0.0.1", "--port", str(port), "--user", "u", "--password-stdin", stdin="x\n"))
    refused = router("test", "r1")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1


def test_trying_one_without_credentials_says_what_is_missing(router: Router) -> None:
    done(router("add", "r1", "127.0.0.1"))
    refused = router("test", "r1")
    assert refused.exit_code == 1
    assert "MIKROTIK_USER" in refused.stderr
