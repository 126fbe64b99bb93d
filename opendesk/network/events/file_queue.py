"""A local file of events: taken by renaming it, and deleted only once all of them are stored.

Each daemon looks for it on its own machine. What one that was killed has taken, the next one finds; that an event is stored twice does no harm.
"""

from contextlib import suppress
import os
from pathlib import Path
import secrets
import stat
import time
from typing import Final

from attrs import define, field
import structlog
import trio

from opendesk.network.events.batches import NotABatch, split_apart
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.inbox import Inbox, Take, stored
from opendesk.settings import Settings
from opendesk.supervise import alive

log = structlog.get_logger()

# Some 250,000 events, minutes of work. It is read whole.
MAX_FILE: Final = 64 * 2**20

_TAKEN: Final = "taken"
_REFUSED: Final = "refused"
_SUFFIX_BYTES: Final = 4
# Neither followed to where somebody else wants us to read, nor waited at for somebody to write.
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unusable(Exception):
    """Not a file that events are read from."""


def take_file(path: Path) -> Path | None:
    """Rename it, so that nobody else takes it: to what; None if there is none. Raise Unusable and OSError: then it is as it was."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Unusable("it is no regular file")
        # In the order of time, so that the order of arrival outlives this daemon.
        suffix = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(_SUFFIX_BYTES)}"
        return path.rename(path.with_name(f"{path.name}.{_TAKEN}-{suffix}"))
    return None


def left_over(path: Path) -> list[Path]:
    """What was taken and not stored, the oldest first."""
    begins = f"{path.name}.{_TAKEN}-"
    with suppress(FileNotFoundError), os.scandir(path.parent) as found:
        return sorted(path.with_name(entry.name) for entry in found if entry.name.startswith(begins))
    return []


def read_file(taken: Path) -> bytes:
    """Raise Unusable and OSError."""
    if not stat.S_ISREG(taken.lstat().st_mode):
        raise Unusable("it is no regular file")
    with open(os.open(taken, _OPEN), "rb") as file:  # noqa: PTH123 - pathlib knows no flags
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unusable("it is no regular file")
        body = file.read(MAX_FILE + 1)
    if len(body) > MAX_FILE:
        raise Unusable(f"it is longer than {MAX_FILE} bytes")
    return body


def refuse_file(taken: Path) -> Path:
    """Keep it, where nobody takes it for a queue."""
    head, mark, suffix = taken.name.rpartition(f".{_TAKEN}-")
    assert mark
    return taken.rename(taken.with_name(f"{head}.{_REFUSED}-{suffix}"))


@define(eq=False)
class FileQueue:
    """`run` is a service. `take` is the inbox's."""

    _path: Path
    _take: Take
    _figures: EventFigures
    _poll_s: float
    _pending: list[Path] = field(factory=list, init=False)
    _troubles: set[str] = field(factory=set, init=False)

    @classmethod
    def of(cls, settings: Settings, *, inbox: Inbox, figures: EventFigures) -> "FileQueue":
        assert settings.relay_events_file is not None
        return cls(settings.relay_events_file, inbox.take, figures, settings.backend_events_poll_ms / 1000)

    async def run(self) -> None:
        self._pending = await trio.to_thread.run_sync(left_over, self._path)
        while True:
            alive(wait_s=self._poll_s)
            if not await self._round():
                await trio.sleep(self._poll_s)

    async def _round(self) -> bool:
        """Take the file and do all that were taken; whether any could be done. One that can't be is tried again, and keeps none from the others."""
        troubles: set[str] = set()
        try:
            if (taken := await trio.to_thread.run_sync(take_file, self._path)) is not None:
                self._pending.append(taken)
        except (Unusable, OSError) as error:
            troubles.add(repr(error))
        before = len(self._pending)
        for path in tuple(self._pending):
            try:
                await self._do(path)
                self._pending.remove(path)
            except OSError as error:
                troubles.add(repr(error))
        self._complain(troubles)
        return len(self._pending) < before

    def _complain(self, troubles: set[str]) -> None:
        """Once of each, for as long as it is so."""
        for trouble in sorted(troubles - self._troubles):
            log.error("events.file_not_taken", path=str(self._path), error=trouble)
        self._troubles = troubles

    async def _do(self, taken: Path) -> None:
        with suppress(FileNotFoundError):  # another daemon of this machine has done it
            try:
                members = await self._read(taken)
            except (Unusable, NotABatch) as error:
                await self._refuse(taken, str(error))
                return
            nameless = await self._store(members)
            if nameless:
                await self._refuse(
                    taken, f"{nameless} of its events have no eventId that is a string; all others are stored"
                )
            else:
                await trio.to_thread.run_sync(taken.unlink)

    async def _read(self, taken: Path) -> list[bytes]:
        """What isn't a batch may be one that somebody is still writing."""
        with suppress(NotABatch):
            return await split_apart(await trio.to_thread.run_sync(read_file, taken))
        alive(wait_s=self._poll_s)
        await trio.sleep(self._poll_s)
        return await split_apart(await trio.to_thread.run_sync(read_file, taken))

    async def _store(self, members: list[bytes]) -> int:
        """How many were nameless."""
        taken = await stored(self._take, members, "file")
        self._figures.fetched("file")
        log.info("events.file_taken", new=taken.new, again=taken.again, refused=taken.refused)
        return taken.nameless

    async def _refuse(self, taken: Path, why: str) -> None:
        kept = await trio.to_thread.run_sync(refuse_file, taken)
        self._figures.fetched("file_refused")
        log.error("events.file_refused", kept=str(kept), error=why)
