"""docs/validation.md calls all that can be called, and `scripts/validate` does what stands there and notices what is otherwise."""

from functools import partial
import json
import os
from pathlib import Path
import re
import subprocess
from typing import Any, Final

import pytest
import trio

from opendesk.settings import load
from scripts.validation import page, world
from scripts.validation.__main__ import main
from scripts.validation.matching import complaints
from scripts.validation.page import Step, Unreadable
from scripts.validation.walk import Walked, walk
from tests.system.daemon import PATIENCE_S, environment

ROOT: Final = Path(__file__).parents[2]
STEPS, SETTINGS = page.read()


def test_every_call_of_the_document_is_in_the_walk() -> None:
    paths = json.loads((ROOT / "schemas" / "openapi.json").read_text())["paths"]
    published = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    walked = {call for step in STEPS for call in step.calls}
    assert {call for call in published if not any(is_of(call, each) for each in walked)} == set()
    assert {each for each in walked if not any(is_of(call, each) for call in published)} == set()


def is_of(call: tuple[str, str], walked: tuple[str, str]) -> bool:
    """A parameter of a path is what the shell puts in."""
    pattern = re.sub(r"\\{\w+\\}", r"[^/]+", re.escape(call[1]))
    return call[0] == walked[0] and re.fullmatch(pattern, walked[1]) is not None


async def test_the_walk_goes_as_it_is_written() -> None:
    with trio.fail_after(2 * PATIENCE_S):
        ran: Any = await trio.run_process(
            [ROOT / "scripts" / "validate", "--json"],
            env={**environment({}), "PYTHON": os.environ.get("PYTHON", "")},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    told = json.loads(ran.stdout)
    assert [step for step in told["walked"] if not step["ok"]] == []
    assert (told["ok"], len(told["walked"]), ran.returncode) == (True, len(STEPS), 0)


def test_the_settings_are_taken_as_they_stand(tmp_path: Path) -> None:
    lines = [f"{name}={value}\n" for name, value in SETTINGS.items()]
    (tmp_path / "validate.env").write_text("".join(lines))
    settings = load({}, env_file=tmp_path / "validate.env")
    assert settings.relay_dry_run
    assert not settings.warnings
    assert {name for name in world.WANTED if not SETTINGS.get(name)} == set()


# ---- what it notices


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (['200 {"ok": true, "id": "…"}'], '200 {"id":"x","ok":true,"more":1}\n'),
        (['200 {"items": [{"a": 1}, "…"]}'], '200 {"items":[{"a":1},{"a":2}]}'),
        (['200 {"detail": "it is more than …"}'], '200 {"detail":"it is more than 5 ms"}'),
        (["204"], "204 \n"),
        (["opendesk_jobs …", "…"], 'opendesk_jobs{a="b"} 0.0'.replace("{", " {") + "\nand\nmore\n"),
        ([], "\n\n"),
    ],
    ids=["members", "a list's beginning", "text", "no body", "and so on", "nothing"],
)
def test_what_is_as_shown_is_not_complained_of(expected: list[str], printed: str) -> None:
    assert complaints(expected, printed) == []


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (['200 {"ok": true}'], '200 {"ok":false}'),
        (['200 {"ok": true}'], '200 {"ok":1}'),
        (['200 {"ok": true}'], '202 {"ok":true}'),
        (['200 {"id": "…"}'], '200 {"id":null}'),
        (['200 {"id": "…"}'], "200 {}"),
        (['200 {"items": []}'], '200 {"items":[1]}'),
        (['200 {"items": ["…"]}'], '200 {"items":[]}'),
        (['200 {"ok": true}'], "curl: (7) Failed to connect"),
        (["204"], "204\n204"),
        ([], "sh: 1: Syntax error"),
    ],
    ids=[
        "another value",
        "another type",
        "another status",
        "null",
        "missing",
        "more",
        "fewer",
        "no JSON",
        "a line more",
        "a complaint",
    ],
)
def test_what_is_otherwise_is(expected: list[str], printed: str) -> None:
    assert complaints(expected, printed) != []


async def walked_through(tmp_path: Path, *steps: Step) -> list[Walked]:
    told: list[Walked] = []
    found = await walk(steps, environment({}), tmp_path / "walk.sh", told.append)
    assert found == told
    return found


async def test_a_step_has_what_the_one_before_it_has_set_and_a_failed_one_is_not_the_end(tmp_path: Path) -> None:
    found = await walked_through(
        tmp_path,
        Step(1, "sets", "A=5\necho $A", ("5",)),
        Step(2, "fails", "false", ("6",)),
        Step(3, "has", "echo $A; echo err >&2", ("5", "err")),
    )
    assert [each.ok for each in found] == [True, False, True]
    assert found[1].complaints[-1] == "it ended with exit code 1"


async def test_a_shell_that_ends_ends_the_walk(tmp_path: Path) -> None:
    found = await walked_through(tmp_path, Step(1, "ends", "echo $NOBODY_HAS_SET_IT", ()), Step(2, "never", "", ()))
    assert [each.ok for each in found] == [False]
    assert "NOBODY_HAS_SET_IT" in found[0].complaints[0]


def test_a_page_without_a_block_or_without_settings_is_not_walked() -> None:
    for text in (
        "\n## The walk\n\n### A title\n\nand no block\n",
        "\n## The walk\n\n### A\n\n```sh\n```\n\n```sh\n```\n",
    ):
        with pytest.raises(Unreadable, match="blocks of shell"):
            page.steps(text)
    with pytest.raises(Unreadable, match="no settings"):
        page.settings("")


# ---- where it walks


async def said_at(answer: bytes, nursery: trio.Nursery, **settings: str) -> str:
    """What is said of walking at a daemon that gives this answer to everything."""

    async def once(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(answer)}\r\n\r\n"
            await stream.send_all(head.encode() + answer)

    listeners = await nursery.start(partial(trio.serve_tcp, once, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(world.CannotWalk) as refused:
        async with world.running({**SETTINGS, **settings}, f"http://127.0.0.1:{port}"):
            pass
    nursery.cancel_scope.cancel()
    return str(refused.value)


async def test_a_daemon_that_does_it_for_real_is_refused(nursery: trio.Nursery) -> None:
    assert "is not in a dry run" in await said_at(b'{"dryRun": false}', nursery)


async def test_what_is_no_daemon_is_refused(nursery: trio.Nursery) -> None:
    assert "is no OpenDesk that this relay token opens" in await said_at(b"<html>", nursery)


async def test_settings_that_are_missing_are_told() -> None:
    with pytest.raises(world.CannotWalk, match="RELAY_API_SECRET"):
        async with world.running({**SETTINGS, "RELAY_API_SECRET": ""}, "http://127.0.0.1:1"):
            pass


async def test_nobody_there_is_told() -> None:
    with pytest.raises(world.CannotWalk, match="the daemon does not answer"):
        async with world.running(SETTINGS, "http://127.0.0.1:1"):
            pass


def test_without_curl_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        main.main(args=[], standalone_mode=False)
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err
        == "opendesk: curl and openssl and python3: not installed, and the page's blocks call it\n"
    )
