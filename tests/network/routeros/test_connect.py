"""Logging in, both ways, and what comes of it when it doesn't work."""

from base64 import b64encode
import hashlib
import logging
import traceback
from typing import Any

from attrs import evolve
import pytest
import trio
import trio.testing

from opendesk.network.routeros.client import Client, connect
from opendesk.network.routeros.errors import LoginRefused, TimedOut, Trap, Unreachable
from opendesk.network.routeros.session import Command
from opendesk.network.routeros.transport import Target
from tests.network.routeros.scripting import PASSWORD, TARGET, FakeRouter, said, talking

CHALLENGE = "ebddd18303a54111e2dea05a92ab46b4"
OLD = evolve(TARGET, allow_md5_login=True)


async def refused(target: Target, *answers: tuple[str, ...]) -> Exception:
    """The error of a login that is answered so; each answer gets the tag of its command."""
    near, far = trio.testing.memory_stream_pair()
    router = FakeRouter(far)

    async def open_near(_target: Target) -> trio.abc.Stream:
        return near

    async def answer() -> None:
        for words in answers:
            tag = (await router.hear())[-1]
            await router.say(*words, tag)
            if words[0] == "!trap":
                await router.say("!done", tag)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises((LoginRefused, Unreachable, TimedOut)) as caught:
            async with connect(target, open_stream=open_near):
                pass
    with pytest.raises(EOFError):  # it hung up
        await hear_all(router)
    return caught.value


async def hear_all(router: FakeRouter) -> None:
    while await router.hear():
        pass


async def test_a_name_and_a_password_let_in(autojump_clock: trio.testing.MockClock) -> None:
    async with talking() as (client, _, _):
        assert not client.is_closed
    await client.wait_closed()
    with pytest.raises(Unreachable, match="closed here"):
        await client.run(Command("/x/print"))


async def test_the_challenge_of_old_routers_is_answered_where_it_is_allowed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    router = FakeRouter(far)

    async def open_near(_target: Target) -> trio.abc.Stream:
        return near

    async def answer() -> None:
        await router.say("!done", f"=ret={CHALLENGE}", (await router.hear())[-1])
        words = await router.hear()
        digest = hashlib.md5(b"\0" + PASSWORD.encode() + bytes.fromhex(CHALLENGE)).hexdigest()
        assert words[:3] == ["/login", "=name=api", f"=response=00{digest}"]
        await router.say("!done", words[-1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with connect(OLD, open_stream=open_near) as client:
            assert not client.is_closed


async def test_the_challenge_is_refused_where_it_isnt_allowed(autojump_clock: trio.testing.MockClock) -> None:
    error = await refused(TARGET, ("!done", f"=ret={CHALLENGE}"))
    assert isinstance(error, LoginRefused)
    assert "MD5" in str(error)


@pytest.mark.parametrize("challenge", ["", "xyz", CHALLENGE[:-1], CHALLENGE + "00"])
async def test_a_challenge_that_is_none_is_refused(challenge: str, autojump_clock: trio.testing.MockClock) -> None:
    assert isinstance(await refused(OLD, ("!done", f"=ret={challenge}")), LoginRefused)


async def test_a_wrong_password_is_a_refused_login(autojump_clock: trio.testing.MockClock) -> None:
    trap = ("!trap", "=message=invalid user name or password (6)")
    for error in (await refused(TARGET, trap), await refused(OLD, ("!done", f"=ret={CHALLENGE}"), trap)):
        assert isinstance(error, LoginRefused)
        assert "router.test:8728 doesn't let 'api' in: invalid user name or password (6)" in str(error)


async def test_fatal_instead_of_a_login_is_unreachable(autojump_clock: trio.testing.MockClock) -> None:
    error = await refused(TARGET, ("!fatal", "too many logins"))
    assert isinstance(error, Unreachable)
    assert "too many logins" in str(error)


@pytest.mark.parametrize(
    "words", [("!trap", "=message={}"), ("!trap", "=category=0", "=message=x{}y"), ("!fatal", "you said {}")]
)
@pytest.mark.parametrize(
    "told", [PASSWORD, PASSWORD[:7], PASSWORD[::-1], PASSWORD.upper(), b64encode(PASSWORD.encode()).decode()]
)
async def test_what_is_said_at_a_login_may_hold_the_password_and_is_not_told(
    words: tuple[str, ...], told: str, autojump_clock: trio.testing.MockClock
) -> None:
    error = await refused(TARGET, tuple(word.format(told) for word in words))
    shown = "".join([*traceback.format_exception(error), repr(error), repr(error.__cause__)])
    assert told not in shown
    assert "may hold the password" in str(error)


async def test_nor_is_what_was_answered_to_a_challenge(autojump_clock: trio.testing.MockClock) -> None:
    digest = hashlib.md5(b"\0" + PASSWORD.encode() + bytes.fromhex(CHALLENGE)).hexdigest()
    trap = ("!trap", f"=message=00{digest} is wrong")
    error = await refused(OLD, ("!done", f"=ret={CHALLENGE}"), trap)
    assert digest not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("words", [("!trap", f"=message=no, {PASSWORD}"), ("!fatal", f"no, {PASSWORD}")])
async def test_nor_is_the_password_told_of_what_is_said_later(
    words: tuple[str, ...], autojump_clock: trio.testing.MockClock
) -> None:
    async with talking() as (client, router, _), trio.open_nursery() as nursery:

        async def answer() -> None:
            tag = (await router.hear())[-1]
            await router.say(*words, tag)
            await router.say("!done", tag)

        nursery.start_soon(answer)
        with pytest.raises((Trap, Unreachable)) as caught:
            await client.run(Command("/x/print"))
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert "no, ****" in str(caught.value)


async def test_who_never_answers_a_login_is_left_when_the_time_is_up(autojump_clock: trio.testing.MockClock) -> None:
    began_s = trio.current_time()
    assert isinstance(await refused(TARGET), TimedOut)
    assert trio.current_time() - began_s == pytest.approx(TARGET.timeout_s)  # virtual: nothing was drained in vain


async def test_who_never_takes_a_connection_is_left_when_the_time_is_up(autojump_clock: trio.testing.MockClock) -> None:
    async def open_never(_target: Target) -> trio.abc.Stream:
        await trio.sleep_forever()

    with pytest.raises(TimedOut, match=r"router\.test:8728"):
        async with connect(TARGET, open_stream=open_never):
            pass


async def test_what_the_block_raises_comes_in_no_group(autojump_clock: trio.testing.MockClock) -> None:
    trap = Trap(4, "mine")
    with pytest.RaisesGroup(Trap) as caught:  # the group is of the nursery in `talking`
        async with talking():
            raise trap
    assert caught.value.exceptions == (trap,)


async def test_a_block_that_is_cancelled_while_it_waits_hangs_up_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        clients: list[Client] = []

        async def block() -> None:
            async with talking() as (client, _, _):
                clients.append(client)
                await client.run(Command("/x/print"), timeout_s=1000)

        began_s = trio.current_time()
        nursery.start_soon(block)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert clients[0].is_closed
    assert trio.current_time() == began_s  # virtual


async def test_the_password_is_nowhere_but_on_the_wire(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = await refused(TARGET, ("!trap", "=message=cannot log in"))
    told = [
        *traceback.format_exception(error),
        repr(error),
        repr(error.__cause__),
        repr(TARGET),
        str(TARGET),
        caplog.text,
    ]
    async with talking() as (client, _, _):
        told += [repr(client), repr(vars(client))]
    assert PASSWORD not in "".join(told)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"tls": True, "tls_sha256": b"short"},
        {"tls": False, "tls_sha256": bytes(32)},
    ],
)
def test_a_target_that_cant_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"timeout_s|pin"):
        evolve(TARGET, **wrong)


def test_a_password_comes_as_a_secret() -> None:
    with pytest.raises(TypeError):
        Target("r", 8728, "api", "bare")  # type: ignore[arg-type]  # that is the fault


@pytest.mark.parametrize("cut", range(1, 12))
async def test_who_hangs_up_anywhere_in_the_answer_to_a_login_is_unreachable(
    cut: int, autojump_clock: trio.testing.MockClock
) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def open_near(_target: Target) -> trio.abc.Stream:
        return near

    async def answer() -> None:
        await FakeRouter(far).hear()
        await far.send_all(said("!done", ".tag=1")[:cut])
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(Unreachable, match="in the middle"):
            async with connect(TARGET, open_stream=open_near):
                pass
