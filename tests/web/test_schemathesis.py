"""Schemathesis against the daemon: it reads the document, makes up requests that fit and requests that don't, and looks for lies."""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
import os
from pathlib import Path
import sys
from typing import Final

import pytest
import trio

from tests.system.daemon import launch, url_of
from tests.web.site import INTERNAL_TOKEN, SETTINGS, serving_site

HERE: Final = Path(__file__).parent
MONEY: Final = 10**12

# Made-up requests for each call, where they are made up at random. With a seed, so that a run tells of the change and not of luck…
USUAL: Final = ("--max-examples", "4", "--seed", "1")
# …and without one, for luck.
LONG: Final = ("--max-examples", "100")
# `coverage` makes up thousands of requests. Calls that only programs with the relay's token can make have their turn in long runs, besides
# what test_api_hostile.py sends to them in every one.
QUICK: Final = """
[[operations]]
include-path-regex = "^/(devices|relay|mikrotik|internal)"

[operations.phases.coverage]
enabled = false
"""
# What registering a router and giving out its script take.
TUNNELS: Final = {
    "RELAY_DRY_RUN": "1",
    "RELAY_INTERNAL_TOKEN": INTERNAL_TOKEN,
    "RELAY_MASTER_KEY": b64encode(b"k" * 32).decode(),
    "WG_VPS_PUBLIC_KEY": b64encode(b"v" * 32).decode(),
    "WG_VPS_ENDPOINT": "vps.example:51820",
    "RELAY_TECH_PASS": "of the technical user",
}
# What a run that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 600
PATIENCE_LONG_S: Final = 3600


@asynccontextmanager
async def world(conninfo: str, folder: Path, role: str) -> AsyncIterator[dict[str, str]]:
    """A daemon with somebody in this role, and somebody else's PC. What Schemathesis is told of it, in its environment."""
    async with serving_site(conninfo) as site:
        pc = await site.pc(await site.host())
        person = await site.user(role, money=MONEY)
    # Many of its calls come without the relay's token, as they should. There is neither an interface nor a router: a dry run takes the same way.
    settings = {**SETTINGS, **TUNNELS, "DATABASE_URL": url_of(conninfo), "RELAY_AUTH_FAIL_LIMIT": "1000000"}
    async with trio.open_nursery() as nursery:
        daemon = await (await launch(nursery, folder, settings)).ready()
        try:
            yield {
                "OPENDESK_TEST_URL": daemon.url,
                "OPENDESK_TEST_DATABASE": conninfo,
                "OPENDESK_TEST_PERSON": str(person.id),
                "OPENDESK_TEST_PC": pc,
            }
        finally:
            await daemon.close()
            print(*(line for line in daemon.log if line["level"] != "info"), sep="\n")  # noqa: T201  # as below
    assert daemon.faults() == []


async def findings(told: Mapping[str, str], folder: Path, options: tuple[str, ...], more: str) -> tuple[int, str]:
    """The exit code, and what is said."""
    config = folder / "schemathesis.toml"
    config.write_text((HERE / "schemathesis.toml").read_text() + more)
    st = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    where = [f"{told['OPENDESK_TEST_URL']}/openapi.json", "--no-color", "--checks", "all", *options]
    python = {"PYTHONPATH": str(HERE.parents[1]), "SCHEMATHESIS_HOOKS": "tests.web.schemathesis_world"}
    environ = {**os.environ, **told, **python}
    done = await trio.run_process(
        [*st, *where], env=environ, cwd=folder, capture_stdout=True, capture_stderr=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()


async def find_nothing(conninfo: str, folder: Path, role: str, options: tuple[str, ...], more: str = "") -> None:
    async with world(conninfo, folder, role) as told:
        code, said = await findings(told, folder, options, more)
        print(said)  # noqa: T201  # pytest shows it if the test fails
        assert code == 0
        assert "1 failure" not in said


@pytest.mark.parametrize(
    ("role", "phases"),
    # What `coverage` makes up depends on the document alone, and an admin may do all that is in it. The others have their turn in long runs.
    [("ADMIN", "examples,coverage,fuzzing,stateful")],
)
async def test_schemathesis_finds_nothing(conninfo: str, tmp_path: Path, role: str, phases: str) -> None:
    with trio.fail_after(PATIENCE_S):
        await find_nothing(conninfo, tmp_path, role, (*USUAL, "--phases", phases), QUICK)


@pytest.mark.long
@pytest.mark.parametrize("role", ["ADMIN", "HOST", "CLIENT"])
async def test_schemathesis_finds_nothing_in_long(conninfo: str, tmp_path: Path, role: str) -> None:
    with trio.fail_after(PATIENCE_LONG_S):
        await find_nothing(conninfo, tmp_path, role, LONG)
