"""An hour's churn, in a process of its own: `python -m scripts.benchmarks.churn_load`, asked in lines of JSON.

Some threads, each with a connection and one act at a time. Hosts beat all the while, as they would; those of rentals that end by their
host's silence don't.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from itertools import count, cycle, islice
import json
from queue import Empty, SimpleQueue
import random
import sys
import threading
import time
from typing import Any, Final

from attrs import define, field

from scripts.benchmarks import churn_acts as acts
from scripts.benchmarks.churn_acts import ANSWER_S, Caller, Ids, Refused, Town
from scripts.benchmarks.churn_hour import Hour
from scripts.benchmarks.churn_watch import watch

_THREADS: Final = 8
# What a host does, in a fifth of the time after which these are given up.
BEAT_S: Final = 3.0
# An hour at a tenth of the speed that is usual here. What isn't begun by then is left, and counted with what was refused.
HOUR_AT_MOST_S: Final = 300.0
# For the acts that are under way then; none has so many calls that each waits for so long.
HOUR_ENDS_S: Final = HOUR_AT_MOST_S + 4 * ANSWER_S
# A part of an hour's acts: with more than this refused it isn't the churn that was asked for.
REFUSED_AT_MOST: Final = 0.1
_FEW_REFUSED: Final = 5
_FAULTS_TOLD: Final = 5
# A daemon that is busy has a host say it again.
_HEARD: Final = (200, 503)

Act = Callable[[Caller], None]


@define(eq=False)
class Crowd:
    """`renters` are free ones; those whose session goes on without them come back when they are told so."""

    town: Town
    renters: SimpleQueue[Ids] = field(factory=SimpleQueue)
    admins: SimpleQueue[Ids] = field(factory=SimpleQueue)
    _numbers: Iterator[int] = field(factory=lambda: count(1))
    _away: list[Ids] = field(factory=list)
    _silent: list[str] = field(factory=list)
    _faults: list[str] = field(factory=list)
    _refused: Counter[str] = field(factory=Counter)

    def hour(self, told: Hour) -> dict[str, Any]:
        """Everything of an hour in any order. Whose hosts are silent now, and what was refused."""
        self._faults.clear()
        self._refused.clear()
        todo = SimpleQueue[Act]()
        drawn = list(self._acts(told))
        random.shuffle(drawn)
        for act in drawn:
            todo.put(act)
        begun_s = time.monotonic()
        threads = [
            threading.Thread(target=self._work, args=(todo, begun_s + HOUR_AT_MOST_S), daemon=True)
            for _ in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._judge(len(drawn), todo.qsize())
        return {
            "silent": self._silent[:],
            "faults": self._faults[:_FAULTS_TOLD],
            "refused": dict(self._refused),
            "acts": len(drawn),
            "seconds": time.monotonic() - begun_s,
        }

    def _judge(self, acts: int, left: int) -> None:
        if left and not self._faults:
            self._refused[f"not begun within {HOUR_AT_MOST_S:g} s"] += left
        if self._refused.total() > max(acts * REFUSED_AT_MOST, _FEW_REFUSED):
            self._faults.append(f"of {acts} acts {self._refused.total()} were refused: {dict(self._refused)}")

    def back(self) -> None:
        """Their sessions are over."""
        for renter in self._away:
            self.renters.put(renter)
        self._away.clear()
        self._silent.clear()

    def _work(self, todo: SimpleQueue[Act], until_s: float) -> None:
        caller = Caller(self.town.port)
        while not self._faults and time.monotonic() < until_s:
            try:
                act = todo.get_nowait()
            except Empty:
                break
            try:
                act(caller)
            except Refused as error:
                self._refused[str(error)] += 1
            except TimeoutError:
                self._refused[f"no answer within {ANSWER_S:g} s"] += 1
                caller.close()
            except (OSError, RuntimeError, HTTPException) as error:
                self._faults.append(repr(error))
        caller.close()

    def _acts(self, told: Hour) -> Iterator[Act]:
        yield from [partial(self._over, acts.ended)] * told.ended
        yield from [partial(self._over, acts.killed)] * told.killed
        yield from [partial(self._left, acts.expired)] * told.expired
        yield from [partial(self._left, acts.abandoned)] * told.abandoned
        yield from [partial(self._left, acts.expired, silent=True)] * told.silent
        of_town = {
            acts.look: told.looks,
            acts.log_in: told.log_ins,
            acts.authorized: told.authorized,
            acts.tunnel: told.tunnels,
        }
        for act, often in of_town.items():
            yield from (partial(act, town=self.town, number=number) for number in islice(self._numbers, often))
        yield from (partial(acts.refused, number=number) for number in islice(self._numbers, told.refused))
        yield from (partial(acts.cut, number=number) for number in islice(self._numbers, told.cut))
        yield from (partial(self._watched, logs_out=number % 2 == 0) for number in range(told.watched))

    def _over(self, act: Callable[[Caller, Ids], None], caller: Caller) -> None:
        """Who was refused may have a session that goes on."""
        renter = self._renter()
        try:
            act(caller, renter)
        except (Refused, TimeoutError):
            self._away.append(renter)
            raise
        self.renters.put(renter)

    def _left(self, act: Callable[[Caller, Ids], None], caller: Caller, *, silent: bool = False) -> None:
        renter = self._renter()
        self._away.append(renter)
        act(caller, renter)
        if silent:
            self._silent.append(renter["pc"])

    def _renter(self) -> Ids:
        try:
            return self.renters.get(timeout=ANSWER_S)
        except Empty:
            raise Refused("a rental: everybody waits for a session to be over") from None

    def _watched(self, caller: Caller, *, logs_out: bool) -> None:
        """Logging out ends all that an admin watches, so none of them watches twice at a time."""
        admin = self.admins.get()
        try:
            watch(caller.port, admin, logs_out=logs_out)
        finally:
            self.admins.put(admin)

    def beat(self, renters: list[Ids]) -> None:
        """One host after another, for good. One that isn't heard beats again in its turn."""
        caller = Caller(self.town.port)
        for renter in cycle(renters):
            if renter["pc"] not in self._silent:
                with suppress(OSError, HTTPException):
                    caller.ask("POST", f"/hosts/{renter['host']}/heartbeat", renter["host_token"], expected=_HEARD)
            time.sleep(BEAT_S / len(renters))


def _crowd(told: dict[str, Any]) -> Crowd:
    crowd = Crowd(Town(**told["town"]))
    for renter in told["renters"]:
        crowd.renters.put(renter)
    for admin in crowd.town.admins:
        crowd.admins.put(admin)
    threading.Thread(target=crowd.beat, args=(told["renters"],), daemon=True).start()
    return crowd


def main() -> None:
    """The first line says who is there."""
    crowd = _crowd(json.loads(sys.stdin.readline()))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(_said(crowd, told)), flush=True)


def _said(crowd: Crowd, told: dict[str, Any]) -> object:
    if told["ask"] == "hour":
        return crowd.hour(Hour(**told["hour"]))
    crowd.back()
    return None


if __name__ == "__main__":
    main()
