"""A PC that streams: frames go out at a pace, pings are answered, input is taken."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field
import trio

from opendesk.simulators import pictures
from opendesk.simulators.relay_socket import Closed, RelaySocket

_NS_A_US: Final = 1000

Clock = Callable[[], int]


@define(eq=False)
class StreamingHost:
    """`interval_s` is asked before each frame; `clock` is monotonic, in nanoseconds."""

    _socket: RelaySocket
    _interval_s: Callable[[], float]
    _clock: Clock
    sent: int = 0  # frames
    pongs: int = 0
    inputs: int = 0
    is_dark: bool = False  # its power is gone
    _turn: trio.Lock = field(factory=trio.Lock)

    async def run(self) -> tuple[int, str]:
        """Until the socket is closed; why it was."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show)
            why = await self._listen()
            nursery.cancel_scope.cancel()
        return why

    async def last_frame(self) -> int:
        """Send a last one, and no more; its number. Raise Closed."""
        async with self._turn:
            self.is_dark = True
            await self._send_frame()
            return self.sent - 1

    async def go_dark(self) -> None:
        self.is_dark = True
        await self._socket.tear()

    async def _show(self) -> None:
        while True:
            async with self._turn:
                if self.is_dark:
                    return
                try:
                    await self._send_frame()
                except Closed:  # why, `_listen` is told
                    return
            await trio.sleep(self._interval_s())

    async def _send_frame(self) -> None:
        number = self.sent
        self.sent += 1
        await self._socket.send(pictures.frame(number, self._clock()))

    async def _listen(self) -> tuple[int, str]:
        try:
            while True:
                word = await self._socket.next()
                if not isinstance(word, bytes):
                    await self._heed(word)
        except Closed as closed:
            return closed.why

    async def _heed(self, word: Mapping[str, Any]) -> None:
        if word["type"] == "input_event":
            self.inputs += 1
        elif word["type"] == "stream_ping":
            now_us = self._clock() // _NS_A_US
            await self._socket.say(
                "stream_pong",
                pingId=word["pingId"],
                sentAtUs=word["sentAtUs"],
                receivedAtUs=now_us,
                hostTsUs=self._clock() // _NS_A_US,
            )
            self.pongs += 1
