"""The commands, with a daemon beside them and without: they teach, they work, and what goes wrong is one clear line."""

from collections.abc import Callable
from functools import partial
import json
import os
from pathlib import Path
import re
import socket
import sys
from typing import Any, Final

import click
from click.testing import CliRunner
import psycopg
from psycopg.conninfo import make_conninfo
import pytest
import trio

from opendesk.cli import COMMANDS, group
from opendesk.cli.common import plain_failures
from opendesk.postgres.driver import TrioConnection
from tests.system.commands import Done, opendesk
from tests.system.conftest import Start
from tests.system.daemon import COMMAND, database_of, environment, url_of
from tests.system.people import PASSWORD, good, register, rent, settle_in

SUBCOMMANDS: Final = (
    *((name,) for name in COMMANDS),
    ("admin", "create"),
    ("admin", "ban"),
    ("admin", "unban"),
    ("wallet", "credit"),
    ("wallet", "debit"),
    ("ledger", "verify"),
)


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=" ".join)
def test_help_teaches(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(group, [*command, "--help"], prog_name="opendesk")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: opendesk {' '.join(command)}")
    assert len(done.stdout.splitlines()) > 4


def test_without_a_command_all_are_listed() -> None:
    done = CliRunner().invoke(group, [])
    assert done.exit_code == 2
    assert all(re.search(rf"^  {name} +\S", done.output, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "nonsense"],
        ["--nonsense"],
        ["admin", "ban"],
        ["admin", "create", "a@b.c\udce4", "--password-stdin"],
        ["admin", "create"],
        ["admin", "create", "not-an-address", "--password-stdin"],
        ["admin", "create", "a@b.c", "--password-stdin", "--username", "ab"],
        ["admin", "create", "a@b.c", "--password-stdin", "--username", "x" * 31],
        ["admin", "ban", "\udcff"],
        ["admin", "unban", "\udcff"],
        ["admin", "create", "a@b.c", "--password-stdin", "--username", "abc\udcff"],
        ["wallet", "credit", "\udcff", "5"],
        ["wallet", "debit", "\udcff", "5"],
        ["wallet", "debit", "a@b.c", "5", "--reason", "\udcff"],
        ["migrate", "--grant", "\udcff"],
        ["migrate", "--grant", ""],
        ["migrate", "--grant", "public"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seconds", "inf"],
        ["wallet", "credit", "a@b.c"],
        ["wallet", "credit", "a@b.c", "1.5"],
        ["wallet", "credit", "a@b.c", "0"],
        ["wallet", "credit", "a@b.c", "-5"],
        ["wallet", "debit", "a@b.c", "10000000000000"],
        ["wallet", "credit", "a@b.c", "5", "--reason", ""],
        ["ledger", "nonsense"],
        ["--env-file", "/nonsense", "settings"],
    ],
    ids=" ".join,
)
def test_what_does_not_fit_is_refused_with_code_2(tmp_path: Path, arguments: list[str]) -> None:
    environ = environment({"OPENDESK_DATA_DIR": str(tmp_path)})
    done = CliRunner().invoke(group, arguments, input=PASSWORD, env=environ)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(r"^(Error: .|/nonsense: )", done.stderr, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "migrate", "settings", "ledger verify", "admin ban a@b.c"])
def test_faulty_settings_are_all_told_with_code_2(command: str) -> None:
    done = CliRunner().invoke(group, command.split(), env=environment({"PORT": "x", "CURRENCY": "y"}))
    assert (done.exit_code, done.stdout) == (2, "")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["PORT", "CURRENCY"]


@pytest.mark.parametrize("command", ["serve", "migrate", "ledger verify"])
async def test_a_database_url_that_does_not_parse_is_a_faulty_setting(folder: Path, command: str) -> None:
    url = "postgresql://boss:TOPSECRET pw@127.0.0.1:1/od"
    done = await opendesk(*command.split(), data_dir=folder, DATABASE_URL=url, PORT="x")
    assert (done.code, done.out, "TOPSECRET" in done.err) == (2, "", False)
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["PORT", "DATABASE_URL"]


def test_what_psycopg_cannot_read_to_connect_by_is_one_line_without_it() -> None:
    said = pytest.raises(click.ClickException, match="the database can't be connected to: DATABASE_URL")
    with said as caught, plain_failures():
        make_conninfo("postgresql://boss:TOPSECRET pw@127.0.0.1:1/od", sslmode="require")
    assert "TOPSECRET" not in caught.value.message


async def test_a_statement_of_ours_that_is_wrong_keeps_its_traceback(conn: TrioConnection) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="placeholder"), plain_failures():
        await conn.execute("SELECT %s", (1, 2))


@pytest.mark.parametrize("command", ["serve", "migrate", "ledger verify", "admin ban a@b.c"])
async def test_a_doubtful_setting_is_told_once(folder: Path, command: str) -> None:
    nowhere = "postgresql://u@127.0.0.1:1/d"
    done = await opendesk(*command.split(), data_dir=folder, JWT_SECRET="short", DATABASE_URL=nowhere)
    told, refusal = done.err.splitlines()
    assert "JWT_SECRET is shorter than" in told
    assert refusal.startswith("Error: the database can't be used")


# ---- at work: beside a daemon, without one, on a server of one's own


async def test_commands_work_beside_a_daemon_and_another_daemon_does_not(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    place: dict[str, Any] = {"data_dir": data_dir}
    async with trio.open_nursery() as nursery:
        # It waits some seconds for the one before it to end.
        refused = f"process {daemon.process.pid}.*OPENDESK_DATA_DIR"
        nursery.start_soon(partial(fails_in_one_line, refused, "serve", **place))
        await work_beside_a_daemon(place)
    good(await daemon.http.get("/health/ready"))


async def work_beside_a_daemon(place: dict[str, Any]) -> None:
    await create_credit_and_prove(place)
    again = await create_admin("Boss@example.org", place)
    assert (again.code, again.out, "is a user with this e-mail" in again.refusal) == (1, "", True)
    namesake = await create_admin("boss@example.com", place)
    assert (namesake.code, "--username" in namesake.refusal) == (1, True)
    debit = await opendesk("wallet", "debit", "boss@example.org", "200", **place)
    assert (debit.code, "balance 300 BRL" in debit.out) == (0, True)
    over = await opendesk("wallet", "debit", "boss@example.org", "301", **place)
    assert (over.code, over.out, "wallet has less" in over.refusal) == (1, "", True)
    unknown = await opendesk("wallet", "credit", "nobody@example.org", "1", **place)
    assert (unknown.code, unknown.refusal) == (1, "Error: there is no user nobody@example.org")
    done = await opendesk("migrate", **place)
    assert (done.code, done.out) == (0, "The database is up to date.\n")


async def test_commands_work_without_a_daemon(data_dir: Path) -> None:
    await create_credit_and_prove({"data_dir": data_dir})
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_commands_work_on_a_server_of_ones_own(folder: Path, conninfo: str) -> None:
    await create_credit_and_prove({"data_dir": folder / "unused", "DATABASE_URL": url_of(conninfo)})
    assert not (folder / "unused").exists()


async def create_credit_and_prove(place: dict[str, Any]) -> None:
    made = await create_admin("boss@example.org", place)
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("admin boss@example.org (")
    credit = await opendesk("wallet", "credit", "boss@example.org", "500", "--json", **place)
    assert json.loads(credit.out)["balance"] == 500
    proof = await opendesk("ledger", "verify", **place)
    assert (proof.code, "1 wallets with 500 in all" in proof.out, "WRONG" in proof.out) == (0, True, False)


async def create_admin(email: str, place: dict[str, Any]) -> Done:
    return await opendesk("admin", "create", email, "--password-stdin", stdin=b"correct horse\n", **place)


async def test_ban_ends_tokens_at_once_and_unban_lets_in_again(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    person = await register(daemon.http)
    login = {"email": person.email, "password": PASSWORD}
    good(await person.get("/auth/me"))
    done = await opendesk("admin", "ban", person.email.upper(), data_dir=data_dir)
    assert (done.code, done.err) == (0, "")
    assert (await person.get("/auth/me")).status_code == 401
    assert (await daemon.http.post("/auth/login", json=login)).status_code == 401
    # What they own can still be paid out.
    assert (await opendesk("wallet", "credit", person.email, "5", data_dir=data_dir)).code == 0
    assert (await opendesk("admin", "unban", person.email, data_dir=data_dir)).code == 0
    assert (await person.get("/auth/me")).status_code == 401
    good(await daemon.http.post("/auth/login", json=login))
    unknown = await opendesk("admin", "ban", "nobody@example.org", data_dir=data_dir)
    assert unknown.refusal == "Error: there is no user nobody@example.org"


async def test_an_admin_made_here_is_one_to_the_api(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    await opendesk(
        "admin", "create", "boss@example.org", "--password-stdin", data_dir=data_dir, stdin=PASSWORD.encode()
    )
    login = {"email": "boss@example.org", "password": PASSWORD}
    token = good(await daemon.http.post("/auth/login", json=login))["token"]
    body = {"type": "CREDIT", "amount": 5, "reason": "TOP_UP"}
    person = await register(daemon.http)
    good(await daemon.http.post(f"/wallets/{person.id}/tx", json=body, headers={"Authorization": f"Bearer {token}"}))
    assert await person.balance() == 5


# What is done behind the triggers' back, and what of it the proof says.
TAMPERED: Final = {
    "UPDATE accounts SET balance = balance + 7 WHERE balance > 0": "every balance",
    "UPDATE entries SET amount = amount + 1 WHERE reason = 'TOP_UP' AND amount > 0": "every transfer sums to zero",
    "DELETE FROM entries WHERE reason = 'SESSION_HOLD'": "escrow",
    "UPDATE sessions SET host_payout = host_payout - 1, retained = retained + 1 WHERE status = 'ENDED'": "settlement was paid",
    "INSERT INTO users (email, username, role, password_hash) VALUES ('a@b.c', 'abc', 'CLIENT', 'x')": "every user has a wallet",
}


async def test_books_that_were_tampered_with_are_found_out(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
        first = await rent(people.client, people.pc_id)
        good(await people.client.post(f"/sessions/{first['id']}/end"))
        await rent(people.client, people.pc_id)
        await conn.execute("SET session_replication_role = replica")
        for statement in TAMPERED:
            await conn.execute(statement.encode())
    done = await opendesk("ledger", "verify", "--json", data_dir=data_dir)
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert found["ok"] is False
    wrong = [check["states"] for check in found["checks"] if check["faults"]]
    assert [each for each in TAMPERED.values() if not any(each in states for states in wrong)] == []
    shown = await opendesk("ledger", "verify", data_dir=data_dir)
    assert (shown.code, [line[6:] for line in shown.out.splitlines() if line.startswith("WRONG ")]) == (1, wrong)


# ---- what goes wrong


# Its standard output is the descriptor that comes first (a shell's `| true` would get the test's signals).
WITH_STDOUT: Final = "import os, sys; os.dup2(int(sys.argv[1]), 1); os.execv(sys.argv[2], sys.argv[2:])"


def pipe_that_nobody_reads() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    if sys.platform != "linux":
        pytest.skip("only Linux has /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("stdout", [pipe_that_nobody_reads, full_disk])
async def test_a_daemon_whose_welcome_is_lost_serves(start: Start, data_dir: Path, stdout: Callable[[], int]) -> None:
    out = stdout()
    command = (sys.executable, "-c", WITH_STDOUT, str(out), *COMMAND, "serve")
    daemon = await start(data_dir, command=command, pass_fds=(out,))
    os.close(out)
    good(await daemon.http.get("/health/ready"))
    assert await daemon.stop() == 0


async def test_a_daemon_without_a_standard_output_serves(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir, command=("sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "serve"))
    good(await daemon.http.get("/health/ready"))
    assert await daemon.stop() == 0


async def fails_in_one_line(expected: str, *command: str, **place: Any) -> None:
    done = await opendesk(*command, **place)
    assert (done.code, done.out) == (1, ""), done
    assert done.refusal.startswith("Error: ")
    assert re.search(expected, done.refusal), done.refusal


EVERY: Final = (["serve"], ["ledger", "verify"])


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
async def test_a_server_that_nobody_listens_at_is_one_line(folder: Path, command: list[str]) -> None:
    with socket.socket() as kept:
        # Bound, so that nobody else gets the port, and never listened at.
        kept.bind(("127.0.0.1", 0))
        url = f"postgresql://u:hidden@127.0.0.1:{kept.getsockname()[1]}/d"
        await fails_in_one_line("the database can't be used: .*refused", *command, data_dir=folder, DATABASE_URL=url)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
async def test_a_database_that_is_newer_is_one_line(
    folder: Path, conninfo: str, conn: TrioConnection, command: list[str]
) -> None:
    await conn.execute(
        "INSERT INTO migrations (version, name, checksum) SELECT max(version) + 1, 'later', '' FROM migrations"
    )
    await fails_in_one_line(
        "which this program does not know", *command, data_dir=folder, DATABASE_URL=url_of(conninfo)
    )


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
async def test_a_schema_that_is_not_ours_is_one_line(folder: Path, empty_conninfo: str, command: list[str]) -> None:
    with psycopg.connect(empty_conninfo) as conn:
        conn.execute("CREATE SCHEMA opendesk CREATE TABLE things (id int)")
    place = {"data_dir": folder, "DATABASE_URL": url_of(empty_conninfo)}
    await fails_in_one_line("a schema named opendesk that OpenDesk did not make", *command, **place)


async def test_a_migration_that_is_missing_is_told_and_then_made(folder: Path, empty_conninfo: str) -> None:
    place: dict[str, Any] = {"data_dir": folder, "DATABASE_URL": url_of(empty_conninfo)}
    check = await opendesk("migrate", "--check", **place)
    assert (check.code, check.out.splitlines()[0]) == (1, "missing 0001_rental")
    done = await opendesk("migrate", **place)
    assert (done.code, done.out.splitlines()[0]) == (0, "applied 0001_rental")
    assert (await opendesk("migrate", "--check", **place)).code == 0


async def test_a_port_that_is_taken_is_one_line(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = await opendesk("serve", data_dir=data_dir, PORT=port)
    assert done.code == 1
    assert done.out == ""
    *log, last = done.err.splitlines()
    assert last == f"Error: can't listen at 127.0.0.1:{port} (BIND, PORT): Address already in use"
    told = [json.loads(line) for line in log]
    assert [line["event"] for line in told if line["level"] != "info"] == ["network.api_off"]  # there is no RELAY_TOKEN
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"BIND": "192.0.2.1"}, r"can't listen at 192\.0\.2\.1:0 \(BIND, PORT\)"),
        ({"BIND": "unix:/nonsense/door"}, "can't listen at unix:/nonsense/door"),
        ({"TLS_CERT": "/nonsense", "TLS_KEY": "/nonsense"}, "TLS_CERT /nonsense"),
        ({"OPENDESK_DATA_DIR": "/dev/null/data"}, "/dev/null/data"),
        ({"OPENDESK_DATA_DIR": "/proc/data"}, "/proc/data"),
    ],
)
async def test_a_start_that_cannot_be_is_one_line(data_dir: Path, settings: dict[str, str], expected: str) -> None:
    given: dict[str, Any] = {"OPENDESK_DATA_DIR": str(data_dir), **settings}
    done = await opendesk("serve", **given)
    assert (done.code, done.out) == (1, "")
    assert re.search(f"^Error: .*{expected}", done.err.splitlines()[-1])
    assert "Traceback" not in done.err
