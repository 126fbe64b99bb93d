"""A probe says who a router is, or which of four ways it failed: by what happened, not by a text."""

from contextlib import AbstractAsyncContextManager
from functools import partial

from attrs import frozen
import pytest
import trio

from opendesk.network.routeros.client import connect
from opendesk.network.routeros.errors import Fatal, ProtocolError, TooMuch, Unreachable
from opendesk.network.routeros.transport import Target
from opendesk.network.routers.link import Api
from opendesk.network.setup.errors import ProbeFailed
from opendesk.network.setup.probe import Dial, probe
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros import PASSWORD, USER, Act, Router, Trapped, simulated


def dial(address: tuple[str, int], password: str = PASSWORD, timeout_s: float = 5.0) -> Dial:
    return partial(connect, Target(*address, USER, Secret(password), timeout_s=timeout_s))


@frozen
class Failing(AbstractAsyncContextManager[Api]):
    error: Exception

    async def __aenter__(self) -> Api:
        raise self.error

    async def __aexit__(self, *_exc: object) -> None:
        raise AssertionError("nobody came in")


async def code_of(failing: Dial) -> str:
    with pytest.raises(ProbeFailed) as raised:
        await probe(failing)
    assert raised.value.status == 502
    return raised.value.code


async def test_a_router_says_who_it_is() -> None:
    async with simulated(Router("bus-7", version="7.16")) as address:
        probed = await probe(dial(address))
    assert (probed.identity, probed.version, probed.board) == ("bus-7", "7.16 (stable)", "hEX")


async def test_a_password_that_is_said_back_is_struck_out() -> None:
    async with simulated(Router(f"I am {PASSWORD}")) as address:
        assert (await probe(dial(address), password=Secret(PASSWORD))).identity == "I am ********"


async def test_a_wrong_password_is_told_as_that() -> None:
    async with simulated(Router()) as address:
        assert await code_of(dial(address, "wrong")) == "AUTH_FAILED"


async def test_a_router_that_never_answers_is_too_slow() -> None:
    router = Router()
    router.faults.black_hole = True
    async with simulated(router) as address:
        assert await code_of(dial(address, timeout_s=0.05)) == "TIMEOUT"


async def test_nobody_there_is_unreachable() -> None:
    listener = trio.socket.socket()
    with listener:
        await listener.bind(("127.0.0.1", 0))
        assert await code_of(dial(listener.getsockname())) == "UNREACHABLE"


async def test_one_that_hangs_up_is_unreachable() -> None:
    router = Router()
    router.faults.plan(Act.DROP_BEFORE)
    async with simulated(router) as address:
        assert await code_of(dial(address)) == "UNREACHABLE"


async def test_one_that_refuses_to_say_is_another_failure_whatever_its_words() -> None:
    router = Router()
    router.faults.plan(Trapped(None, "invalid user name or password (6)"), times=2)
    async with simulated(router) as address:
        assert await code_of(dial(address)) == "PROBE_ERROR"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable("no"), "UNREACHABLE"), (OSError("no"), "UNREACHABLE"), (trio.TooSlowError(), "TIMEOUT"), (Fatal("not logged in"), "PROBE_ERROR"),
        (ProtocolError("no"), "PROBE_ERROR"), (TooMuch("no"), "PROBE_ERROR"),
    ],
)  # fmt: skip
async def test_each_failure_has_one_code(error: Exception, code: str) -> None:
    assert await code_of(partial(Failing, error)) == code
