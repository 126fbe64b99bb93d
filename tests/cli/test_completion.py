"""Completion in the shells themselves: whoever presses the key gets commands, options and values."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Final

import click
from click.testing import CliRunner
import pytest

from opendesk.cli import COMMANDS, group
from opendesk.cli.completion import SHELLS
from tests.system.daemon import environment

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


def test_completing_a_command_imports_none_of_them(environ: dict[str, str]) -> None:
    asked = {**environ, "_OPENDESK_COMPLETE": "bash_complete", "COMP_WORDS": "opendesk ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", "-m", "opendesk"],
        env=asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} >= set(COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & {"trio", "psycopg", "rich", "quart", "opendesk.settings"} == set()


def test_a_database_that_is_away_completes_nothing_and_says_nothing(environ: dict[str, str]) -> None:
    asked = {
        **environ,
        "_OPENDESK_COMPLETE": "bash_complete",
        "COMP_WORDS": "opendesk router show X",
        "COMP_CWORD": "3",
    }
    asked["DATABASE_URL"] = "postgresql://u@127.0.0.1:1/d"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "opendesk"], env=asked, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_every_command_says_what_it_is_for() -> None:
    context = click.Context(group)
    for name, what in COMMANDS.items():
        assert group.get_command(context, name) is not None
        assert what.endswith(".")
    assert os.environ.get("_OPENDESK_COMPLETE") is None
