"""Every command takes --json: what it prints then is JSON, and so is what goes wrong. Every command teaches by an example."""

from collections.abc import Iterator
import json
from pathlib import Path
import shlex
from typing import Any, Final

import click
from click.testing import CliRunner
import pytest

from opendesk.cli import COMMANDS, group
from opendesk.cli.examples import EXAMPLES
from opendesk.cli.failing import asks_for_json
from tests.system.commands import opendesk
from tests.system.daemon import environment

NOWHERE: Final = "postgresql://u@127.0.0.1:1/d"
ID: Final = "0199f0c2-7a4e-7cc3-98c4-dc0c0c07398f"
KEY: Final = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

# How each is called whose database is away.
CALLS: Final[dict[str, list[str]]] = {
    "migrate": [],
    "admin create": ["a@b.example", "--password-stdin"],
    "admin ban": ["a@b.example"],
    "admin unban": ["a@b.example"],
    "wallet credit": ["a@b.example", "5"],
    "wallet debit": ["a@b.example", "5"],
    "ledger verify": [],
    "router add": ["R1", "127.0.0.1"],
    "router list": [],
    "router show": ["R1"],
    "router remove": ["R1"],
    "router test": ["R1"],
    "router rekey": [],
    "router breaker reset": ["R1"],
    "tunnel list": [],
    "tunnel plan": [],
    "tunnel apply": [],
    "tunnel rotate": ["R1", KEY],
    "tunnel script": ["R1"],
    "jobs list": [],
    "jobs show": [ID],
    "jobs replay": [ID],
    "jobs discard": [ID],
    "events list": [],
    "events show": ["evt"],
    "why": ["evt"],
}


def leaves(command: click.Command, name: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(name), command
        return
    context = click.Context(command)
    for sub_name in command.list_commands(context):
        sub = command.get_command(context, sub_name)
        assert sub is not None
        yield from leaves(sub, (*name, sub_name))


LEAVES: Final = dict(leaves(group))


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_json(name: str) -> None:
    assert [one.opts for one in LEAVES[name].params if one.name == "as_json"] == [["--json"]]


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_teaches_by_an_example(name: str) -> None:
    done = CliRunner().invoke(group, [*name.split(), "--help"], prog_name="opendesk")
    assert done.exit_code == 0
    assert "xample:" in done.stdout
    assert f"opendesk {name.removesuffix(' list')}" in done.stdout.partition("xample:")[2]


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines if line.startswith("opendesk")])
def test_an_example_is_understood(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As far as parsing goes: nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    command: click.Command = group
    words = shlex.split(line.partition(" <")[0])[1:]
    if words[0] == "--env-file":
        words = words[2:]
    context = click.Context(group)
    while isinstance(command, click.Group) and words and (sub := command.get_command(context, words[0])) is not None:
        command, words = sub, words[1:]
    command.make_context("x", words)


@pytest.mark.parametrize("name", [*CALLS, "doctor", "settings"])
def test_nobody_is_told_anything_but_json_of_a_failure(name: str, tmp_path: Path) -> None:
    """An expected one, with a database that is away: exit code 1, and what is wrong as the last line on standard error."""
    environ = environment(
        {"OPENDESK_DATA_DIR": str(tmp_path), "DATABASE_URL": NOWHERE, "WG_INTERFACE": "wg-none", "JWT_SECRET": "short"}
    )
    done = CliRunner().invoke(
        group, [*name.split(), *CALLS.get(name, []), "--json"], input="correct horse", env=environ
    )
    if name in {"doctor", "settings"}:  # which have found something all the same
        assert (done.exit_code, done.stderr) == (1 if name == "doctor" else 0, "")
        assert json.loads(done.stdout)
        return
    assert (done.exit_code, done.stdout) == (1, ""), done.output
    *_, last = told = lines(done.stderr)
    assert "JWT_SECRET" in str(told[0])
    assert set(last["error"]) == {"code", "message"}


async def test_a_daemon_that_cannot_start_ends_with_json(tmp_path: Path) -> None:
    done = await opendesk("serve", "--json", data_dir=tmp_path, DATABASE_URL=NOWHERE)
    assert (done.code, done.out) == (1, "")
    assert json.loads(done.err.splitlines()[-1])["error"]["code"] == "DATABASE"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense", "--json"], "No such command"),
        (["--json"], "No such option"),
        (["wallet", "--json"], "No such option"),
        (["wallet", "credit", "--json"], "Missing argument"),
        (["wallet", "credit", "a@b.example", "-5", "--json"], "No such option"),
        (["jobs", "list", "--state", "nonsense", "--json"], "Invalid value"),
        (["completion", "--json", "tcsh"], "Invalid value"),
        (["admin", "create", "a@b.example", "--json"], "--password-stdin"),
        (["router", "add", "R1", "127.0.0.1", "--user", "u", "--json"], "--password-stdin"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_understood_is_json_with_code_2(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(group, arguments, env=environment({}))
    assert (done.exit_code, done.stdout) == (2, "")
    (told,) = lines(done.stderr)
    assert told["error"]["code"] == "USAGE"
    assert message in told["error"]["message"]


@pytest.mark.parametrize("name", ["serve", "migrate", "ledger verify"])
def test_faulty_settings_are_one_error_with_all_faults(name: str) -> None:
    done = CliRunner().invoke(group, [*name.split(), "--json"], env=environment({"PORT": "x", "CURRENCY": "y"}))
    assert (done.exit_code, done.stdout) == (2, "")
    (told,) = lines(done.stderr)
    assert told["error"]["code"] == "SETTINGS"
    assert [fault.split(":")[0] for fault in told["error"]["faults"]] == ["PORT", "CURRENCY"]


def test_without_json_a_failure_is_a_line_for_people(tmp_path: Path) -> None:
    environ = environment({"OPENDESK_DATA_DIR": str(tmp_path), "DATABASE_URL": NOWHERE})
    done = CliRunner().invoke(group, ["ledger", "verify"], env=environ)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the database can't be used")


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [(["why", "x", "--json"], True), (["why", "x"], False), (["why", "--", "--json"], False), ([], False)],
    ids=["an option", "without", "after all options", "nothing"],
)
def test_only_the_option_asks_for_json(arguments: list[str], *, asks: bool) -> None:
    assert asks_for_json(arguments) is asks


def test_a_command_is_listed_for_each_module() -> None:
    assert set(COMMANDS) == {name.split()[0] for name in LEAVES}
