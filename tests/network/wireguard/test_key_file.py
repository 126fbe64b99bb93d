"""The file of the interface's private key."""

import base64
from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import shutil
import stat
import subprocess

import pytest

from opendesk.network.wireguard import key_file
from opendesk.network.wireguard.key_file import KeyFileFault

PRIVATE = bytes(range(1, 33))
TEXT = base64.b64encode(PRIVATE)


def key_in(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "wg0.key"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_it_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "wireguard" / "wg0.key"
    key_file.make_folder(path.parent)
    first = key_file.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(base64.b64decode(first.reveal())) == 32
    assert key_file.make(path) == key_file.read(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["wg0.key"]


def test_of_many_who_make_it_at_once_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(key_file.make, [tmp_path / "wg0.key"] * 8))
    assert len({key.reveal() for key in made}) == 1


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert key_file.read(tmp_path / "wg0.key") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_one_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileFault, match="chmod 600"):
        key_file.read(key_in(tmp_path, TEXT, mode))


@pytest.mark.parametrize(
    "data", [b"", b"\n", TEXT[:-1], TEXT[:-4], b"\xff" * 44, b"A" * 200, TEXT + TEXT, b"*" + TEXT[1:]]
)
def test_one_without_a_key_is_refused_and_not_quoted(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KeyFileFault) as caught:
        key_file.read(key_in(tmp_path, data))
    assert not data.strip() or data.decode(errors="replace").strip() not in str(caught.value)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises((KeyFileFault, IsADirectoryError)):
            key_file.read(path)


def test_the_key_shows_itself_to_nobody(tmp_path: Path) -> None:
    made = key_file.make(tmp_path / "wg0.key")
    assert made.reveal() not in repr(made) + str(made)


@pytest.mark.skipif(shutil.which("wg") is None, reason="there is no wg")
def test_the_public_key_is_what_wg_says(tmp_path: Path) -> None:
    key = key_file.read(key_in(tmp_path, TEXT + b"\n"))
    assert key is not None
    told = subprocess.run(["wg", "pubkey"], input=TEXT, capture_output=True, check=True)
    assert key_file.public_key_of(key) == told.stdout.decode().strip()
