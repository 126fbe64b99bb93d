"""Whoever gives up whenever, however slow the router: nobody gets another's answer, and nothing is left behind. On a virtual clock."""

from collections.abc import Sequence

from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import trio
import trio.testing

from opendesk.network.routeros.errors import TimedOut, Trap
from opendesk.network.routeros.session import Command, Result
from tests.network.routeros.scripting import FakeRouter, talking

TENTHS = st.integers(0, 15).map(lambda tenths: tenths / 10)
ASKS = st.lists(st.tuples(TENTHS, TENTHS, TENTHS), min_size=1, max_size=8)


@define(eq=False)
class Worker:
    """Answers `/x/<name> =after=<seconds>` after so many seconds, unless it is cancelled before: as a router that is busy."""

    router: FakeRouter
    cancel_first: bool
    at_work: dict[str, trio.CancelScope] = field(factory=dict)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                path, attribute, tag = await self.router.hear()
                if path == "/cancel":
                    await self.cancel(attribute.removeprefix("=tag="), tag)
                else:
                    number = tag.removeprefix(".tag=")
                    self.at_work[number] = trio.CancelScope()
                    nursery.start_soon(self.work, number, path, float(attribute.removeprefix("=after=")))

    async def work(self, number: str, path: str, after_s: float) -> None:
        with self.at_work[number]:
            await trio.sleep(after_s)
            if self.at_work.pop(number, None) is not None:
                await self.router.say("!re", f"=path={path}", f".tag={number}")
                await self.router.say("!done", f".tag={number}")

    async def cancel(self, target: str, tag: str) -> None:
        if (scope := self.at_work.pop(target, None)) is None:
            await self.router.say("!trap", "=message=no such item", tag)
            await self.router.say("!done", tag)
            return
        scope.cancel()
        if self.cancel_first:
            await self.router.say("!done", tag)
        await self.router.say("!trap", "=category=2", "=message=interrupted", f".tag={target}")
        await self.router.say("!done", f".tag={target}")
        if not self.cancel_first:
            await self.router.say("!done", tag)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks=ASKS, cancel_first=st.booleans())
async def test_each_has_its_own_answer_or_none_and_nothing_is_left(
    asks: Sequence[tuple[float, float, float]], *, cancel_first: bool, autojump_clock: trio.testing.MockClock
) -> None:
    answered: dict[int, object] = {}
    async with trio.open_nursery() as routers, talking() as (client, router, _):
        worker = Worker(router, cancel_first)
        routers.start_soon(worker.run)

        async def ask(name: int, after_s: float, timeout_s: float, cancelled_s: float) -> None:
            with trio.move_on_after(cancelled_s):
                try:
                    answered[name] = await client.run(
                        Command(f"/x/{name}", {"after": str(after_s)}), timeout_s=timeout_s
                    )
                except (TimedOut, Trap) as error:
                    answered[name] = type(error)

        async with trio.open_nursery() as nursery:
            for name, times in enumerate(asks):
                nursery.start_soon(ask, name, *times)
        assert worker.at_work == {}
        assert not client.is_closed
        assert (client._exchanges, client._in_flight, client._session.in_flight) == ({}, 0, 0)
        routers.cancel_scope.cancel()
    for name, (after_s, timeout_s, cancelled_s) in enumerate(asks):
        assert answered.get(name) in (None, TimedOut, Result(({"path": f"/x/{name}"},)))
        if after_s < min(timeout_s, cancelled_s):
            assert isinstance(answered[name], Result)
        elif after_s > min(timeout_s, cancelled_s):
            assert not isinstance(answered.get(name), Result)
