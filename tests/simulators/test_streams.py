"""Hosts and clients that stream: through a real daemon, and through relays that break their promises."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
import json
import os
from typing import Any

import pytest
import trio

from opendesk.simulators import relay_socket, streams
from opendesk.simulators.api_client import PromiseBroken, open_api
from opendesk.simulators.clients import ClientSimulator
from opendesk.simulators.daemon_process import running_daemon
from opendesk.simulators.day import SETTINGS
from opendesk.simulators.hosts import HostSimulator
from opendesk.simulators.people import Person
from opendesk.simulators.pictures import frame
from opendesk.simulators.streams import MOST_FRAMES_A_SECOND, Streams
from tests.simulators.pretended import SESSION, SESSION_CLOSED, Carry, PretendedRelay, pretended_relay, unchanged

# httpx's: what it was sending when it was stopped.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

# What something that hangs is given; nothing is measured by it.
PATIENCE_S = 60


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - sums, which tell nobody
        await trio.sleep(0.005)


# ---- a real daemon


PC = {
    "name": "aurora-1", "level": "A", "cpu": "Ryzen 7", "ramGb": 32, "gpu": "RTX 4070", "vramGb": 12, "storageType": "NVME",
    "internetUploadMbps": 500, "pricePerHour": 900,
}  # fmt: skip


async def test_frames_go_through_a_real_daemon_until_the_session_ends() -> None:
    with trio.fail_after(PATIENCE_S):
        async with running_daemon(os.environ, SETTINGS) as daemon, open_api(daemon.url) as api:
            host = await HostSimulator.join(api, Person.named("aurora"))
            pc = await host.offer(PC)
            await host.come_back()
            client = await ClientSimulator.join(api, Person.named("ana"), iter("abcdef").__next__)
            await daemon.command("wallet", "credit", client.person.email, "5000")
            session = await client.reserve(pc.id, 60)
            async with trio.open_nursery() as nursery:
                streamed = Streams(nursery)
                await streamed.open(session.id, host=host.account, client=client.account)
                # Nobody started it: the client's `stream/start` does.
                assert (await client.session(session.id)).status == "ACTIVE"
                await until(lambda: streamed.sums().frames >= 10 and streamed.sums().round_trip_p50_ms is not None)
                assert (await client.end(session.id, "HOST")).failure_reason == "NONE"
                await streamed.closed(session.id)
            sums = streamed.sums()
    assert (sums.streams, sums.live, sums.frames_lost) == (1, 0, 0)
    assert sums.megabytes > 0.08
    assert sums.latency_p50_ms is not None
    assert sums.inputs >= 1
    assert sums.pongs >= 1


# ---- relays as a test wants them


@asynccontextmanager
async def streaming(carry: Carry = unchanged) -> AsyncIterator[tuple[Streams, PretendedRelay]]:
    """A stream that is open. What its sides raise comes as it is, not in groups."""
    with trio.fail_after(PATIENCE_S):
        async with pretended_relay(carry) as (relay, host, client), trio.open_nursery() as nursery:
            streamed = Streams(nursery)
            await streamed.open(SESSION, host=host, client=client)
            yield streamed, relay


def promises(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [said for part in error.exceptions for said in promises(part)]
    assert isinstance(error, PromiseBroken), repr(error)
    return [str(error)]


async def test_the_host_is_there_before_its_client_waits_for_it() -> None:
    async with streaming() as (streamed, relay):
        assert relay.came == ["host", "client"]
        await relay.close(*SESSION_CLOSED)
        await streamed.closed(SESSION)


async def test_a_session_that_did_not_stream_is_closed_at_once() -> None:
    async with trio.open_nursery() as nursery:
        await Streams(nursery).closed(SESSION)


@pytest.mark.parametrize(
    "why", [(1013, "client_too_slow"), (1012, "relay_shutdown"), (1008, "host_replaced"), (1000, "")]
)
async def test_a_relay_that_closes_for_another_reason_breaks_its_promise(why: tuple[int, str]) -> None:
    async def closed() -> None:
        async with streaming() as (_, relay):
            await relay.close(*why)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as raised:
        await closed()
    (said,) = promises(raised.value)
    assert str(why[0]) in said


async def test_a_relay_that_leaves_a_stream_open_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CLOSES_WITHIN_S", 0.05)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming() as (streamed, _):
            await streamed.closed(SESSION)
    (said,) = promises(raised.value)
    assert "is over, and its stream was open" in said


def turned_over(message: bytes | str) -> bytes | str:
    return message[:-1] + bytes([message[-1] ^ 1]) if isinstance(message, bytes) else message


def always_the_first(message: bytes | str) -> bytes | str:
    return frame(0, 0) if isinstance(message, bytes) else message


def for_another_session(message: bytes | str) -> bytes | str:
    return json.dumps({**json.loads(message), "sessionId": "another"}) if isinstance(message, str) else message


@pytest.mark.parametrize("carry", [turned_over, always_the_first, for_another_session])
async def test_a_relay_that_brings_something_else_breaks_its_promise(carry: Carry) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming(carry):
            await trio.sleep_forever()
    assert promises(raised.value)


async def test_a_relay_that_brings_no_frame_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "OPENS_WITHIN_S", 0.2)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming(lambda message: None if isinstance(message, bytes) else message):
            pass
    (said,) = promises(raised.value)
    assert "no frame of session" in said


async def test_frames_that_a_relay_sheds_are_counted_as_lost() -> None:
    seen = 0

    def every_other(message: bytes | str) -> bytes | str | None:
        nonlocal seen
        seen += isinstance(message, bytes)
        return None if isinstance(message, bytes) and seen % 2 == 0 else message

    async with streaming(every_other) as (streamed, relay):
        await until(lambda: streamed.sums().frames_lost >= 3)
        await relay.close(*SESSION_CLOSED)
        await streamed.closed(SESSION)
    assert 0 <= streamed.sums().frames - streamed.sums().frames_lost <= 1


async def test_a_host_that_goes_dark_is_seen_to_its_last_frame_and_gone_without_a_word() -> None:
    async with streaming() as (streamed, relay):
        await streamed.lose_host("another")
        await streamed.lose_host("host")
        seen = streamed.sums().frames
        await until(lambda: relay.sockets["host"].closed is not None)
        reason = relay.sockets["host"].closed
        assert reason is not None
        assert (reason.code, streamed.sums().frames) == (1006, seen)
        await relay.sockets["client"].aclose(*SESSION_CLOSED)
        await streamed.closed(SESSION)


async def test_a_host_goes_dark_also_when_its_session_ended_just_before() -> None:
    async with streaming() as (streamed, relay):
        await relay.close(*SESSION_CLOSED)
        await streamed.lose_host("host")
        await streamed.closed(SESSION)


async def test_who_is_refused_at_the_relay_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: PretendedRelay, request: Any) -> None:
        await (await request.accept()).aclose(1008, "invalid_token")

    monkeypatch.setattr(PretendedRelay, "serve", refuse)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming():
            pass
    (said,) = promises(raised.value)
    assert said == "the relay refused a host: closed with 1008 invalid_token"


async def test_a_relay_that_is_no_websocket_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: PretendedRelay, request: Any) -> None:
        await request.reject(404)

    monkeypatch.setattr(PretendedRelay, "serve", refuse)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming():
            pass
    assert "no WebSocket for a host" in promises(raised.value)[0]


async def test_a_relay_that_does_not_say_welcome_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(_: PretendedRelay, request: Any) -> None:
        await request.accept()
        await trio.sleep_forever()

    monkeypatch.setattr(PretendedRelay, "serve", say_nothing)
    monkeypatch.setattr(relay_socket, "WELCOME_WITHIN_S", 0.2)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with streaming():
            pass
    (said,) = promises(raised.value)
    assert "did not welcome a host" in said


@pytest.mark.parametrize("url", ["wss://127.0.0.1:1/stream/relay", "ws://127.0.0.1/stream/relay", "ws:///stream/relay"])
async def test_a_daemon_of_the_demo_sends_nobody_elsewhere(url: str) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        async with relay_socket.at_the_relay(relay_socket.Ticket("host", "u", url, "s", "i", "t")):
            pass
    assert url in promises(raised.value)[0]


async def test_a_crowd_shares_the_frames_that_a_machine_carries(nursery: trio.Nursery) -> None:
    streamed = Streams(nursery)
    assert streamed._interval_s() == 1 / streams.FRAMES_A_SECOND
    streamed._live = dict.fromkeys(map(str, range(45)))  # type: ignore[assignment]  # it only counts them
    assert 45 / streamed._interval_s() == pytest.approx(MOST_FRAMES_A_SECOND)
