"""Every stream of a day: opened when a session starts, seen to be closed by the relay when it ends."""

from collections.abc import Sequence
import time
from typing import Final

from attrs import define, field, frozen
import trio

from opendesk.simulators.api_client import PromiseBroken
from opendesk.simulators.people import Account
from opendesk.simulators.relay_socket import SESSION_CLOSED, Closed, Ticket, at_the_relay
from opendesk.simulators.stream_client import Seen, StreamingClient
from opendesk.simulators.stream_host import Clock, StreamingHost

# Of one stream, as long as there are few.
FRAMES_A_SECOND: Final = 30
# Of all of them. Both sides of all streams are one process in Python, beside a daemon that relays them: on two cores more would be late for
# want of CPU, and say nothing of the relay. So a crowd shares it.
MOST_FRAMES_A_SECOND: Final = 300

# From `stream/start` to the first frame: some hundredths of a second, and on a machine that does much else a second.
OPENS_WITHIN_S: Final = 20.0
# The relay promises one second from the end of a session; the rest is for a machine that does much else.
CLOSES_WITHIN_S: Final = 5.0
# A last frame on its way through the relay.
SEEN_WITHIN_S: Final = 5.0

_MEGABYTE: Final = 1_000_000


@frozen
class StreamSums:
    """What came of a day's streams. Milliseconds; None where nothing was measured. `inputs` are those that hosts took."""

    streams: int
    live: int
    frames: int
    megabytes: float
    frames_lost: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    round_trip_p50_ms: float | None
    inputs: int
    pongs: int


@define(eq=False)
class Stream:
    """One session's two sides. `run` serves them until the relay closes both."""

    session_id: str
    host_id: str
    host: StreamingHost
    client: StreamingClient
    _over: trio.Event = field(factory=trio.Event)

    async def run(self) -> None:
        """Raise PromiseBroken if either is closed otherwise than by the session's end; a host that went dark closed itself."""
        whys: dict[str, tuple[int, str]] = {}

        async def serve(name: str, side: StreamingHost | StreamingClient) -> None:
            whys[name] = await side.run()

        async with trio.open_nursery() as both:
            both.start_soon(serve, "host", self.host)
            both.start_soon(serve, "client", self.client)
        wrong = {name: why for name, why in whys.items() if why != SESSION_CLOSED}
        if self.host.is_dark:
            wrong.pop("host", None)
        if wrong:
            raise PromiseBroken(f"the relay closed the stream of session {self.session_id} with {wrong}")
        self._over.set()

    async def closed(self) -> None:
        """Wait for it. Raise PromiseBroken."""
        with trio.move_on_after(CLOSES_WITHIN_S):
            await self._over.wait()
            return
        raise PromiseBroken(
            f"session {self.session_id} is over, and its stream was open for {CLOSES_WITHIN_S:g} s more"
        )

    async def lose_host(self) -> None:
        """The host's power goes, after a frame that the client saw. Nothing is to be lost of a session that is over. Raise PromiseBroken."""
        with trio.move_on_after(SEEN_WITHIN_S):
            try:
                await self.client.saw(await self.host.last_frame())
            except Closed as closed:
                if closed.why != SESSION_CLOSED:
                    raise PromiseBroken(f"the stream of session {self.session_id} was {closed}") from None
            await self.host.go_dark()
            return
        raise PromiseBroken(f"a frame of session {self.session_id} did not arrive within {SEEN_WITHIN_S:g} s")


@define(eq=False)
class Streams:
    """`clock` is monotonic, in nanoseconds; both sides read it."""

    _nursery: trio.Nursery
    _clock: Clock = time.monotonic_ns
    _seen: Seen = field(factory=Seen)
    _live: dict[str, Stream] = field(factory=dict)  # by session
    _over: list[int] = field(factory=lambda: [0, 0, 0])  # of those that ended: how many, inputs, pongs

    async def open(self, session_id: str, *, host: Account, client: Account) -> None:
        """Bring both together; they stream until the session ends. Raise ApiError, ApiUnreachable, PromiseBroken.

        The host is there before the client, as it must be: a relay that sees a client wait takes it for proof against the host, and in a
        day in fast motion half a minute is nothing. It returns when the client has seen a frame.
        """
        assert host.host_id is not None
        tickets = (
            await Ticket.get(client.api, session_id, "client", client.user_id),
            await Ticket.get(host.api, session_id, "host", host.user_id),
        )
        with trio.move_on_after(OPENS_WITHIN_S):
            self._live[session_id] = await self._nursery.start(self._serve, host.host_id, *tickets)
            return
        raise PromiseBroken(f"no frame of session {session_id} arrived within {OPENS_WITHIN_S:g} s")

    async def closed(self, session_id: str) -> None:
        """The session is over: wait until the relay has closed its stream, if it had one. Raise PromiseBroken."""
        stream = self._live.pop(session_id, None)
        if stream is not None:
            await stream.closed()
            self._over = [a + b for a, b in zip(self._over, (1, *_words([stream])), strict=True)]

    async def lose_host(self, host_id: str) -> None:
        """The host's power goes. Raise PromiseBroken."""
        for stream in [stream for stream in self._live.values() if stream.host_id == host_id]:
            await stream.lose_host()

    def sums(self) -> StreamSums:
        """Up to now."""
        seen, live = self._seen, list(self._live.values())
        over, inputs, pongs = self._over
        new_inputs, new_pongs = _words(live)
        return StreamSums(
            streams=over + len(live),
            live=len(live),
            frames=seen.frames,
            megabytes=round(seen.bytes / _MEGABYTE, 3),
            frames_lost=seen.lost,
            latency_p50_ms=_rounded(seen.latencies.percentile_ms(50)),
            latency_p99_ms=_rounded(seen.latencies.percentile_ms(99)),
            round_trip_p50_ms=_rounded(seen.round_trips.percentile_ms(50)),
            inputs=inputs + new_inputs,
            pongs=pongs + new_pongs,
        )

    async def _serve(self, host_id: str, client: Ticket, host: Ticket, *, task_status: trio.TaskStatus[Stream]) -> None:
        async with at_the_relay(host) as host_socket, at_the_relay(client) as client_socket:
            stream = Stream(
                client.session_id,
                host_id,
                StreamingHost(host_socket, self._interval_s, self._clock),
                StreamingClient(client_socket, self._seen, self._clock),
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.run)
                await stream.client.saw(0)
                task_status.started(stream)

    def _interval_s(self) -> float:
        return max(1 / FRAMES_A_SECOND, len(self._live) / MOST_FRAMES_A_SECOND)


def _words(streams: Sequence[Stream]) -> tuple[int, int]:
    return sum(stream.host.inputs for stream in streams), sum(stream.host.pongs for stream in streams)


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)
