import json
from pathlib import Path

import click
from click.testing import CliRunner, Result
import pytest

from opendesk.cli.settings import settings
from opendesk.settings import DECLARED, markdown

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"


@click.group()
@click.option("--env-file", type=click.Path(path_type=Path))
@click.pass_context
def group(context: click.Context, env_file: Path | None) -> None:
    """As opendesk's own: the environment that was given goes on as `obj`."""


group.add_command(settings)


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(group, arguments, obj=environ or {})


def test_every_setting_is_in_the_table_and_no_secret() -> None:
    result = run("settings", environ={"JWT_SECRET": SECRET, "PORT": "4444", "BIND": "::1"})
    assert result.exit_code == 0
    assert all(declared.name in result.stdout for declared in DECLARED)
    assert "4444" in result.stdout
    assert "environment" in result.stdout
    assert SECRET not in result.output
    assert max(map(len, result.stdout.splitlines())) <= 200


def test_json_holds_what_the_table_does() -> None:
    result = run("settings", "--json", environ={"RELAY_TOKEN": SECRET, "RELAY_TOKENS": "x"})
    data = json.loads(result.stdout)
    rows = {row["name"]: row for row in data["settings"]}
    assert list(rows) == [declared.name for declared in DECLARED]
    assert (rows["RELAY_TOKEN"]["value"], rows["RELAY_TOKEN"]["source"]) == ("********", "environment")
    assert rows["PORT"] | {"meaning": ""} == {
        "name": "PORT",
        "value": "3333",
        "source": "default",
        "default": "3333",
        "meaning": "",
        "secret": False,
    }
    assert data["warnings"] == ["RELAY_TOKENS is not a setting and does nothing; is RELAY_TOKEN meant?"]


def test_the_page_needs_no_valid_settings() -> None:
    result = run("settings", "--markdown", environ={"PORT": "x"})
    assert (result.exit_code, result.stdout) == (0, markdown())


def test_all_faults_are_listed_with_exit_code_2() -> None:
    result = run("settings", environ={"PORT": "x", "CURRENCY": "y"})
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["PORT", "CURRENCY"]
    as_json = run("settings", "--json", environ={"PORT": "x", "CURRENCY": "y"})
    assert as_json.exit_code == 2
    assert len(json.loads(as_json.stdout)["faults"]) == 2


@pytest.mark.parametrize("before", [True, False])
def test_an_env_file_is_taken_before_and_after_the_commands_name(tmp_path: Path, *, before: bool) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("PORT=4444\n")
    option = ["--env-file", str(env_file)]
    result = run(*(option if before else []), "settings", "--json", *([] if before else option))
    (port,) = (row for row in json.loads(result.stdout)["settings"] if row["name"] == "PORT")
    assert (port["value"], port["source"]) == ("4444", f"{env_file}:1")


def test_a_bind_in_brackets_is_shown_as_it_is() -> None:
    result = run("settings", environ={"WG_VPS_ENDPOINT": "[::1]:51820"})
    assert "[::1]:51820" in result.stdout
