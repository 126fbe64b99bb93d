"""A router on a socket: order, latency, and every way in which it fails its callers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import ssl

from attrs import define, field
import pytest
import trio

from opendesk.network.routeros.codec import Decoder, Sentence, encode
from opendesk.simulators.routeros import PASSWORD, USER, Act, Router, Slow, Trapped, simulated

LISTS = "/ip/firewall/address-list"
LOGIN = ("/login", f"=name={USER}", f"=password={PASSWORD}")
CERTIFICATES = Path(__file__).parents[2] / "web" / "certificates"
# What a test that hangs is given; nothing is measured by it.
PATIENCE_S = 20


@define
class Wire:
    stream: trio.abc.Stream
    decoder: Decoder = field(factory=Decoder)
    heard: list[Sentence] = field(factory=list)

    async def send(self, *commands: tuple[str, ...]) -> None:
        await self.stream.send_all(b"".join(encode([word.encode() for word in words]) for words in commands))

    async def hear(self, count: int) -> list[Sentence]:
        while len(self.heard) < count:
            data = await self.stream.receive_some(4096)
            if not data:
                raise EOFError
            self.heard += self.decoder.feed(bytes(data))
        told, self.heard = self.heard[:count], self.heard[count:]
        return told

    async def ask(self, *words: str, answers: int = 1) -> list[Sentence]:
        await self.send(words)
        return await self.hear(answers)

    async def end(self) -> bytes:
        """How it ends: with these bytes after what was heard, or with a reset."""
        data = b""
        while more := await self.stream.receive_some(4096):
            data += more
        return data


@asynccontextmanager
async def wired(router: Router, *, latency_s: float = 0.0) -> AsyncIterator[Wire]:
    async with simulated(router, latency_s=latency_s) as (host, port):
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                yield Wire(stream)


@asynccontextmanager
async def logged_in(router: Router, *, latency_s: float = 0.0) -> AsyncIterator[Wire]:
    async with wired(router, latency_s=latency_s) as wire:
        assert await wire.ask(*LOGIN) == [(b"!done",)]
        yield wire


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # a simulator tells nobody of its counts
        await trio.sleep(0.001)


def add(number: int) -> tuple[str, ...]:
    return (f"{LISTS}/add", f"=address=10.0.0.{number}", "=list=a", f".tag={number}")


def ids(router: Router) -> list[str]:
    return [row[".id"] for row in router.rows(LISTS)]


@pytest.mark.parametrize("latency_s", [0.0, 0.02])
async def test_commands_are_done_and_answered_in_the_order_they_were_sent(latency_s: float) -> None:
    router = Router()
    async with logged_in(router, latency_s=latency_s) as wire:
        for number in range(1, 101):
            await wire.send(add(number))
        assert await wire.hear(100) == [
            (b"!done", f"=ret=*{n:X}".encode(), f".tag={n}".encode()) for n in range(1, 101)
        ]


async def test_what_is_sent_without_waiting_is_one_round_trip() -> None:
    router = Router()
    async with logged_in(router, latency_s=0.05) as wire:
        await wire.send(*(add(number) for number in range(1, 11)))
        await wire.hear(10)
        for number in range(11, 14):
            await wire.ask(*add(number))
        assert (router.counts.round_trips, router.counts.commands, router.counts.logins) == (1 + 1 + 3, 13, 1)
        assert (router.counts.connections, router.counts.open) == (1, 1)


async def test_sentences_may_come_in_any_pieces() -> None:
    async with wired(Router()) as wire:
        for byte in encode([word.encode() for word in LOGIN]):
            await wire.stream.send_all(bytes([byte]))
        assert await wire.hear(1) == [(b"!done",)]


async def test_what_is_no_sentence_ends_the_connection() -> None:
    async with logged_in(Router()) as wire:
        await wire.stream.send_all(b"\xff" * 10)
        with pytest.raises(trio.BrokenResourceError):
            await wire.end()


async def test_who_did_not_log_in_is_told_why_it_ends() -> None:
    async with wired(Router()) as wire:
        assert await wire.ask(f"{LISTS}/print") == [(b"!fatal", b"not logged in")]
        assert await wire.end() == b""


async def test_tls() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "first.pem", CERTIFICATES / "first.key")
    trusted = ssl.create_default_context(cafile=str(CERTIFICATES / "first.pem"))
    async with simulated(Router(), tls=context) as (host, port):
        with trio.fail_after(PATIENCE_S):
            tcp = await trio.open_tcp_stream(host, port)
            async with trio.SSLStream(tcp, trusted, server_hostname="localhost", https_compatible=True) as stream:
                assert await Wire(stream).ask(*LOGIN) == [(b"!done",)]


async def test_a_change_is_told_to_who_listens_on_another_connection() -> None:
    router = Router()
    async with logged_in(router) as wire:
        await wire.send((f"{LISTS}/listen", "=.proplist=.id", ".tag=1"), ("/system/identity/print", ".tag=2"))
        assert (await wire.hear(2))[1] == (b"!done", b".tag=2")
        router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a"})
        assert await wire.hear(1) == [(b"!re", b"=.id=*1", b".tag=1")]


async def test_a_reboot_ends_the_connections_of_others_and_none_is_taken_until_it_is_up() -> None:
    router = Router()
    async with simulated(router) as (host, port):
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream(host, port) as one, await trio.open_tcp_stream(host, port) as other:
                for stream in (one, other):
                    await Wire(stream).ask(*LOGIN)
                assert await Wire(one).ask("/system/reboot") == [(b"!done",)]
                with pytest.raises(trio.BrokenResourceError):
                    await Wire(other).end()
            router.reboot(down_s=1000)
            async with await trio.open_tcp_stream(host, port) as stream:
                with pytest.raises((trio.BrokenResourceError, EOFError)):
                    await Wire(stream).ask(*LOGIN)


@pytest.mark.parametrize(("act", "done"), [(Act.DROP_BEFORE, []), (Act.DROP_AFTER, ["*1"]), (Act.DROP_MIDWAY, ["*1"])])
async def test_a_connection_that_is_cut_around_a_command(act: Act, done: list[str]) -> None:
    router = Router()
    router.faults.plan(act, "*/add")
    async with logged_in(router) as wire:
        await wire.send(add(1), add(2))
        with pytest.raises(trio.BrokenResourceError):
            await wire.hear(1)
        assert ids(router) == done
        assert wire.decoder.is_inside is (act is Act.DROP_MIDWAY)


async def test_a_command_that_is_planned_to_fail_is_picked_by_its_name_and_turn() -> None:
    router = Router()
    router.faults.plan(Trapped(4, "failure: disk full"), "*/add", skip=1, times=2)
    async with logged_in(router) as wire:
        assert await wire.ask(*add(1)) == [(b"!done", b"=ret=*1", b".tag=1")]
        for number in (2, 3):
            tag = f".tag={number}".encode()
            trap = (b"!trap", b"=category=4", b"=message=failure: disk full", tag)
            assert await wire.ask(*add(number), answers=2) == [trap, (b"!done", tag)]
        assert await wire.ask(*add(4)) == [(b"!done", b"=ret=*2", b".tag=4")]
    assert ids(router) == ["*1", "*2"]


async def test_a_lie_is_answered_as_the_truth_would_be_and_nothing_is_done() -> None:
    router = Router()
    router.faults.decide = lambda request: None if request.verb == "print" else Act.LIE
    async with logged_in(router) as wire:
        assert await wire.ask(*add(1)) == [(b"!done", b"=ret=*1", b".tag=1")]
        assert await wire.ask(f"{LISTS}/print", answers=2) == [(b"!empty",), (b"!done",)]
        assert (await wire.ask(f"{LISTS}/remove", "=.id=*1", answers=2))[0][0] == b"!trap"
    assert ids(router) == []


async def test_an_answer_in_drips_is_the_same_answer() -> None:
    router = Router()
    async with logged_in(router) as wire:
        router.faults.drip_s = 0.001
        assert await wire.ask("/system/identity/print", answers=2) == [(b"!re", b"=name=router"), (b"!done",)]


async def test_a_slow_answer_holds_up_those_after_it_and_loses_none() -> None:
    router = Router()
    router.faults.plan(Slow(0.05), "*/add")
    async with logged_in(router) as wire:
        await wire.send(add(1), add(2))
        assert [words[-1] for words in await wire.hear(2)] == [b".tag=1", b".tag=2"]


async def test_a_command_that_is_not_answered_holds_up_no_other() -> None:
    router = Router()
    router.faults.plan(Act.SILENT, "*/add")
    async with logged_in(router) as wire:
        await wire.send(add(1), add(2), ("/cancel", "=tag=1", ".tag=9"))
        told = [(words[0], words[-1]) for words in await wire.hear(4)]
    assert told == [(b"!done", b".tag=2"), (b"!trap", b".tag=1"), (b"!done", b".tag=1"), (b"!done", b".tag=9")]


async def test_a_black_hole_takes_everything_and_answers_nothing_until_it_is_mended() -> None:
    router = Router()
    router.faults.black_hole = True
    async with wired(router) as wire:
        await wire.send(LOGIN)
        await until(lambda: router.counts.round_trips == 1)
        router.faults.clear()
        assert await wire.ask(*LOGIN) == [(b"!done",)]
    assert router.counts.logins == 1


async def test_a_router_that_refuses_connections_or_logins() -> None:
    router = Router()
    router.faults.refuses_login = True
    async with wired(router) as wire:
        assert (await wire.ask(*LOGIN, answers=2))[0][0] == b"!trap"
    router.faults.refuses_connections = True
    async with wired(router) as wire:
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            await wire.ask(*LOGIN)


async def test_a_caller_who_hangs_up_leaves_nothing_behind() -> None:
    router = Router()
    async with simulated(router) as (host, port):
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                wire = Wire(stream)
                await wire.ask(*LOGIN)
                await wire.send((f"{LISTS}/listen",))
            await until(lambda: not router.counts.open)
    assert not router.hang_ups
    assert len(router.state.watchers) == 1
