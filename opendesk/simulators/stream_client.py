"""A client's app: it sees what comes, counts it, pings, and moves the mouse now and then."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
import trio
from trio.lowlevel import ParkingLot

from opendesk.simulators import pictures
from opendesk.simulators.api_client import PromiseBroken
from opendesk.simulators.latencies import Latencies
from opendesk.simulators.pictures import InOrder, Spoilt
from opendesk.simulators.relay_socket import Closed, RelaySocket
from opendesk.simulators.stream_host import Clock

# A player's hand is faster; two words a round are enough to see that they arrive.
HAND_EVERY_S: Final = 0.5

_NS_A_US: Final = 1000


@define
class Seen:
    """What clients saw, of one stream or of all of them. Latency is one way, the round trip is a ping's."""

    frames: int = 0
    bytes: int = 0
    lost: int = 0
    latencies: Latencies = field(factory=Latencies)
    round_trips: Latencies = field(factory=Latencies)


@define(eq=False)
class StreamingClient:
    """`seen` may be shared with others. `clock` is monotonic, in nanoseconds, and the host's own."""

    _socket: RelaySocket
    _seen: Seen
    _clock: Clock
    _order: InOrder = field(factory=InOrder)
    _words: int = 0
    _is_closed: bool = False
    _news: ParkingLot = field(factory=ParkingLot)

    async def run(self) -> tuple[int, str]:
        """Until the socket is closed; why it was. Raise PromiseBroken if what came is not what was sent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play)
            why = await self._watch()
            self._is_closed = True
            self._news.unpark_all()
            nursery.cancel_scope.cancel()
        return why

    async def saw(self, number: int) -> None:
        """Wait until that frame came, or a later one, or none can come any more."""
        while self._order.came + self._order.lost <= number and not self._is_closed:
            await self._news.park()

    async def _watch(self) -> tuple[int, str]:
        try:
            while True:
                message = await self._socket.next()
                if isinstance(message, bytes):
                    self._look(message)
                else:
                    self._heed(message)
        except Closed as closed:
            return closed.why
        except Spoilt as spoilt:
            raise PromiseBroken(f"the relay brought a client what no host sent: {spoilt}") from None

    def _look(self, data: bytes) -> None:
        stamp, lost = pictures.read(data), self._order.lost
        self._order.note(stamp.number)
        self._seen.frames += 1
        self._seen.bytes += len(data)
        self._seen.lost += self._order.lost - lost
        self._seen.latencies.note(self._clock() - stamp.sent_ns)
        self._news.unpark_all()

    def _heed(self, word: Mapping[str, Any]) -> None:
        if word["type"] == "stream_pong":
            self._seen.round_trips.note(self._clock() - word["sentAtUs"] * _NS_A_US)

    async def _play(self) -> None:
        try:
            while True:
                self._words += 1
                now_us = self._clock() // _NS_A_US
                await self._socket.say("stream_ping", pingId=self._words, sentAtUs=now_us)
                moved = {"type": "mouse_move", "dx": 3, "dy": -2, "seq": self._words, "tsUs": now_us}
                await self._socket.say("input_event", event=moved)
                await trio.sleep(HAND_EVERY_S)
        except Closed:  # why, `_watch` is told
            return
