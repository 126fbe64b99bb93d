"""Children: what they say is read, they end when told, and nothing that they do keeps us."""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest
import trio

from opendesk.postgres.embedded import account, process
from opendesk.postgres.embedded.postmaster import split_command
from opendesk.postgres.embedded.process import Process, run, start
from opendesk.postgres.embedded.sockets import _take
from opendesk.postgres.errors import ServerDidNotStart

US = account.Account(os.geteuid(), os.getegid())
DEADLINE_S = 60


def shell(script: str) -> Process:
    return start(["/bin/sh", "-c", script], US, death_signal=signal.SIGKILL)


async def said_by(script: str) -> list[str]:
    child = shell(script)
    said: list[str] = []
    with trio.fail_after(DEADLINE_S):
        await child.read_output(said.append)
        assert await child.wait() == 0
    return said


async def test_every_line_is_heard_the_last_one_too() -> None:
    assert await said_by("echo one; echo two >&2; printf three") == ["one", "two", "three"]


async def test_line_without_an_end_is_cut() -> None:
    said = await said_by("head -c 100000 /dev/zero | tr '\\0' x")
    assert sum(map(len, said)) == 100_000
    assert max(map(len, said)) <= 2 * process.MAX_LINE_BYTES


async def test_only_the_last_lines_are_kept() -> None:
    child = shell("for i in $(seq 100); do echo $i; done")
    with trio.fail_after(DEADLINE_S):
        await child.read_output(str)
        await child.wait()
    assert child.last_words.split() == [str(n) for n in range(81, 101)]


async def test_child_that_ignores_a_signal_gets_the_next() -> None:
    child = shell("trap '' INT; echo ready; while :; do sleep 1; done")
    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        nursery.start_soon(child.read_output, lambda _line: ready.set())
        with trio.fail_after(DEADLINE_S):
            await ready.wait()
            assert await child.end((signal.SIGINT, 0.05), (signal.SIGKILL, DEADLINE_S))
    assert child.exit_code == -signal.SIGKILL


async def test_grandchild_that_holds_the_output_does_not_keep_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LAST_LINES_S", 0.05)
    monkeypatch.setattr(process, "_LOOK_S", 0.05)
    child = shell("sleep 300 & echo $!")
    said: list[str] = []
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.read_output, said.append)
            assert await child.wait() == 0
            await child.close()
    os.kill(int(said[0]), signal.SIGKILL)


async def test_failed_program_is_told_with_its_last_words() -> None:
    with pytest.raises(ServerDidNotStart, match=r"sh failed with exit code 3: no room"):
        await run(["/bin/sh", "-c", "echo no room; exit 3"], US, timeout_s=DEADLINE_S)


async def test_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ServerDidNotStart, match="sleep failed"):
        await run(["/bin/sleep", "300"], US, timeout_s=0.05)


async def test_program_that_is_not_there_is_told() -> None:
    with pytest.raises(ServerDidNotStart, match=r"/no/such"):
        await run(["/no/such"], US, timeout_s=DEADLINE_S)


async def test_cancelled_run_ends_its_program() -> None:
    with trio.move_on_after(0.05) as scope:
        await run(["/bin/sleep", "300"], US, timeout_s=DEADLINE_S)
    assert scope.cancelled_caught


async def test_input_reaches_the_program() -> None:
    await run(["/bin/sh", "-c", 'read line; test "$line" = hello'], US, timeout_s=DEADLINE_S, stdin=b"hello\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_child_whose_parent_was_gone_before_it_came_up_does_not_run() -> None:
    child = Path(process.__file__).with_name("child.py")
    numbers = [str(number) for number in (1, int(signal.SIGKILL), US.uid, US.gid)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", child, *numbers, "/bin/echo", "ran"], check=False, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert (done.stdout, done.stderr.strip()) == ("", "the parent is gone already")


def test_command_is_read_from_ps_with_blanks_in_its_paths() -> None:
    shown = "/opt/my server/bin/postgres -D /Users/me/Application Support/opendesk/postgres --port=5432 --x=1\n"
    assert split_command(shown) == ["/opt/my server/bin/postgres", "/Users/me/Application Support/opendesk/postgres"]
    assert split_command("") == []


def test_short_folder_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch(mode=0o700)
    (tmp_path / "left").mkdir(mode=0o700)
    taken = [name for name in ("open", "link", "file", "left", "new") if _take(tmp_path / name, US)]
    assert taken == ["left", "new"]
