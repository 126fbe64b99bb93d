"""Names are looked up beside all else, by a made-up resolver."""

from collections.abc import Callable
import socket
from typing import Any

from attrs import define, field
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk.network.wireguard.endpoints import KNOWN_S, LOOKUPS_AT_ONCE, UNKNOWN_S, Names, in_threads, is_name

HANGS_S = 40.0


@define
class Resolver:
    known: dict[str, str] = field(factory=dict)
    asked: list[str] = field(factory=list)

    async def __call__(self, host: str, port: int) -> str | None:
        self.asked.append(host)
        await trio.sleep(HANGS_S if host.startswith("hangs") else 0.01)
        return f"{self.known[host]}:{port}" if host in self.known else None


def resolver() -> Resolver:
    return Resolver({"bus.example": "192.0.2.7", "six.example": "[2001:db8::7]"})


async def settled(names: Names) -> None:
    """All that are due are asked."""
    with trio.move_on_after(1):
        await names.run()


@pytest.mark.parametrize(
    ("endpoint", "is_one"),
    [(None, False), ("192.0.2.9:1", False), ("[2001:db8::1]:1", False), ("bus.example:7", True), ("a:1", True)],
)
def test_a_name_is_what_is_no_address(endpoint: str | None, is_one: object) -> None:
    assert is_name(endpoint) is is_one


async def test_addresses_are_what_they_are_and_names_what_was_found(autojump_clock: MockClock) -> None:
    asked, found = resolver(), list[int]()
    names = Names(asked, lambda: found.append(1))
    names.want({"bus.example:7", "six.example:8"})
    assert names.addresses.get("bus.example:7") is None
    await settled(names)
    told = [names.addresses.get(one) for one in ("bus.example:7", "six.example:8", "none.example:1")]
    assert told == ["192.0.2.7:7", "[2001:db8::7]:8", None]
    assert (sorted(asked.asked), len(found), names.unknown) == (["bus.example", "six.example"], 2, [])


async def test_names_that_hang_or_are_unknown_keep_a_new_one_from_nothing(autojump_clock: MockClock) -> None:
    names = Names(resolver())
    dead = {f"none{number}.example:1" for number in range(500)} | {f"hangs{number}.example:1" for number in range(10)}
    names.want(dead)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        await trio.sleep(UNKNOWN_S - 1)
        names.want(dead | {"bus.example:7"})
        await trio.sleep(0.5)
        assert names.addresses.get("bus.example:7") == "192.0.2.7:7"
        nursery.cancel_scope.cancel()


async def test_each_is_asked_again_after_a_pause_and_no_more_are_asked_than_have_a_place(
    autojump_clock: MockClock,
) -> None:
    asked = resolver()
    names = Names(asked)
    names.want({"none.example:1", "bus.example:7", *(f"hangs{number}.example:1" for number in range(40))})
    with trio.move_on_after(0.5):
        await names.run()
    assert sum(host.startswith("hangs") for host in asked.asked) <= LOOKUPS_AT_ONCE
    asked.asked.clear()
    names.want({"none.example:1", "bus.example:7"})
    with trio.move_on_after(KNOWN_S - 1):
        await names.run()
    assert asked.asked.count("bus.example") <= 1
    assert 8 <= asked.asked.count("none.example") <= 10


async def test_one_that_moves_is_told_and_one_that_is_lost_stays_where_it_was(autojump_clock: MockClock) -> None:
    asked, found = resolver(), list[int]()
    names = Names(asked, lambda: found.append(1))
    names.want({"bus.example:7"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.run)
        await trio.sleep(1)
        asked.known["bus.example"] = "192.0.2.8"
        await trio.sleep(KNOWN_S)
        assert (names.addresses.get("bus.example:7"), len(found)) == ("192.0.2.8:7", 2)
        del asked.known["bus.example"]
        await trio.sleep(KNOWN_S)
        assert (names.addresses.get("bus.example:7"), len(found)) == ("192.0.2.8:7", 2)
        nursery.cancel_scope.cancel()


async def test_what_is_wanted_no_more_is_forgotten(autojump_clock: MockClock) -> None:
    names = Names(resolver())
    names.want({"bus.example:7", "none.example:1"})
    await settled(names)
    names.want(())
    assert (names.addresses.get("bus.example:7"), names.unknown, names._queue, names._unknown) == (None, [], [], set())


async def test_those_that_are_unknown_are_told_once(autojump_clock: MockClock) -> None:
    names = Names(resolver())
    names.want({f"none{number}.example:1" for number in range(200)} | {"bus.example:7"})
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names.run)
            await trio.sleep(10 * UNKNOWN_S)
            names.want({"none1.example:1", "none2.example:1"})
            await trio.sleep(10 * UNKNOWN_S)
            nursery.cancel_scope.cancel()
    told = [(line["count"], len(line["endpoints"])) for line in logs if line["event"] == "tunnel.endpoint_unknown"]
    assert told == [(200, 10), (2, 2)]


async def test_a_command_waits_for_so_long_and_no_longer(autojump_clock: MockClock) -> None:
    names = Names(resolver())
    names.want({"bus.example:7", "none.example:1", "hangs.example:1"})
    began_s = trio.current_time()
    await names.once(5)
    assert trio.current_time() - began_s == 5
    assert names.unknown == ["hangs.example:1", "none.example:1"]


async def test_the_systems_resolver_is_asked_in_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_more: Any) -> Any:
        answers: dict[str, Callable[[], Any]] = {
            "six.example": lambda: [(socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("2001:db8::7", port, 0, 0))],
            "bus.example": lambda: [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.7", port))],
        }
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers[host]()

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    look_up, others = in_threads(), trio.to_thread.current_default_thread_limiter()
    others.total_tokens = 1
    async with others:  # nothing is left of them
        with trio.fail_after(30):
            assert await look_up("bus.example", 7) == "192.0.2.7:7"
            assert await look_up("six.example", 8) == "[2001:db8::7]:8"
            assert await look_up("none.example", 1) is None
