"""What a service tells its manager: the other end of NOTIFY_SOCKET."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
import socket
from typing import Final

from attrs import define, field
import trio

_MESSAGE_BYTES: Final = 4096
# Of minutes.
_REMEMBERED: Final = 10_000


@define(eq=False)
class Notified:
    """Made by `notified`. Lines as they came, with Trio's times."""

    path: str
    _told: deque[tuple[float, str]] = field(factory=lambda: deque(maxlen=_REMEMBERED))
    _news: trio.Event = field(factory=trio.Event)

    async def until(self, line: str, *, after_s: float = 0.0, within_s: float) -> float:
        """When the first line since then that begins so came. Raise trio.TooSlowError."""
        with trio.fail_after(within_s):
            while not (found := self._times(line, after_s)):
                await self._news.wait()
        return found[0]

    async def silence(self, line: str, *, for_s: float, within_s: float) -> float:
        """When no line that begins so had come for so long. Raise trio.TooSlowError."""
        begun_s = trio.current_time()
        with trio.fail_after(within_s):
            while (over_s := (self.last(line) or begun_s) + for_s) > trio.current_time():  # noqa: ASYNC110  # nothing tells of what doesn't come
                await trio.sleep_until(over_s)
            return trio.current_time()

    def last(self, line: str) -> float | None:
        """When such a line came last."""
        return max(self._times(line, 0.0), default=None)

    def _times(self, line: str, after_s: float) -> list[float]:
        return [at_s for at_s, told in self._told if at_s >= after_s and told.startswith(line)]

    async def listen(self, sock: trio.socket.SocketType) -> None:
        while True:
            self.hear((await sock.recv(_MESSAGE_BYTES)).decode())

    def hear(self, text: str) -> None:
        self._told.extend((trio.current_time(), line) for line in text.splitlines())
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def notified(folder: Path) -> AsyncIterator[Notified]:
    """A socket in this folder, which anybody may write to, heard all the while."""
    path = folder / "notify"
    heard = Notified(str(path))
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        await sock.bind(str(path))
        path.chmod(0o777)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heard.listen, sock)
            yield heard
            nursery.cancel_scope.cancel()
