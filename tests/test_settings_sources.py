from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.settings import DECLARED, Secret, SettingsError, load
from opendesk.settings.sources import FILE_MAX_BYTES, default_data_dir, parse_env_file

LONG = "a-secret-of-32-bytes-or-more-....."
PASSWORD = "hunter2"


def faults(environ: dict[str, str], env_file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(environ, env_file=env_file)
    return caught.value.faults


# --- sources


def test_the_environment_wins_over_the_file_and_the_file_over_credentials(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("PORT=1\nRELAY_TOKEN=file\nJWT_SECRET=file\n")
    (tmp_path / "RELAY_TOKEN").write_text("credential\n")
    (tmp_path / "RELAY_API_SECRET").write_text("credential\n")
    (tmp_path / "PORT").write_text("7\n")
    environ = {"PORT": "2", "JWT_SECRET": "environment" + LONG, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = load(environ, env_file=env_file)
    assert settings.port == 2
    assert settings.jwt_secret == Secret("environment" + LONG)
    assert settings.relay_token == (Secret("file"),)
    assert settings.relay_api_secret == (Secret("credential"),)
    assert settings.sources["PORT"] == "environment"
    assert settings.sources["RELAY_TOKEN"] == f"{env_file}:2"
    assert settings.sources["RELAY_API_SECRET"] == "credentials"
    assert [warning.split(":")[0] for warning in settings.warnings] == ["PORT", "JWT_SECRET", "RELAY_TOKEN"]


def test_only_a_secret_comes_from_credentials(tmp_path: Path) -> None:
    (tmp_path / "PORT").write_text("7")
    assert load({"CREDENTIALS_DIRECTORY": str(tmp_path)}).port == 3333


def test_a_credential_loses_one_line_end_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "JWT_SECRET").write_bytes(f" {LONG} \n\r\n".encode())
    assert load({"CREDENTIALS_DIRECTORY": str(tmp_path)}).jwt_secret == Secret(f" {LONG} \n")


def test_a_credential_that_can_not_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "JWT_SECRET").write_bytes(b"\xff")
    (tmp_path / "RELAY_TOKEN").mkdir()
    told = faults({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert sorted(fault.split(":")[0] for fault in told) == ["JWT_SECRET", "RELAY_TOKEN"]


def test_an_env_file_has_quotes_comments_and_export() -> None:
    text = """\ufeff
# a comment
PORT=3334
export BIND = '::1'   # why
  A="x \\"y\\" # \\n\\\\"#z
B='a "b" # $c\\n'
C=a#b # c
D=
E=[{"id": "x"}]
F= # nothing
""".replace("\ufeff", "")
    found = dict(outcome for _line, outcome in parse_env_file(text) if not isinstance(outcome, str))
    assert found == {
        "PORT": "3334",
        "BIND": "::1",
        "A": 'x "y" # \n\\',
        "B": 'a "b" # $c\\n',
        "C": "a#b",
        "D": "",
        "E": '[{"id": "x"}]',
        "F": "",
    }


def test_a_bad_line_is_told_with_its_number_and_not_its_text(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_bytes(f'PORT=1\r\n{PASSWORD}\nJWT_SECRET=\'{PASSWORD}\n1A=2\nB="x" y\nCURRENCY=x\n'.encode())
    told = faults({}, env_file)
    assert [fault.split(": ")[0] for fault in told[:4]] == [f"{env_file}:{line}" for line in (2, 3, 4, 5)]
    assert told[4].startswith(f"CURRENCY ({env_file}:6): 'x' ")
    assert PASSWORD not in "".join(told)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), st.text(st.characters(exclude_characters="\n\r"))
    )
)
def test_what_is_written_in_double_quotes_comes_back(values: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = "\n".join(f"{name}={quoted(value)}" for name, value in values.items())
    assert dict(outcome for _line, outcome in parse_env_file(text) if not isinstance(outcome, str)) == values


def test_a_line_set_again_wins_and_is_warned_of(tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("PORT=1\nPORT=2\n")
    settings = load({}, env_file=env_file)
    assert settings.port == 2
    assert settings.warnings == (f"{env_file}:2: PORT is set again; this line wins over {env_file}:1",)


@pytest.mark.parametrize("content", [None, b"A=\xff\n", b"x" * (FILE_MAX_BYTES + 1)])
def test_an_env_file_that_can_not_be_read_is_a_fault_beside_the_others(tmp_path: Path, content: bytes | None) -> None:
    env_file = tmp_path / "env"
    if content is not None:
        env_file.write_bytes(content)
    told = faults({"PORT": "x"}, env_file)
    assert [fault.split(":")[0] for fault in told] == [str(env_file), "PORT"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RELAY_HOST_MAX_BYTE_PER_SEC", "RELAY_HOST_MAX_BYTES_PER_SEC"),
        ("relay_token", "RELAY_TOKEN"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("PLATFORM_FEE_RATES", "PLATFORM_FEE_RATE"),
    ],
)
def test_a_name_that_looks_misspelt_is_warned_of(name: str, near: str, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    env_file.write_text(f"{name}=1\n")
    (warning,) = load({}, env_file=env_file).warnings
    assert warning == f"{name} is not a setting and does nothing; is {near} meant?"


def test_names_that_are_not_ours_are_left_alone() -> None:
    environ = {
        "HOME": "/root",
        "SESSION_MANAGER": "x",
        "HOSTNAME": "x",
        "OPENDESK_VENV": "x",
        "RELAY_PORT": "tcp://x",
        "RELY_TOKEN": "x",
    }
    assert load(environ).warnings == ()


def test_no_two_names_of_ours_look_alike_enough_to_be_taken_for_each_other() -> None:
    assert load({declared.name: "" for declared in DECLARED}).warnings == ()


# --- where data goes


def test_data_goes_to_the_system_folder_where_that_can_be_made(tmp_path: Path) -> None:
    asked: list[Path] = []

    def is_writable(folder: Path) -> bool:
        asked.append(folder)
        return True

    system = tmp_path / "lib" / "opendesk"
    assert default_data_dir({}, system=system, is_writable=is_writable) == system
    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({"HOME": "/home/ana"}, "linux", "/home/ana/.local/share/opendesk"),
        ({"HOME": "/home/ana", "XDG_DATA_HOME": "/data/ana"}, "linux", "/data/ana/opendesk"),
        ({"HOME": "/home/ana", "XDG_DATA_HOME": "relative"}, "linux", "/home/ana/.local/share/opendesk"),
        ({"HOME": "/Users/ana"}, "darwin", "/Users/ana/Library/Application Support/opendesk"),
    ],
)
def test_data_goes_to_the_users_folder_elsewhere(environ: dict[str, str], platform: str, folder: str) -> None:
    assert default_data_dir(environ, platform=platform, is_writable=lambda _: False) == Path(folder)
