"""Sockets that die at every stage of a frame: nobody is given half a message as a whole, and the next one to come finds all in order."""

from collections.abc import Awaitable, Callable, Iterator
import json
import socket
import struct

from attrs import frozen
import pytest
import trio
import trio.testing

from opendesk.stream.tokens import Role
from tests.stream.conftest import Limited
from tests.stream.framing import BINARY, CLOSE, CONTINUATION, PING, TEXT, sent
from tests.stream.relaying import Relaying, Socket, handshake

HOST, CLIENT = Role.HOST, Role.CLIENT
MANY = {"attempts": 10_000, "clients": 1000, "host_bytes_per_s": 10**9}
# In longer ones: each byte of the header and the first few after it, one in the midst, the last ones.
MOST_CUTS, FIRST_CUTS = 40, 16

Die = Callable[[trio.SocketStream], Awaitable[None]]
Before = Callable[[], Awaitable[None]]


async def reset(stream: trio.SocketStream) -> None:
    """As when the machine behind it drops it."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def close(stream: trio.SocketStream) -> None:
    """As when its program ends."""
    await trio.aclose_forcefully(stream)


async def settled() -> None:
    """All that was sent is taken in."""
    await trio.testing.wait_all_tasks_blocked(0.002)


async def at_once() -> None:
    """What was sent may still be on its way, and may be lost with its sender."""


DEATHS = pytest.mark.parametrize("die", [reset, close])
BEFORE = pytest.mark.parametrize("before_death", [settled, at_once])


@frozen
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def sent(self) -> bytes:
        return sent(self.opcode, self.payload, fin=self.fin)

    @property
    def head(self) -> int:
        return len(self.sent) - len(self.payload)


Frames = tuple[Frame, ...]


def cuts(frames: Frames) -> Iterator[int]:
    size = len(data_of(frames))
    if size <= MOST_CUTS:
        yield from range(size + 1)
    else:
        yield from (*range(FIRST_CUTS), size // 2, size - 2, size - 1, size)


def data_of(frames: Frames) -> bytes:
    return b"".join(frame.sent for frame in frames)


def told(frames: Frames, cut: int) -> tuple[list[bytes | str], bool]:
    """The messages that are whole in the first `cut` bytes, of texts the type; and whether a picture is begun that isn't ended yet."""
    whole = list[bytes | str]()
    payload, is_text, begun = b"", False, False
    for frame in frames:
        if frame.opcode in {BINARY, TEXT}:
            payload, is_text = b"", frame.opcode == TEXT
        # A picture is passed on as soon as a header is there.
        if frame.opcode in {CONTINUATION, BINARY, TEXT} and cut >= frame.head:
            payload += frame.payload
            begun = not is_text
            if cut >= len(frame.sent) and frame.fin:
                whole.append(type_of(payload) if is_text else payload)
                begun = False
        cut -= len(frame.sent)
        if cut <= 0:
            break
    return whole, begun


def type_of(text: str | bytes) -> str:
    return str(json.loads(text)["type"])


def living() -> int:
    """How many tasks there are, but for the look that begins some time after the relay."""
    found, waiting = 0, [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found += not task.name.endswith(".every")
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def at_rest(on: Relaying) -> int:
    """How many tasks there are when all has begun and nobody is there."""
    client = await on.enter(CLIENT)
    await close(client.stream)
    while on.relay.rooms:  # noqa: ASYNC110  # nobody tells
        await trio.sleep(0.01)
    await trio.testing.wait_all_tasks_blocked(0.05)
    return living()


async def only(tasks: int) -> None:
    while living() > tasks:  # noqa: ASYNC110  # nobody tells
        await trio.sleep(0.01)


async def nothing_is_left(on: Relaying, tasks: int) -> None:
    await only(tasks)
    assert not on.relay.rooms


PICTURES: dict[str, Frames] = {
    "7 bits of length": (Frame(BINARY, b"hello"),),
    "an empty one": (Frame(BINARY, b""),),
    "16 bits": (Frame(BINARY, bytes(300)),),
    "64 bits": (Frame(BINARY, bytes(70_000)),),
    "two": (Frame(BINARY, b"one"), Frame(BINARY, b"two")),
    "fragments": (
        Frame(BINARY, b"one", fin=False),
        Frame(PING, b"!"),
        Frame(CONTINUATION, b"", fin=False),
        Frame(CONTINUATION, b"two"),
    ),
}
CONTROL: dict[str, Frames] = {"ping": (Frame(PING, b"ping"),), "close": (Frame(CLOSE, b"\x03\xe8bye"),)}
TEXTS = ("text", "text in fragments")


def text_of(kind: str, text: str) -> Frames:
    data = text.encode()
    if kind == "text":
        return (Frame(TEXT, data),)
    return Frame(TEXT, data[:20], fin=False), Frame(PING, b"!"), Frame(CONTINUATION, data[20:])


# ---- hosts


async def another_host(on: Relaying, client: Socket, mark: bytes) -> tuple[Socket, Socket, list[bytes | str], bool]:
    """One that comes and is heard; also what the client heard before that, and whether it was cut off, and came anew."""
    host = await on.enter(HOST)
    await host.picture(mark)
    heard, cut_off = list[bytes | str](), False
    while (got := await client.next()) != mark:
        if got is None:
            assert client.was_reset, "what came might be taken for all of it"
            cut_off, client = True, await on.enter(CLIENT)
            await host.picture(mark)
        else:
            heard.append(type_of(got) if isinstance(got, str) else got)
    return host, client, heard, cut_off


@DEATHS
@BEFORE
@pytest.mark.parametrize("kind", [*PICTURES, *CONTROL, *TEXTS])
async def test_a_host_that_dies_anywhere_leaves_no_half_message(
    limited: Limited, die: Die, before_death: Before, kind: str
) -> None:
    async with limited(**MANY) as on:
        tasks = await at_rest(on)
        pong = {name: each for name, each in on.query(HOST).items() if name != "token"}
        frames = {**PICTURES, **CONTROL}.get(kind) or text_of(
            kind, json.dumps({"type": "stream_pong", "pingId": 1, **pong})
        )
        client, host = await on.enter(CLIENT), await on.enter(HOST)
        for cut in cuts(frames):
            await host.stream.send_all(data_of(frames)[:cut])
            await before_death()
            await die(host.stream)
            whole, begun = told(frames, cut)
            host, client, heard, cut_off = await another_host(on, client, b"after %d" % cut)
            assert heard == whole[: len(heard)]
            if before_death is settled:
                assert cut_off == begun
                assert cut_off or heard == whole
        for each in (host, client):
            await die(each.stream)
        await nothing_is_left(on, tasks)


# ---- clients


@DEATHS
@BEFORE
@pytest.mark.parametrize("kind", [*PICTURES, *CONTROL, *TEXTS])
async def test_a_client_that_dies_anywhere_says_nothing_by_halves(
    limited: Limited, die: Die, before_death: Before, kind: str
) -> None:
    async with limited(**MANY) as on:
        tasks = await at_rest(on)
        frames = {**PICTURES, **CONTROL}.get(kind) or text_of(kind, ping_of(on, 1))
        host, other = await on.enter(HOST), await on.enter(CLIENT)
        for cut in cuts(frames):
            client = await on.enter(CLIENT)
            await client.stream.send_all(data_of(frames)[:cut])
            await before_death()
            await die(client.stream)
            await host.picture(b"after %d" % cut)
            assert await other.next() == b"after %d" % cut
            await other.say(ping_of(on, 2))
            heard = [json.loads(await host.next())["pingId"]]
            if heard == [1]:
                heard.append(json.loads(await host.next())["pingId"])
            said = [1] if kind in TEXTS and told(frames, cut)[0] else []
            assert heard in ([[*said, 2]] if before_death is settled else [[*said, 2], [2]])
        for each in (host, other):
            await die(each.stream)
        await nothing_is_left(on, tasks)


def ping_of(on: Relaying, number: int) -> str:
    ids = {name: on.query(CLIENT)[name] for name in ("token", "sessionId", "streamId")}
    return json.dumps({"type": "stream_ping", "pingId": number, "sentAtUs": 0, **ids})


@DEATHS
@pytest.mark.parametrize("kind", PICTURES)
async def test_a_client_that_dies_while_a_picture_is_on_its_way_takes_it_from_nobody_else(
    limited: Limited, die: Die, kind: str
) -> None:
    frames = PICTURES[kind]
    data = data_of(frames)
    async with limited(**MANY) as on:
        tasks = await at_rest(on)
        host, other = await on.enter(HOST), await on.enter(CLIENT)
        for cut in cuts(frames):
            early = await on.enter(CLIENT)
            await host.stream.send_all(data[:cut])
            await settled()
            late = await on.enter(CLIENT)  # perhaps in the midst of one: it gets the next
            await die(early.stream)
            await host.stream.send_all(data[cut:])
            await host.picture(b"next")
            for whole in (*told(frames, len(data))[0], b"next"):
                assert await other.next() == whole
            came = [await late.next()]
            while came[-1] != b"next":
                came.append(await late.next())
            assert came == [*told(frames, len(data))[0][-len(came) + 1 :], b"next"][-len(came) :]
            await die(late.stream)
        for each in (host, other):
            await die(each.stream)
        await nothing_is_left(on, tasks)


# ---- at the door


@DEATHS
@pytest.mark.parametrize("role", Role)
async def test_a_handshake_that_dies_anywhere_leaves_nothing(limited: Limited, die: Die, role: Role) -> None:
    async with limited(**MANY) as on:
        tasks = await at_rest(on)
        client = await on.enter(CLIENT)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with_client = living()
        head = handshake(on.query(role))
        for cut in range(len(head) + 1):
            stream = await on.connect()
            await stream.send_all(head[:cut])
            await die(stream)
        for answered in (1, 50, 100):  # of the 101, and before the welcome
            stream = await on.connect()
            await stream.send_all(head)
            await stream.receive_some(answered)
            await die(stream)
        await only(with_client)  # of two hosts the one whose token is looked at last is the one that stays
        host = await on.enter(HOST)
        await host.picture(b"all as ever")
        assert await client.next() == b"all as ever"
        for each in (host, client):
            await die(each.stream)
        await nothing_is_left(on, tasks)
