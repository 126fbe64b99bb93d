"""What the benchmarks of churn and of noticing reckon with."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from attrs import asdict
import pytest
import trio
from trio.testing import MockClock

from scripts.benchmarks.churn import grown
from scripts.benchmarks.churn_acts import Caller, Refused, Town
from scripts.benchmarks.churn_hour import HOUR, Hour, hour
from scripts.benchmarks.churn_load import Crowd
from scripts.benchmarks.churn_memory import rollup, slope, spread
from scripts.benchmarks.noticing import STALLED_BAR_S, UNIT, watchdog_s
from scripts.benchmarks.notified import Notified
from scripts.benchmarks.sizes import FULL, QUICK

ROLLUP = """\
5581ba16f000-7ffd0f1fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               95688 kB
Pss:               90410 kB
Anonymous:         71024 kB
"""


def test_sizes_of_a_process_are_told_in_bytes() -> None:
    assert rollup(ROLLUP) == {"Rss": 95_688 * 1024, "Pss": 90_410 * 1024, "Anonymous": 71_024 * 1024}


def test_the_spread_is_a_part_of_the_middle_value() -> None:
    assert spread([100, 101, 99, 100]) == pytest.approx(0.02)
    assert spread([7]) == 0


def test_the_slope_is_from_one_value_to_the_next() -> None:
    assert slope([10, 12, 14]) == pytest.approx(2)
    assert slope([5, 5, 5]) == 0
    assert slope([5]) == 0


def test_only_types_that_clearly_became_more_are_told_and_the_most_first() -> None:
    before = {"dict": 1000, "list": 500, "Session": 3}
    after = {"dict": 1040, "list": 700, "Session": 3, "Room": 400}
    assert grown(before, after) == [("Room", 400), ("list", 200)]


def test_a_quick_hour_has_some_of_everything_but_of_what_takes_long() -> None:
    assert hour(FULL) == HOUR
    quick = hour(QUICK)
    assert (quick.ended, quick.killed, quick.expired, quick.flaps, quick.silent) == (1, 1, 1, 1, 0)


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers everything so; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_daemon_refuses_and_what_is_counted_names_nobody(status: int) -> None:
    with answering(status) as port, closing(Caller(port)) as caller:
        with pytest.raises(Refused, match=f"^GET /sessions/…: {status}$"):
            caller.ask("GET", "/sessions/01a20466-72a4?limit=20")
        caller.ask("GET", "/metrics", expected=(status,))


def test_any_other_answer_than_expected_is_a_fault() -> None:
    with answering(500) as port, closing(Caller(port)) as caller, pytest.raises(RuntimeError, match="GET /pcs: 500"):
        caller.ask("GET", "/pcs")


def test_an_hour_with_too_much_refused_is_a_fault_and_its_acts_are_counted() -> None:
    nothing = dict.fromkeys(asdict(HOUR), 0)
    with answering(503) as port:
        account = {"user": "somebody", "token": "any"}
        crowd = Crowd(Town(port, "any", [account], [], []))
        few = crowd.hour(Hour(**{**nothing, "looks": 4}))
        many = crowd.hour(Hour(**{**nothing, "looks": 40}))
    assert (few["acts"], sum(few["refused"].values()), few["faults"]) == (4, 4, [])
    assert many["acts"] == 40
    assert many["faults"][0].startswith("of 40 acts 40 were refused: ")


def test_the_unit_s_watchdog_leaves_a_stalled_loop_no_longer_than_the_bar() -> None:
    assert 0 < watchdog_s(UNIT.read_text()) <= STALLED_BAR_S


async def test_a_silence_is_told_when_nothing_has_come_for_so_long(autojump_clock: MockClock) -> None:
    async def live() -> None:
        for _ in range(3):
            manager.hear("WATCHDOG=1")
            await trio.sleep(5)

    manager, begun_s = Notified("none"), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        await trio.sleep(1)
        manager.hear("STATUS=well")
        assert await manager.silence("WATCHDOG=1", for_s=15, within_s=60) - begun_s == pytest.approx(25)
        manager.hear("WATCHDOG=1")
        with pytest.raises(trio.TooSlowError):
            await manager.silence("WATCHDOG=1", for_s=15, within_s=10)


def test_a_unit_without_a_watchdog_is_said() -> None:
    with pytest.raises(RuntimeError, match="no WatchdogSec"):
        watchdog_s("[Service]\nType=notify\n")
