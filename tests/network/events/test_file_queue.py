"""The file queue: taken by renaming it, deleted once its events are stored, and kept whenever any of it was not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
import os
from pathlib import Path
from typing import Any

from psycopg import OperationalError
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk.network.events import file_queue
from opendesk.network.events import inbox as inbox_module
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.file_queue import FileQueue, Unusable, left_over, read_file, refuse_file, take_file
from opendesk.ops.metrics import Metrics
from opendesk.settings import load
from tests.network.events.pretending import PATIENCE_S, RememberingInbox, event

POLL_S = 0.02


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.json"


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def write(path: Path, *ids: str) -> None:
    path.write_text(json.dumps([event(each) for each in ids]))


def write_bytes(path: Path, body: bytes) -> None:
    path.write_bytes(body)


@asynccontextmanager
async def queue(path: Path, inbox: RememberingInbox) -> AsyncIterator[list[Any]]:
    service = FileQueue(path, inbox.take, EventFigures(Metrics()), POLL_S)
    with capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            yield logs
            nursery.cancel_scope.cancel()


async def until_left(path: Path, *prefixes: str) -> None:
    def is_so() -> bool:
        found = names(path)
        pairs = zip(found, sorted(prefixes), strict=False)
        return len(found) == len(prefixes) and all(name.startswith(prefix) for name, prefix in pairs)

    while not is_so():  # noqa: ASYNC110  # nothing tells of it
        await trio.sleep(0.01)


async def told(logs: list[Any], name: str) -> dict[str, Any]:
    while not (found := [line for line in logs if line["event"] == name]):  # noqa: ASYNC110  # nothing tells of it
        await trio.sleep(0.01)
    return dict(found[0])


async def test_files_are_taken_as_they_come(path: Path) -> None:
    inbox = RememberingInbox()
    async with queue(path, inbox):
        write(path, "a", "b")
        await until_left(path)
        write(path, "c")
        await until_left(path)
    assert inbox.ids == ["a", "b", "c"]
    assert inbox.sources == {"file"}


async def test_it_is_there_until_its_events_are_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "STORE_AGAIN_S", 0.02)
    inbox = RememberingInbox(failures=[OperationalError("away")] * 3)
    write(path, "a")
    async with queue(path, inbox):
        await inbox.until(lambda: inbox.calls == 2)
        await until_left(path, "events.json.taken-")
        await until_left(path)
    assert inbox.ids == ["a"]


async def test_what_a_killed_daemon_took_comes_first_in_its_order(path: Path) -> None:
    for each in ("a", "b"):
        write(path, each)
        assert take_file(path)
        await trio.sleep(0.002)  # names are by the millisecond
    write(path, "c")
    inbox = RememberingInbox()
    async with queue(path, inbox):
        await until_left(path)
    assert inbox.ids == ["a", "b", "c"]


async def test_two_daemons_of_one_machine_do_each_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = list[Path]()

    def looking(left: Path) -> list[Path]:
        found = left_over(left)
        looked.append(left)
        return found

    monkeypatch.setattr(file_queue, "left_over", looking)
    one, two = RememberingInbox(), RememberingInbox()
    async with queue(path, one), queue(path, two):
        while len(looked) < 2:  # noqa: ASYNC110  # nothing tells of it
            # Who begins while another is at a file does that, too, as if the other had been killed.
            await trio.sleep(0.01)
        for number in range(20):
            write(path, str(number))
            await until_left(path)
    assert sorted([*one.ids, *two.ids], key=int) == [str(number) for number in range(20)]


async def test_one_that_somebody_is_still_writing_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = RememberingInbox()

    def read_and_go_on_writing(taken: Path) -> bytes:
        body = read_file(taken)
        write(taken, "a", "b")
        return body

    monkeypatch.setattr(file_queue, "read_file", read_and_go_on_writing)
    write_bytes(path, b'[{"eventId": "a"}')
    async with queue(path, inbox):
        await until_left(path)
    assert inbox.ids == ["a", "b"]


BROKEN = {
    "empty": b"",
    "no JSON": b"[{",
    "an object": b'{"eventId": "a"}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_no_batch_is_kept_and_keeps_nobody_waiting(body: bytes, path: Path) -> None:
    inbox = RememberingInbox()
    write_bytes(path, body)
    async with queue(path, inbox) as logs:
        await until_left(path, "events.json.refused-")
        write(path, "a")
        await until_left(path, "events.json.refused-")
        await inbox.until(lambda: inbox.ids)
        refused = await told(logs, "events.file_refused")
    assert refused["log_level"] == "error"
    assert read_file(Path(refused["kept"])) == body


async def test_one_with_events_that_nobody_can_be_told_of_is_kept_after_the_others_were_stored(path: Path) -> None:
    inbox = RememberingInbox()
    write_bytes(path, json.dumps([event("a"), 5, {"eventId": 5}, event("b")]).encode())
    async with queue(path, inbox) as logs:
        await until_left(path, "events.json.refused-")
        refused = await told(logs, "events.file_refused")
    assert refused["error"].startswith("2 of its events")
    assert inbox.ids == ["a", "b"]


def link(path: Path) -> None:
    (path.parent / "elsewhere").write_text('[{"eventId": "a"}]')
    path.symlink_to(path.parent / "elsewhere")


STRANGE = {"a folder": Path.mkdir, "a pipe": os.mkfifo, "a link": link}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE.keys())
async def test_what_is_no_file_is_left_alone_and_told_of_once(make: Any, path: Path) -> None:
    make(path)
    before, inbox = names(path), RememberingInbox()
    async with queue(path, inbox) as logs:
        line = await told(logs, "events.file_not_taken")
        await trio.sleep(10 * POLL_S)
    assert "no regular file" in line["error"]
    assert names(path) == before
    assert len([line for line in logs if line["event"] == "events.file_not_taken"]) == 1
    assert not inbox.calls


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE.keys())
def test_nor_is_it_read_where_it_was_put_in_place_of_one_that_was_taken(make: Any, path: Path) -> None:
    make(path)
    with pytest.raises(Unusable):
        read_file(path)


def test_a_link_that_is_put_there_between_the_look_and_the_opening_is_not_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(path)
    monkeypatch.setattr(Path, "lstat", Path.stat)
    with pytest.raises(OSError, match="symbolic link"):
        read_file(path)


def test_one_that_is_too_long_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_queue, "MAX_FILE", 10)
    path.write_bytes(b"x" * 10)
    assert read_file(path) == b"x" * 10
    path.write_bytes(b"x" * 11)
    with pytest.raises(Unusable, match="longer than 10"):
        read_file(path)


async def test_one_that_cannot_be_read_keeps_none_from_the_others_and_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, "a")
    bad = take_file(path)
    assert bad
    barred, inbox = {bad}, RememberingInbox()

    def read(taken: Path) -> bytes:
        if taken in barred:
            raise PermissionError(13, "no")
        return read_file(taken)

    monkeypatch.setattr(file_queue, "read_file", read)
    async with queue(path, inbox) as logs:
        write(path, "b")
        await inbox.until(lambda: inbox.ids == ["b"])
        await told(logs, "events.file_not_taken")
        barred.clear()
        await inbox.until(lambda: inbox.ids == ["b", "a"])
        await until_left(path)


def test_where_there_is_nothing_nothing_is_taken(tmp_path: Path) -> None:
    assert take_file(tmp_path / "none") is None
    assert take_file(tmp_path / "no folder" / "none") is None
    assert left_over(tmp_path / "no folder" / "none") == []


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    for name in ("a[b]*.taken-1", "ab.taken-1", "a[b]*.refused-1", "a[b]*.taken"):
        (tmp_path / name).touch()
    assert left_over(tmp_path / "a[b]*") == [tmp_path / "a[b]*.taken-1"]
    assert refuse_file(tmp_path / "a[b]*.taken-1") == tmp_path / "a[b]*.refused-1"


async def test_settings_make_one(path: Path, autojump_clock: MockClock) -> None:
    settings = load({"OPENDESK_DATA_DIR": "/nowhere", "RELAY_EVENTS_FILE": str(path), "BACKEND_EVENTS_POLL_MS": "250"})
    inbox: Any = RememberingInbox()
    made = FileQueue.of(settings, inbox=inbox, figures=EventFigures(Metrics()))
    write(path, "a")
    assert await made._round()
    assert inbox.ids == ["a"]
