"""Workers end with their leases, whatever their routers are in the midst of."""

from contextlib import AbstractAsyncContextManager

import trio
from trio.testing import MockClock, memory_stream_pair

from opendesk.network.routeros.client import Client, connect
from opendesk.network.routeros.transport import Target
from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.routers.roster import Roster
from opendesk.network.routers.states import Lease
from tests.network.routeros.scripting import FakeRouter
from tests.network.routers.fake_routers import PING, Heard, spec_of

OURS = Lease(
    router_id="r1", failures=0, resets=0, target=None, moved=False, refused=False, open_left_s=None, contact_ago_s=None, booted_ago_s=None,
    identity=None, version=None, last_error=None, error_ago_s=None,
)  # fmt: skip
LEASED_S = 3.0


async def test_a_drain_does_not_outlast_the_lease(autojump_clock: MockClock) -> None:
    """The router lets in, is looked at, and answers nothing after that."""
    near, far = memory_stream_pair()
    router, heard = FakeRouter(far), Heard()

    async def open_near(_target: Target) -> trio.abc.Stream:
        return near

    def dial(target: Target) -> AbstractAsyncContextManager[Client]:
        return connect(target, open_stream=open_near)

    roster = Roster(Breaker(limit=5, recovery_s=60), dial, heard.hooks(), dials=True)
    told: list[str] = []
    failures: list[int] = []

    async def use() -> None:
        worker = roster.get("r1")
        assert worker is not None
        try:
            await worker.use(lambda api: api.run(PING, timeout_s=100))
        except RouterUnavailable as error:
            told.append(error.detail)
            failures.append(worker.health.breaker.failures)

    async with trio.open_nursery() as nursery:
        began_s = trio.current_time()

        async def run() -> None:
            await roster.run({"r1": spec_of()}, {"r1": OURS}, until_s=began_s + LEASED_S)
            assert trio.current_time() == began_s + LEASED_S  # virtual
            assert told == ["router r1: another worker takes over"]
            assert failures == [0]

        nursery.start_soon(run)
        for _ in range(3):  # the login, and the two of a look
            await router.say("!done", (await router.hear())[-1])
        nursery.start_soon(use)
        assert (await router.hear())[0] == PING.path
    assert heard.rebooted == []


async def test_nor_does_the_drain_of_a_look(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    router = FakeRouter(far)

    async def open_near(_target: Target) -> trio.abc.Stream:
        return near

    roster = Roster(
        Breaker(limit=5, recovery_s=60),
        lambda target: connect(target, open_stream=open_near),
        Heard().hooks(),
        dials=True,
    )
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await roster.run({"r1": spec_of()}, {"r1": OURS}, until_s=began_s + LEASED_S)

        nursery.start_soon(run)
        await router.say("!done", (await router.hear())[-1])
    assert trio.current_time() == began_s + LEASED_S  # virtual
    await far.aclose()
