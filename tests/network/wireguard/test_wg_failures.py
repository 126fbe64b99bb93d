"""What goes wrong with `wg`, and that no secret gets out on the way."""

from collections.abc import Sequence
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import trio

from opendesk.network.wireguard.changes import Put, Remove
from opendesk.network.wireguard.wg import (
    NotPermitted,
    ProgramMissing,
    Refused,
    TimedOut,
    Unreadable,
    Wg,
    WgError,
    has_net_admin,
)
from opendesk.settings.secret import Secret
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.wireguard.test_wg import A, B, random_key

NOTHING = "Name:\tpython\nCapInh:\t0000000000000000\nCapEff:\t0000000000000000\n"
NET_ADMIN = NOTHING.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000001000")
ALL = NOTHING.replace("CapEff:\t0000000000000000", "CapEff:\t000001ffffffffff")


def wg(simulated: SimulatedWireguard, status: str = ALL) -> Wg:
    return Wg("wg0", simulated.run, status=lambda: status)


async def both_fail(subject: Wg, kind: type[WgError]) -> str:
    with pytest.raises(kind) as caught:
        await subject.read()
    with pytest.raises(kind):
        await subject.apply([Put(A, (), 0)])
    return str(caught.value)


async def test_an_interface_that_is_gone_is_a_refusal() -> None:
    assert "No such device" in await both_fail(wg(SimulatedWireguard(is_gone=True)), Refused)


async def test_a_failure_without_the_capability_names_it() -> None:
    simulated = SimulatedWireguard(forbidden=True)
    assert "CAP_NET_ADMIN" in await both_fail(wg(simulated, NOTHING), NotPermitted)
    assert "CAP_NET_ADMIN" not in await both_fail(wg(simulated, NET_ADMIN), Refused)


async def test_where_no_status_tells_of_capabilities_a_failure_is_a_refusal() -> None:
    await both_fail(wg(SimulatedWireguard(is_gone=True), ""), Refused)


@pytest.mark.parametrize(
    ("status", "has"),
    [
        (NOTHING, False),
        (NET_ADMIN, True),
        (ALL, True),
        ("", False),
        ("CapEff:\txyz\n", False),
        ("CapEff:\t1fff\n", True),
    ],
)
def test_the_capability_is_read_from_its_bit(status: str, has: bool) -> None:  # noqa: FBT001  # of the table above
    assert has_net_admin(status) is has


async def test_a_program_that_is_not_there_is_named() -> None:
    assert "wg" in await both_fail(wg(SimulatedWireguard(missing=True)), ProgramMissing)
    assert "no-such-wg" in await both_fail(Wg("wg0", command=("no-such-wg",)), ProgramMissing)


async def test_one_that_hangs_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    assert "10 s" in await both_fail(wg(SimulatedWireguard(hangs=True)), TimedOut)


async def test_a_call_that_is_cancelled_ends_the_program(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    subject = Wg(
        "wg0", command=("sh", "-c", f"echo $$ > {told}.new; mv {told}.new {told}; trap '' TERM; exec sleep 1000")
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subject.read)
            while not told.exists():  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


async def test_a_dump_that_was_cut_is_unknown_and_not_empty() -> None:
    simulated = SimulatedWireguard(cuts_dump=True)
    simulated.add(A, "10.200.0.1/32")
    with pytest.raises(Unreadable) as caught:
        await wg(simulated).read()
    assert simulated.private_key is not None
    assert simulated.private_key[:20] not in repr(caught.value)


async def test_one_that_lies_or_stops_half_way_is_seen_through_by_reading_again() -> None:
    simulated = SimulatedWireguard(lies=True)
    await wg(simulated).apply([Put(A, (), 0)])
    assert (await wg(simulated).read()).peers == {}
    simulated.lies, simulated.stops_after = False, 1
    with pytest.raises(Refused):
        await wg(simulated).apply([Put(A, (), 0), Put(B, (), 0)])
    assert set((await wg(simulated).read()).peers) == {A}


async def test_secrets_are_in_no_argument_and_in_no_text_of_ours() -> None:
    simulated = SimulatedWireguard()
    preshared, private = random_key(), random_key()
    put = Put(A, ("10.200.0.1/32",), 25, preshared_key=preshared)
    await wg(simulated).apply([put])
    await wg(simulated).set_private_key(Secret(private))
    interface = await wg(simulated).read()
    told = [str(simulated.calls), repr(put), repr(interface), repr(wg(simulated)), repr(simulated)]
    assert simulated.peers[A].preshared_key == preshared
    assert not [text for text in told if preshared in text or private in text]


async def test_what_wg_complains_of_is_told_without_keys_and_not_at_length() -> None:
    async def run(command: Sequence[str], **_options: Any) -> CompletedProcess[bytes]:
        await trio.lowlevel.checkpoint()
        return CompletedProcess(command, 1, b"", f"bad key `{A}'\n\xff {'very ' * 10_000}".encode("latin-1"))

    told = await both_fail(Wg("wg0", run, status=lambda: ALL), Refused)
    assert A[:32] not in told
    assert "bad key `…'" in told
    assert len(told) < 500


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_open_file_is_left_of_preshared_keys() -> None:
    simulated = SimulatedWireguard()
    before = open_files()
    await wg(simulated).apply([Put(random_key(), (), 0, preshared_key=random_key()) for _ in range(450)])
    simulated.is_gone = True
    with pytest.raises(Refused):
        await wg(simulated).apply([Put(A, (), 0, preshared_key=random_key())])
    assert open_files() == before
    assert [call.count("peer") for call in simulated.calls] == [200, 200, 50, 1]


async def test_nothing_is_called_for_no_changes() -> None:
    simulated = SimulatedWireguard()
    await wg(simulated).apply([])
    assert simulated.calls == []


async def test_ten_thousand_are_done_in_ten_calls() -> None:
    simulated = SimulatedWireguard()
    await wg(simulated).apply(
        [Put(random_key(), (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32",), 25) for n in range(10_000)]
    )
    assert len(simulated.calls) == 10
    keys = list((await wg(simulated).read()).peers)
    assert len(keys) == 10_000
    await wg(simulated).apply([Remove(key) for key in keys])
    assert simulated.peers == {}
