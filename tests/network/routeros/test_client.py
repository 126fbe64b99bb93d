"""Many commands on one connection, each with its own answer and end, on a virtual clock."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
import trio
import trio.testing

from opendesk.network.routeros.client import DRAIN_S, MAX_IN_FLIGHT, Client
from opendesk.network.routeros.errors import Fatal, ProtocolError, TimedOut, TooMuch, Trap, Unreachable
from opendesk.network.routeros.exchanges import MAX_UNHEARD
from opendesk.network.routeros.session import MAX_ROWS, Command, Result
from tests.network.routeros.scripting import FakeRouter, said, talking

PRINT = Command("/ip/address/print")
SET = Command("/ip/address/set", {".id": "*1", "comment": "x"})


async def expect_unreachable(client: Client, match: str) -> None:
    with pytest.raises(Unreachable, match=match):
        await client.run(PRINT)


async def test_an_answer_comes_to_who_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, counted), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            words = await router.hear()
            assert words[:1] == ["/ip/address/print"]
            await router.say("!re", "=address=10.0.0.1/24", words[-1])
            await router.say("!done", words[-1])

        assert await client.run(PRINT) == Result(({"address": "10.0.0.1/24"},))
        assert len(counted.sends) == 1


async def test_a_trap_is_an_answer_and_the_next_command_works(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            await router.say("!trap", "=category=0", "=message=no such item", tag)
            await router.say("!trap", "=message=and more", tag)
            await router.say("!done", tag)
            await router.say("!done", "=ret=*2", (await router.hear())[-1])

        with pytest.raises(Trap, match="no such item; and more") as caught:
            await client.run(SET)
        assert caught.value.is_missing
        assert (await client.run(SET)).ret == "*2"


async def test_commands_together_are_one_send_answered_in_the_order_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking() as (client, router, counted), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tags = [(await router.hear())[-1] for _ in range(3)]
            await router.say("!done", "=ret=third", tags[2])
            await router.say("!trap", "=message=no", tags[1])
            await router.say("!done", "=ret=first", tags[0])
            await router.say("!done", tags[1])

        first, second, third = await client.run_all([PRINT, SET, PRINT])
        assert (first, third) == (Result((), "first"), Result((), "third"))
        assert isinstance(second, Trap)
        assert len(counted.sends) == 1


async def test_no_commands_are_no_sends(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, _, counted):
        assert await client.run_all([]) == []
        assert counted.sends == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), cuts=st.lists(st.integers(1, 30), min_size=1))
async def test_tasks_at_once_get_their_own_answers_in_any_order_and_pieces(
    order: Sequence[int], cuts: Sequence[int]
) -> None:
    got: dict[str, Result] = {}
    async with talking() as (client, router, _):

        async def ask(name: str) -> None:
            got[name] = await client.run(Command("/x/print", {"name": name}))

        async with trio.open_nursery() as nursery:
            for n in range(6):
                nursery.start_soon(ask, str(n))
            asked = [await router.hear() for _ in range(6)]
            wire = b""
            for n in order:
                name, tag = asked[n][1], asked[n][2]
                wire += said("!re", name, tag) + said("!done", f"=ret={name}", tag)
            while wire:
                for cut in cuts:
                    await router.stream.send_all(wire[:cut])
                    wire = wire[cut:]
    assert got == {str(n): Result(({"name": str(n)},), f"=name={n}") for n in range(6)}


async def test_time_that_is_up_cancels_on_the_router_and_the_connection_lives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking() as (client, router, counted), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            cancel = await router.hear()
            assert cancel[:2] == ["/cancel", f"=tag={tag.removeprefix('.tag=')}"]
            await router.say("!done", cancel[-1])
            await router.say("!trap", "=category=2", "=message=interrupted", tag)
            await router.say("!done", tag)
            await router.say("!done", (await router.hear())[-1])

        with pytest.raises(TimedOut, match="within 1 s to /ip/address/set"):
            await client.run(SET, timeout_s=1)
        assert not client.is_closed
        assert await client.run(PRINT) == Result()
        assert len(counted.sends) == 3


async def test_a_cancelled_task_leaves_only_once_the_router_has_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    is_stopped = False
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            nonlocal is_stopped
            tag = (await router.hear())[-1]
            canceller = (await router.hear())[-1]
            await trio.sleep(DRAIN_S / 2)
            is_stopped = True
            await router.say("!trap", "=category=2", tag)
            await router.say("!done", tag)
            await router.say("!done", canceller)

        with trio.move_on_after(0.5) as scope:
            await client.run(PRINT, timeout_s=math.inf)
        assert scope.cancelled_caught
        assert is_stopped
        assert not client.is_closed


async def test_a_router_that_doesnt_cancel_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            await router.hear()
            await router.say("!done", tag)  # but never says that the cancellation is done
            with pytest.raises(EOFError):
                await router.hear()

        with pytest.raises(TimedOut):
            await client.run(PRINT, timeout_s=1)
        await client.wait_closed()
        await expect_unreachable(client, "didn't cancel")


async def test_rows_that_never_end_dont_outlast_the_drain(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            with suppress(trio.BrokenResourceError):
                while True:
                    await router.say("!re", "=a=1", tag)
                    await trio.sleep(0.01)

        with pytest.raises(TimedOut):
            await client.run(PRINT, timeout_s=1)
        assert client.is_closed


async def test_a_silent_router_ends_all_that_wait_for_it_at_their_times(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended = []
    async with talking() as (client, _, _), trio.open_nursery() as nursery:

        async def ask(timeout_s: float) -> None:
            with pytest.raises((TimedOut, Unreachable)) as caught:
                await client.run(PRINT, timeout_s=timeout_s)
            ended.append((timeout_s, caught.type))

        for timeout_s in (1, 2, 30):
            nursery.start_soon(ask, timeout_s)
    # The one whose time was up first leaves the connection when nothing was cancelled either; the others needn't wait on.
    assert sorted(ended) == [(1, TimedOut), (2, TimedOut), (30, Unreachable)]


async def test_a_connection_that_ends_ends_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    errors: list[Unreachable] = []
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Unreachable) as caught:
                await client.run(PRINT)
            errors.append(caught.value)

        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await router.hear()
        await router.hear()
        await router.stream.send_all(said("!re", "=a=1", ".tag=2")[:-3])
        await router.stream.aclose()
        await client.wait_closed()
    assert [str(error) for error in errors] == [
        "The connection is gone: the router closed it in the middle of an answer"
    ] * 2
    assert errors[0] is not errors[1]


@pytest.mark.parametrize(
    ("wire", "cause", "text"),
    [
        (said("!fatal", "session terminated"), Fatal, "session terminated"),
        (b"\xff", ProtocolError, "0xFF"),
        (said("!done"), ProtocolError, "without a tag"),
        (b"\xf0\xff\xff\xff\xff", ProtocolError, "4294967295 bytes"),
        (b"\x05x", Unreachable, "in the middle"),
        (b"", Unreachable, "the router closed it$"),
    ],
)
async def test_what_ends_a_connection_is_its_reason_for_all_that_follow(
    wire: bytes, cause: type[Exception], text: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with talking() as (client, router, _):
        await router.stream.send_all(wire)
        if cause is Unreachable:
            await router.stream.aclose()
        await client.wait_closed()
        for _ in range(2):
            with pytest.raises(Unreachable, match=text) as caught:
                await client.run(PRINT)
            assert isinstance(caught.value.__cause__, cause)


async def test_a_command_given_up_in_the_middle_of_its_sending_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking() as (client, _, counted):
        stuck = trio.Event()
        counted.inner = Stuck(counted.inner, stuck)
        with pytest.raises(TimedOut):
            await client.run(PRINT, timeout_s=1)
        assert stuck.is_set()
        await expect_unreachable(client, "given up while it was sent")


async def test_who_gave_up_before_its_turn_to_send_harms_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, counted), trio.open_nursery() as nursery:
        counted.inner = slow = Slow(counted.inner)
        nursery.start_soon(client.run, SET)
        await slow.begun.wait()
        with pytest.raises(TimedOut):
            await client.run(PRINT, timeout_s=1)
        slow.go_on.set()
        words = await router.hear()
        assert words[0] == SET.path
        await router.say("!done", words[-1])
    assert [SET.path.encode() in send for send in counted.sends] == [True]


async def test_so_many_are_on_the_way_and_the_others_wait_here(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, counted), trio.open_nursery() as nursery:
        outcomes: list[Result | Trap] = []

        async def ask() -> None:
            outcomes.extend(await client.run_all([PRINT] * (MAX_IN_FLIGHT + 3)))

        nursery.start_soon(ask)
        tags = [(await router.hear())[-1] for _ in range(MAX_IN_FLIGHT)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(counted.sends) == 1
        with pytest.raises(TimedOut):
            await client.run(SET, timeout_s=1)  # no room for it: it is never sent
        for tag in tags:
            await router.say("!done", tag)
        for _ in range(3):
            await router.say("!done", (await router.hear())[-1])
        await trio.testing.wait_all_tasks_blocked()
        assert outcomes == [Result()] * (MAX_IN_FLIGHT + 3)
        assert len(counted.sends) == 2


async def test_an_answer_that_is_too_much_is_cancelled_and_the_connection_lives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            await router.stream.send_all(said("!re", tag) * (MAX_ROWS + 1))
            canceller = (await router.hear())[-1]
            await router.stream.send_all(said("!re", tag) * 10 + said("!trap", "=category=2", tag))
            await router.stream.send_all(said("!done", tag) + said("!done", canceller))
            await router.say("!done", (await router.hear())[-1])

        with pytest.raises(TooMuch, match=f"{MAX_ROWS} rows"):
            await client.run(PRINT)
        assert await client.run(PRINT) == Result()


async def obey_cancel(router: FakeRouter, tag: str) -> None:
    words = await router.hear()
    assert words[0] == "/cancel"
    await router.say("!trap", "=category=2", "=message=interrupted", tag)
    await router.say("!done", tag)
    await router.say("!done", words[-1])


async def test_who_listens_hears_rows_until_the_block_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            await router.say("!re", "=n=1", tag)
            await trio.sleep(100)  # longer than any command may take
            await router.say("!re", "=n=2", tag)
            await obey_cancel(router, tag)
            await router.say("!done", (await router.hear())[-1])

        async with client.listen(Command("/log/listen")) as rows:
            heard = []
            async for row in rows:
                heard.append(row["n"])
                if len(heard) == 2:
                    break
        assert heard == ["1", "2"]
        assert await client.run(PRINT) == Result()


Ending = Callable[[FakeRouter, str], Awaitable[None]]


async def _done(router: FakeRouter, tag: str) -> None:
    await router.say("!done", tag)


async def _trap(router: FakeRouter, tag: str) -> None:
    await router.say("!trap", "=message=not enough permissions (9)", tag)
    await router.say("!done", tag)


async def _closed(router: FakeRouter, _tag: str) -> None:
    await router.stream.aclose()


@pytest.mark.parametrize(("end", "error"), [(_done, None), (_trap, Trap), (_closed, Unreachable)])
async def test_listening_ends_as_the_router_ends_it_after_what_was_told(
    end: Ending, error: type[Exception] | None, autojump_clock: trio.testing.MockClock
) -> None:
    heard = []

    async def listen(client: Client) -> None:
        async with client.listen(Command("/log/listen")) as rows:
            async for row in rows:
                heard.append(row)  # noqa: PERF401  # kept also when it raises

    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _answer() -> None:
            tag = (await router.hear())[-1]
            await router.say("!re", "=n=1", tag)
            await end(router, tag)

        if error is None:
            await listen(client)
        else:
            with pytest.raises(error):
                await listen(client)
    assert heard == [{"n": "1"}]


async def test_rows_that_nobody_takes_end_the_listening_without_a_gap(autojump_clock: trio.testing.MockClock) -> None:
    heard: list[str] = []
    async with talking() as (client, router, _), trio.open_nursery() as nursery:
        async with client.listen(Command("/log/listen")) as rows:
            tag = (await router.hear())[-1]
            for n in range(MAX_UNHEARD + 1):
                await router.say("!re", f"=n={n}", tag)
            await trio.testing.wait_all_tasks_blocked()
            heard.append((await anext(rows))["n"])
            await router.say("!re", "=n=after a gap", tag)
            await trio.testing.wait_all_tasks_blocked()
            heard += [(await anext(rows))["n"] for _ in range(MAX_UNHEARD - 1)]
            with pytest.raises(TooMuch, match=f"{MAX_UNHEARD} rows"):
                await anext(rows)
            nursery.start_soon(obey_cancel, router, tag)
        assert not client.is_closed
    assert heard == [str(n) for n in range(MAX_UNHEARD)]


class Stuck(trio.abc.Stream):
    """Takes nothing, as a peer that reads no more."""

    def __init__(self, inner: trio.abc.Stream, stuck: trio.Event) -> None:
        self.inner = inner
        self.stuck = stuck

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.stuck.set()
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Slow(Stuck):
    """Takes it, but only when told to go on."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        super().__init__(inner, trio.Event())
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.begun.set()
        await self.go_on.wait()
        await self.inner.send_all(data)
