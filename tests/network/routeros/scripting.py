"""A router that says what a test tells it to, over memory: with a codec of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, final

from attrs import define, field
import trio
import trio.testing

from opendesk.network.routeros.client import Client, connect
from opendesk.network.routeros.transport import Target
from opendesk.settings.secret import Secret

PASSWORD = "pass-of-a-test"
TARGET = Target("router.test", 8728, "api", Secret(PASSWORD), timeout_s=5)


def told(size: int) -> bytes:
    """A length, as MikroTik's documentation has it in words."""
    if size < 0x80:
        return bytes([size])
    if size < 0x4000:
        return (size | 0x8000).to_bytes(2, "big")
    if size < 0x200000:
        return (size | 0xC00000).to_bytes(3, "big")
    if size < 0x10000000:
        return (size | 0xE0000000).to_bytes(4, "big")
    return b"\xf0" + size.to_bytes(4, "big")


def said(*words: str | bytes) -> bytes:
    raw = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"".join(told(len(word)) + word for word in raw) + b"\0"


@final
@define(eq=False)
class Counted(trio.abc.Stream):
    """A stream that keeps what each send sent."""

    inner: trio.abc.Stream
    sends: list[bytes] = field(factory=list)

    async def send_all(self, data: Any) -> None:
        self.sends.append(bytes(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


@define(eq=False)
class FakeRouter:
    stream: trio.abc.Stream
    _data: bytearray = field(factory=bytearray)
    _saying: trio.Lock = field(factory=trio.Lock)

    async def hear(self) -> list[str]:
        """The next sentence."""
        words = []
        while word := await self._word():
            words.append(word.decode())
        return words

    async def say(self, *words: str | bytes) -> None:
        async with self._saying:
            await self.stream.send_all(said(*words))

    async def let_in(self) -> None:
        words = await self.hear()
        assert words == ["/login", "=name=api", f"=password={PASSWORD}", words[-1]]
        await self.say("!done", words[-1])

    async def _word(self) -> bytes:
        size = (await self._take(1))[0]
        if size >= 0x80:
            assert size < 0xC0, "a test that speaks in longer words is no test of this"
            size = int.from_bytes(bytes([size - 0x80]) + await self._take(1), "big")
        return bytes(await self._take(size))

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._data += data
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


@asynccontextmanager
async def talking(target: Target = TARGET) -> AsyncIterator[tuple[Client, FakeRouter, Counted]]:
    """A client that is logged in, its router, and what it sent."""
    near, far = trio.testing.memory_stream_pair()
    router, counted = FakeRouter(far), Counted(near)

    async def open_counted(_target: Target) -> trio.abc.Stream:
        return counted

    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.let_in)
        async with connect(target, open_stream=open_counted) as client:
            counted.sends.clear()
            yield client, router, counted
        await far.aclose()
