"""A backup's file: whole or not at all, and damage is seen."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
import errno
import fcntl
import io
import os
from pathlib import Path
import stat
import subprocess
import tarfile

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.postgres.backups import archive as archives
from opendesk.postgres.backups import checking, places
from opendesk.postgres.backups.manifest import (
    FORMAT,
    Books,
    Dump,
    Facts,
    Manifest,
    differences,
    dump_manifest,
    load_manifest,
)
from opendesk.postgres.errors import BackupFailed, BackupUnusable
from opendesk.postgres.migrate import Applied, DatabaseTooNew, load

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DUMP = b"what pg_dump writes" * 1000

counts = st.integers(0, 2**62)
facts = st.builds(
    Facts,
    st.text(),
    st.text(),
    st.lists(st.builds(Applied, st.integers(1, 9999), st.text(), st.text())).map(tuple),
    st.dictionaries(st.text(), counts),
    st.none() | st.builds(Books, st.booleans(), counts, counts, counts, counts, st.integers(-(2**62), 2**62)),
)


def manifest_of(writer: archives.Writer, *migrations: Applied) -> Manifest:
    said = Dump("18.6", writer.size, writer.sha256)
    return Manifest(FORMAT, "0.1.0", Facts("2026-11-22T12:00:00Z", "18.6", migrations, {"sessions": 3}, None), said)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A good one."""
    path = tmp_path / "good.tar"
    with path.open("wb") as file:
        writer = archives.Writer(file)
        writer.add(DUMP[:700])
        writer.add(DUMP[700:])
        writer.finish(manifest_of(writer))
    return path


@given(st.builds(Manifest, st.just(FORMAT), st.text(), facts, st.builds(Dump, st.text(), counts, st.text())))
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert load_manifest(dump_manifest(manifest)) == manifest


@given(st.binary(max_size=200))
def test_no_bytes_but_a_manifest_are_one(data: bytes) -> None:
    with pytest.raises(BackupUnusable):
        load_manifest(data)


def test_a_format_of_a_later_program_is_refused_with_a_word_of_it() -> None:
    later = b'{"format":2,"program":"9","facts":{"made_at":"","server":"","migrations":[],"rows":{},"books":null},'
    with pytest.raises(BackupUnusable, match="use a newer OpenDesk"):
        load_manifest(later + b'"dump":{"written_by":"","bytes":0,"sha256":""}}')


def test_a_backup_gives_the_dump_that_was_written(backup: Path) -> None:
    archive = archives.read(backup)
    assert b"".join(archive.chunks()) == DUMP
    assert archive.manifest.facts.rows == {"sessions": 3}


def test_a_backup_is_opened_by_any_tar(backup: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", backup, "-C", tmp_path], check=True)
    assert (tmp_path / "opendesk.dump").read_bytes() == DUMP
    assert load_manifest((tmp_path / "manifest.json").read_bytes()) == archives.read(backup).manifest


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9], ids=["its beginning", "its middle", "its end"])
def test_a_bit_that_turned_over_in_the_dump_is_seen(backup: Path, part: float) -> None:
    data = bytearray(backup.read_bytes())
    data[tarfile.BLOCKSIZE + int(len(DUMP) * part)] ^= 1
    backup.write_bytes(data)
    with pytest.raises(BackupUnusable, match="damaged"):
        list(archives.read(backup).chunks())


@given(st.data())
def test_a_file_that_ends_early_is_none(data: st.DataObject) -> None:
    file = io.BytesIO()
    writer = archives.Writer(file)
    writer.add(DUMP)
    writer.finish(manifest_of(writer))
    whole = file.getvalue()[: -2 * tarfile.BLOCKSIZE]  # without the end's zeros, which say nothing
    content = len(whole.rstrip(b"\0"))
    cut = Path(f"/dev/shm/opendesk-test-cut-{id(file)}") if Path("/dev/shm").is_dir() else Path(f"/tmp/cut-{id(file)}")
    try:
        cut.write_bytes(whole[: data.draw(st.integers(0, content - 1))])
        with pytest.raises(BackupUnusable):
            list(archives.read(cut).chunks())
    finally:
        cut.unlink()


def _other_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("photo.jpg"))


@pytest.mark.parametrize(
    "make",
    [_other_tar, lambda path: path.write_bytes(b"PGDMP"), lambda path: path.write_bytes(b"")],
    ids=["another tar", "a bare dump", "nothing"],
)
def test_another_file_is_refused_by_name(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "other"
    make(path)
    with pytest.raises(BackupUnusable, match=str(path)):
        archives.read(path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BackupUnusable, match="no ordinary file"):
        archives.read(pipe)


def test_a_backup_of_a_newer_program_is_refused_before_anything_is_loaded() -> None:
    known = tuple(Applied(each.version, each.name, each.checksum) for each in load())
    newer = Applied(len(known) + 1, "tomorrow", "00")
    writer = archives.Writer(io.BytesIO())
    assert checking.missing_migrations(manifest_of(writer, *known)) == []
    assert checking.missing_migrations(manifest_of(writer, *known[:-1])) == [str(known[-1])]
    with pytest.raises(DatabaseTooNew):
        checking.missing_migrations(manifest_of(writer, *known, newer))


def test_differences_are_told_by_table() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1, "b": 2}, {"a": 3, "c": 4}) == [
        "a: 3 where 1 was expected",
        "b: no such table where 2 was expected",
        "c: 4 where none was expected",
    ]


# The file's place


def test_a_new_file_is_its_owners_alone_and_has_its_name_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "new.tar"
    with places.new_file(target) as (file, part):
        file.write(b"whole")
        assert not target.exists()
        assert part.parent == tmp_path
    assert target.read_bytes() == b"whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_of_one_that_failed_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), places.new_file(tmp_path / "new.tar"):
        raise ZeroDivisionError
    with (
        pytest.raises(BackupFailed, match="No space left"),
        places.new_file(tmp_path / "new.tar"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_no_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "there.tar"
    target.write_bytes(b"old")
    with pytest.raises(BackupFailed, match="is there already"), places.new_file(target):
        pass
    other = tmp_path / "meanwhile.tar"
    with pytest.raises(BackupFailed, match="is there already"), places.new_file(other):
        other.write_bytes(b"somebody else's")
    assert (target.read_bytes(), other.read_bytes()) == (b"old", b"somebody else's")


def test_one_that_came_at_the_last_moment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_must_be_free", lambda _target: None)  # nobody was there when it looked
    target = tmp_path / "new.tar"
    with pytest.raises(BackupFailed, match="is there already"), places.new_file(target):
        target.write_bytes(b"somebody else's")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"somebody else's"]


def test_a_file_system_without_links_takes_backups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "new.tar"
    with places.new_file(target) as (file, _part):
        file.write(b"whole")
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(target, b"whole")]
    with pytest.raises(BackupFailed, match="is there already"), places.new_file(tmp_path / "other.tar"):
        (tmp_path / "other.tar").touch()


@pytest.mark.parametrize("still_removing", [False, True], ids=["it is gone", "it is being removed"])
def test_a_part_that_another_backup_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, still_removing: bool
) -> None:
    lock = fcntl.flock
    took: list[object] = []

    def late(file: io.FileIO, how: int) -> None:
        if not took:
            took.append(file)
            (part,) = tmp_path.iterdir()
            other = part.open("r+b")
            lock(other, fcntl.LOCK_EX)
            part.unlink()
            if still_removing:
                took.append(other)
            else:
                other.close()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    target = tmp_path / "new.tar"
    with places.new_file(target) as (file, _part):
        file.write(b"whole")
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(target, b"whole")]
    for other in took[1:]:
        assert isinstance(other, io.BufferedRandom)
        other.close()


def test_a_part_that_is_about_to_get_its_name_is_still_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another backup's beginning would remove it otherwise."""
    link = Path.hardlink_to

    def late(self: Path, target: Path) -> None:
        places._remove_parts(tmp_path)  # what another one begins with
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", late)
    with places.new_file(tmp_path / "new.tar"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new.tar"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(BackupFailed, match=r"nowhere/new\.tar can't be written: No such file"),
        places.new_file(tmp_path / "nowhere" / "new.tar"),
    ):
        pass


def test_what_a_killed_one_left_goes_with_the_next_and_a_live_ones_stays(tmp_path: Path) -> None:
    (tmp_path / ".dead.opendesk-part").write_bytes(b"half")
    alive = tmp_path / ".alive.opendesk-part"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with places.new_file(tmp_path / "new.tar"):
            assert {path.name for path in tmp_path.iterdir() if "dead" in path.name} == set()
        assert alive.exists()


@given(
    st.lists(st.integers(0, 10**6), unique=True),
    st.integers(1, 20),
    st.lists(st.sampled_from(["notes.txt", "opendesk.tar"])),
)
def test_the_latest_are_kept_and_others_files_are_nobodys_business(
    seconds: list[int], keep: int, others: list[str]
) -> None:
    ours = [places.named_at(NOON + timedelta(seconds=second)) for second in seconds]
    made = places.named_at(NOON + timedelta(seconds=500_000))
    gone = places.to_remove([*ours, made, *others], made, keep)
    assert set(gone) <= set(ours) - {made}
    left = sorted({*ours, made} - set(gone))
    assert [name for name in left if name <= made] == sorted({name for name in ours if name < made} | {made})[-keep:]
    assert {name for name in ours if name > made} <= set(left)  # of a clock that was ahead
