"""What time does: rows that end, entries that run, a router that restarts."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.simulators.routeros import HandClock, Router, durations
from tests.simulators.routeros.talking import logged_in

LISTS = "/ip/firewall/address-list"
BINDINGS = "/ip/hotspot/ip-binding"
ENTRIES = "/system/scheduler"
HOUR_S = 3600


def started() -> tuple[Router, HandClock]:
    clock = HandClock()
    return Router(clock=clock), clock


@given(st.integers(0, 10**10))
def test_a_time_is_read_as_it_is_written(total: int) -> None:
    assert durations.seconds(durations.written(total)) == durations.seconds(str(total)) == total


@pytest.mark.parametrize(
    ("text", "total"),
    [("1w2d3h4m5s", 788645), ("00:10:00", 600), ("1d 00:00:01", 86401), ("1d00:00:01", 86401), ("90m", 5400), ("0", 0)],
)
def test_other_ways_to_write_a_time(text: str, total: int) -> None:
    assert durations.seconds(text) == total


@pytest.mark.parametrize("text", ["", "s", "1x", "-1", "1s1m", "1.5s", "²", "1" * 99 + "w", "none-dynamic"])
def test_what_is_no_time(text: str) -> None:
    assert durations.seconds(text) is None


def test_an_address_with_a_timeout_counts_down_and_goes() -> None:
    router, clock = started()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a", "timeout": "3600"})
    clock.advance(HOUR_S - 61)
    (row,) = router.rows(LISTS)
    assert (row["timeout"], row["dynamic"]) == ("1m1s", "true")
    clock.advance(61)
    assert router.rows(LISTS) == []


def test_a_timeout_can_be_set_anew_and_taken_away() -> None:
    router, clock = started()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a", "timeout": "1h"})
    clock.advance(HOUR_S - 1)
    router.run(f"{LISTS}/set", {".id": "*1", "timeout": "2h"})
    clock.advance(HOUR_S)
    assert router.rows(LISTS)[0]["timeout"] == "1h"
    router.run(f"{LISTS}/set", {".id": "*1", "timeout": "0s"})
    clock.advance(10 * HOUR_S)
    assert "timeout" not in router.rows(LISTS)[0]


def entry(**attributes: str) -> dict[str, str]:
    return {"name": "entry", "on-event": "/system identity set name=ran", "interval": "1h"} | attributes


def test_an_entry_runs_at_each_interval_from_when_it_was_made() -> None:
    router, clock = started()
    router.run(f"{ENTRIES}/add", entry())
    (row,) = router.rows(ENTRIES)
    assert (row["start-time"], row["next-run"], row["run-count"]) == ("14:13:20", "2026-09-21 15:13:20", "0")
    clock.advance(HOUR_S - 1)
    assert router.rows(ENTRIES)[0]["run-count"] == "0"
    clock.advance(1)
    assert router.rows(ENTRIES)[0]["run-count"] == "1"
    assert router.rows("/system/identity") == [{"name": "ran"}]
    clock.advance(2 * HOUR_S)
    assert router.rows(ENTRIES)[0]["run-count"] == "3"


def test_an_entry_with_a_start_and_no_interval_runs_once() -> None:
    router, clock = started()
    router.run(f"{ENTRIES}/add", entry(**{"interval": "0s", "start-date": "2026-09-22", "start-time": "00:00:00"}))
    clock.advance(30 * HOUR_S)
    (row,) = router.rows(ENTRIES)
    assert row["run-count"] == "1"
    assert "next-run" not in row


def test_an_entry_that_is_switched_off_does_not_run_and_has_missed_it_when_switched_on() -> None:
    router, clock = started()
    router.run(f"{ENTRIES}/add", entry(disabled="yes"))
    clock.advance(HOUR_S + 1)
    router.run(f"{ENTRIES}/enable", {".id": "entry"})
    (row,) = router.rows(ENTRIES)
    assert (row["run-count"], row["next-run"]) == ("0", "2026-09-21 16:13:20")


def test_entries_and_timeouts_happen_in_the_order_of_their_times() -> None:
    router, clock = started()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a", "timeout": "30m"})
    router.run(f"{ENTRIES}/add", entry(**{"on-event": f"/{LISTS.strip('/').replace('/', ' ')} remove *1"}))
    clock.advance(2 * HOUR_S)
    assert router.rows(LISTS) == []
    assert list(router.script_errors) == ["entry: no such item"] * 2


def test_a_script_that_fails_stops_there_and_is_run_again_next_time() -> None:
    router, clock = started()
    text = "/system identity set name=first; /ip firewall address-list remove *9\n/system identity set name=second"
    router.run(f"{ENTRIES}/add", entry(**{"on-event": text}))
    clock.advance(HOUR_S)
    assert router.rows("/system/identity") == [{"name": "first"}]
    assert router.rows(ENTRIES)[0]["run-count"] == "1"


def test_a_restart_forgets_what_is_not_kept() -> None:
    router, clock = started()
    line = logged_in(router)
    for words in (("=list=a", "=timeout=1h"), ("=list=b",), ("=list=c", "=dynamic=yes")):
        line.say(f"{LISTS}/add", "=address=10.0.0.1", *words)
    router.run(f"{BINDINGS}/add", {"mac-address": "AA:BB:CC:DD:EE:FF"})
    phone = router.phone("00:00:00:00:00:01", "10.0.0.9", is_chatty=False)
    phone.login()
    clock.advance(100)
    router.reboot()
    assert [row["list"] for row in router.rows(LISTS)] == ["b"]
    assert len(router.rows(BINDINGS)) == 1
    assert router.rows("/ip/hotspot/host") == router.rows("/ip/hotspot/active") == []
    assert router.rows("/system/resource")[0]["uptime"] == "0s"
    assert router.boots == 2


def test_while_it_is_down_nothing_runs_and_an_entry_has_missed_its_turn() -> None:
    router, clock = started()
    router.run(f"{ENTRIES}/add", entry())
    clock.advance(HOUR_S - 10)
    router.reboot(down_s=20)
    clock.advance(15)
    assert not router.is_up
    clock.advance(10)
    (row,) = router.rows(ENTRIES)
    assert (row["run-count"], row["next-run"]) == ("0", "2026-09-21 16:13:20")


def test_an_entry_of_the_startup_runs_at_each_start() -> None:
    router, clock = started()
    router.run(f"{ENTRIES}/add", entry(**{"start-time": "startup", "interval": "0s"}))
    clock.advance(HOUR_S)
    assert router.rows(ENTRIES)[0]["run-count"] == "0"
    for runs in ("1", "2"):
        router.reboot(down_s=5)
        clock.advance(6)
        assert router.rows(ENTRIES)[0]["run-count"] == runs


def test_a_number_may_come_again_after_a_restart() -> None:
    router, _ = started()
    for address in ("10.0.0.1", "10.0.0.2"):
        router.run(f"{BINDINGS}/add", {"address": address})
    router.run(f"{BINDINGS}/remove", {".id": "*2"})
    router.reboot()
    assert router.run(f"{BINDINGS}/add", {"address": "10.0.0.3"}).ret == "*2"


def test_a_reboot_by_command_is_done_and_ends_every_connection() -> None:
    router, _ = started()
    hung_up = []
    router.hang_ups.add(lambda: hung_up.append("other"))
    line = logged_in(router)
    assert line.say("/system/reboot", ".tag=1") == [("!done", ".tag=1")]
    assert line.session.is_over
    assert hung_up == ["other"]


TIMES = st.tuples(st.sampled_from(["list", "entry", "remove", "wait", "switch"]), st.integers(0, 5), st.integers(1, 40))


@given(st.lists(TIMES, max_size=15))
def test_whatever_changes_nothing_is_there_after_its_time(steps: list[tuple[str, int, int]]) -> None:
    router, clock = started()
    ends, counts = dict[str, float](), dict[str, tuple[float, int]]()
    for what, number, seconds in steps:
        address, name = f"10.0.0.{number}", f"entry {number}"
        gone = {end for end, at_s in ends.items() if at_s <= clock()}
        if what == "wait":
            clock.advance(seconds)
        elif what == "list" and (address not in ends or address in gone):
            router.run(f"{LISTS}/add", {"address": address, "list": "x", "timeout": f"{seconds}s"})
            ends[address] = clock() + seconds
        elif what == "entry" and name not in counts:
            router.run(f"{ENTRIES}/add", {"name": name, "interval": f"{seconds}s"})
            counts[name] = clock(), seconds
        elif what == "switch" and name in counts:
            for disabled in ("yes", "no"):
                router.run(f"{ENTRIES}/set", {".id": name, "disabled": disabled})
        elif what == "remove" and address in ends and address not in gone:
            (row,) = [row for row in router.rows(LISTS) if row["address"] == address]
            router.run(f"{LISTS}/remove", {".id": row[".id"]})
            del ends[address]
    assert {row["address"] for row in router.rows(LISTS)} == {each for each, at_s in ends.items() if at_s > clock()}
    runs = {row["name"]: row["run-count"] for row in router.rows(ENTRIES)}
    assert runs == {name: str(int((clock() - made_s) // each_s)) for name, (made_s, each_s) in counts.items()}
