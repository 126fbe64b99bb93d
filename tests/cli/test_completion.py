"""Completion in the shells themselves: whoever presses the key gets commands, options and values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
from typing import Final

import click
from click import shell_completion
from click.testing import CliRunner
import psycopg
import pytest
import trio

from opendesk.cli import COMMANDS, group, outline
from opendesk.cli.completion import SHELLS
from opendesk.postgres.embedded.lifetime import embedded_server
from tests.system.daemon import environment, url_of

# What a shell is given that hangs.
PATIENCE_S: Final = 60

NODES: Final = json.dumps(
    [{"id": name, "host": "127.0.0.1", "user": "u", "pass": "p"} for name in ("CAFE-01", "CAFE-02", "PRAIA-01")]
)

# What is typed up to the key, and some of what is offered then.
TYPED: Final = {
    "commands": ("opendesk ", {"serve", "doctor", "why"}),
    "options": ("opendesk jobs list --", {"--state", "--lane", "--limit", "--json"}),
    "values": ("opendesk jobs list --state d", {"due", "done", "dead"}),
    "routers of the settings": ("opendesk router show CAFE", {"CAFE-01", "CAFE-02"}),
}

# What somebody typed is each argument; a word ends with the blank behind it.
BASH: Final = """
eval "$(opendesk completion bash)"
complete -p opendesk > /dev/null || exit 1
for COMP_LINE in "$@"; do
    read -ra COMP_WORDS <<< "$COMP_LINE"; [[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMP_POINT=${#COMP_LINE}; COMPREPLY=()
    _opendesk_completion opendesk
    printf '%s\\n' "${COMPREPLY[@]}"
done
"""
FISH: Final = "opendesk completion fish | source; complete --do-complete $argv[1]"
# zsh completes only in its line editor: one is run in a pseudo-terminal, with what it offers written to a file.
ZSH: Final = """
zmodload zsh/zpty
zpty line 'zsh -f -i'
zpty -w line 'PS1=; autoload -Uz compinit && compinit -u -D; eval "$(opendesk completion zsh)"'
zpty -w line 'compadd() { print -rl -- $completions >> '"$2"'; }'
zpty -w line '_describe() { print -rl -- $completions_with_descriptions >> '"$2"'; }'
zpty -w line 'print ready > '"$2.ready"
for i in {1..600}; do [[ -s $2.ready ]] && break; sleep 0.05; done
zpty -n -w line "$1"$'\\t'
for i in {1..600}; do [[ -s $2 ]] && break; sleep 0.05; done
zpty -d line
cat $2
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where `opendesk` is a program of the PATH."""
    program = tmp_path / "bin" / "opendesk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m opendesk "$@"\n')
    program.chmod(0o755)
    given = environment({"MIKROTIK_NODES": NODES, "OPENDESK_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)})
    return {**given, "PATH": f"{program.parent}:{given['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"COMPLETION IN {name.upper()} IS NOT TESTED: IT IS NOT INSTALLED HERE")
    return found


def offered(command: list[str], environ: dict[str, str]) -> set[str]:
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stderr, done.stderr
    return {line.split("\t")[0].split(":")[0].strip() for line in done.stdout.splitlines()}


def test_bash_completes(environ: dict[str, str]) -> None:
    found = offered([shell("bash"), "-c", BASH, "bash", *(typed for typed, _ in TYPED.values())], environ)
    assert {case: expected - found for case, (_, expected) in TYPED.items() if expected - found} == {}


def test_fish_completes(environ: dict[str, str]) -> None:
    typed, expected = TYPED["commands"]
    assert expected <= offered([shell("fish"), "-N", "-c", FISH, typed], environ)


def test_zsh_completes(environ: dict[str, str], tmp_path: Path) -> None:
    typed, expected = TYPED["commands"]
    assert expected <= offered([shell("zsh"), "-f", "-c", ZSH, "zsh", typed, str(tmp_path / "offered")], environ)


def test_bash_completes_a_checkouts_own_way_to_run_it(environ: dict[str, str], tmp_path: Path) -> None:
    """As `scripts/run` is one: a path, which is no command of the PATH."""
    program = str(tmp_path / "bin" / "opendesk")
    script = BASH.replace("completion bash)", f"completion bash --program {program})").replace(
        "complete -p opendesk", f"complete -p {program}"
    )
    script = script.replace("_opendesk_completion opendesk", f"_opendesk_completion {program}")
    assert "doctor" in offered([shell("bash"), "-c", script, "bash", f"{program} do"], environ)


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_is_told_as_json_too(name: str) -> None:
    plain = CliRunner().invoke(group, ["completion", name])
    told = CliRunner().invoke(group, ["completion", name, "--json"])
    assert (plain.exit_code, told.exit_code) == (0, 0)
    assert json.loads(told.stdout) == {"shell": name, "program": "opendesk", "script": plain.stdout}


def test_a_program_that_a_shell_would_take_apart_is_refused() -> None:
    done = CliRunner().invoke(group, ["completion", "bash", "--program", "x; rm -rf ~"])
    assert (done.exit_code, done.stdout) == (2, "")


# What takes longer to import than somebody waits who presses a key.
HEAVY: Final = {"trio", "psycopg", "structlog", "rich", "quart", "cryptography", "opendesk.settings"}


def completed(typed: str, environ: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """What is offered at the end of what was typed, and what was imported for it."""
    words = typed.split()
    asked = {"_OPENDESK_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    asked["COMP_CWORD"] = str(len(words) - (not typed.endswith(" ")))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", "-m", "opendesk"],
        env={**environ, **asked},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    told = done.stderr.splitlines()
    assert [line for line in told if not line.startswith("import time:")] == []
    return {line.partition(",")[2] for line in done.stdout.splitlines() if line}, {
        line.rpartition("|")[2].strip() for line in told
    }


@pytest.mark.parametrize("case", ["commands", "options", "values"])
def test_completing_commands_options_and_values_imports_little(case: str, environ: dict[str, str]) -> None:
    typed, expected = TYPED[case]
    found, imported = completed(typed, environ)
    assert expected <= found
    assert imported & HEAVY == set()


def test_a_router_of_the_database_is_completed_without_trio(
    environ: dict[str, str], conninfo: str, tmp_path: Path
) -> None:
    with psycopg.connect(conninfo) as conn:
        conn.execute(
            "INSERT INTO opendesk.routers (id, host) VALUES ('CAFE-77', '127.0.0.1'), ('PRAIA-77', '127.0.0.1')"
        )
    env_file = tmp_path / "opendesk.env"
    env_file.write_text(f"DATABASE_URL={url_of(conninfo)}\n")
    found, imported = completed("opendesk router show CAFE", {**environ, "OPENDESK_ENV_FILE": str(env_file)})
    assert found == {"CAFE-01", "CAFE-02", "CAFE-77"}
    assert imported & (HEAVY - {"psycopg", "opendesk.settings"}) == set()


async def test_a_router_of_the_embedded_database_is_completed(
    environ: dict[str, str], open_folders: Callable[[], Path]
) -> None:
    data_dir = open_folders() / "data"
    async with embedded_server(data_dir) as conninfo:
        with psycopg.connect(conninfo) as conn:
            conn.execute("CREATE SCHEMA opendesk")
            conn.execute("CREATE TABLE opendesk.routers AS SELECT 'CAFE-99' AS id, false AS dry_run")
        asked = {**environ, "OPENDESK_DATA_DIR": str(data_dir)}
        found, _ = await trio.to_thread.run_sync(completed, "opendesk router show CAFE-9", asked)
    shutil.rmtree(data_dir.parent)
    assert found == {"CAFE-99"}


@pytest.mark.parametrize(
    "url", ["postgresql://u@127.0.0.1:1/d", "postgresql://u@127.0.0.1:{mute}/d"], ids=["away", "mute"]
)
def test_a_database_that_does_not_answer_completes_nothing_and_says_nothing(url: str, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        asked = {**environ, "DATABASE_URL": url.format(mute=mute.getsockname()[1])}
        found, _ = completed("opendesk router show X", asked)
    assert found == set()


# ---- the outline that is completed from


def test_the_outline_that_is_published_with_the_program_is_that_of_its_commands() -> None:
    """UPDATE_SCHEMA=1 writes it anew."""
    made = json.dumps(outline.outline_of(group), indent=1) + "\n"
    if os.environ.get("UPDATE_SCHEMA") == "1":
        outline.FILE.write_text(made, encoding="utf-8")
    assert made == outline.FILE.read_text(encoding="utf-8"), "scripts/schemas writes it anew"


def groups_and_leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if words:
        yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from groups_and_leaves(sub, (*words, name))


def offered_by(command: click.Command, words: Sequence[str], incomplete: str) -> set[tuple[str, str, str | None]]:
    made = shell_completion.ShellComplete(command, {}, "opendesk", "_X").get_completions(list(words), incomplete)
    return {(item.type, item.value, item.help) for item in made}


@pytest.mark.parametrize("words", list(groups_and_leaves(group)), ids=" ".join)
@pytest.mark.parametrize("incomplete", ["", "-"], ids=["words", "options"])
def test_what_is_completed_from_the_outline_is_what_the_command_completes(
    words: tuple[str, ...], incomplete: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    own = offered_by(group, words, incomplete)
    with monkeypatch.context() as real:
        real.setattr(outline, "command", partial(group.get_command, click.Context(group)))
        theirs = offered_by(group, words, incomplete)
    # Without a command `events` lists, and takes the options of `list`; its commands are offered, too.
    assert own >= theirs if words == ("events",) else own == theirs


def test_help_tells_each_shells_line_by_itself() -> None:
    told = CliRunner().invoke(group, ["completion", "--help"]).stdout.splitlines()
    assert [line.split()[0] for line in told if ".config/fish" in line or "bashrc" in line or "zshrc" in line] == [
        *SHELLS
    ]
    assert not any("\\b" in line for line in told)


def test_every_command_says_what_it_is_for() -> None:
    context = click.Context(group)
    for name, what in COMMANDS.items():
        assert group.get_command(context, name) is not None
        assert what.endswith(".")
    assert os.environ.get("_OPENDESK_COMPLETE") is None
