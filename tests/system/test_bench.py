"""Every benchmark runs, in a size that shows only that it does; how fast anything was is not looked at."""

from collections.abc import Iterator
import json
import math
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
import trio

from scripts.benchmarks.__main__ import BENCHES
from scripts.benchmarks.relay_fairness import jain
from scripts.benchmarks.report import Report, less_is_better, more_is_better, only_told
from tests.network.wireguard.namespaces import impossible

ROOT = Path(__file__).parents[2]
# The slowest takes some 15 s; a machine that does other things as well takes a few times that.
PATIENCE_S = 200


async def bench(*arguments: str) -> str:
    """What `scripts/bench` runs once there is an environment: this one."""
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


# Each of these takes from 10 to 35 s even so.
LONG = {"churn", "console", "events", "expiry", "heartbeats", "noticing", "relay", "routers"}


def benches() -> Iterator[Any]:
    why_not = impossible()
    needs_wireguard = pytest.mark.skipif(why_not is not None, reason=f"NO REAL WIREGUARD WAS MEASURED: {why_not}")
    for name in BENCHES:
        marks = [needs_wireguard] * (name == "tunnels") + [pytest.mark.long] * (name in LONG)
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", list(benches()))
async def test_benchmark_tells_its_rows_as_json(name: str) -> None:
    told: dict[str, Any] = json.loads((await bench(name, "--quick", "--json")).splitlines()[-1])
    assert told.keys() == {"name", "rows", "ratio", "machine"}
    assert told["name"] == name
    assert told["rows"]
    assert told["machine"]
    for row in told["rows"]:
        assert row.keys() == {"work", "unit", "ours", "peer", "peer_name", "ratio"}
        assert math.isfinite(row["ours"])
        assert (row["peer"] is None) == (row["peer_name"] is None) == (row["ratio"] is None)
    assert told["ratio"] in [row["ratio"] for row in told["rows"] if row["ratio"] is not None]


async def test_list_names_every_benchmark() -> None:
    said = await bench("--list")
    assert [name for name in BENCHES if name in said] == list(BENCHES)


def test_a_ratio_is_larger_when_ours_is_better() -> None:
    assert more_is_better("", "", 200, 100, "peer").ratio == 2
    assert less_is_better("", "", 50, 100, "peer").ratio == 2


def test_the_outer_ratio_is_the_worst_of_the_rows_that_have_a_bar() -> None:
    rows = [
        more_is_better("", "", 3, 1, "peer", bar=2),
        more_is_better("", "", 4, 1, "peer", bar=5),
        more_is_better("", "", 1, 2, "peer"),
        only_told("", "", 7),
    ]
    assert Report("x", rows).ratio == 3
    assert [row.met for row in rows] == [True, False, None, None]


def test_without_a_bar_the_outer_ratio_is_the_worst_of_all() -> None:
    rows = [more_is_better("", "", 4, 1, "peer"), only_told("", "", 7), more_is_better("", "", 1, 2, "peer")]
    assert Report("x", rows).ratio == 0.5


def test_jains_index_is_1_for_equal_shares_and_one_nth_where_one_has_it_all() -> None:
    assert jain([7, 7, 7, 7]) == 1
    assert jain([0, 5, 0, 0]) == 0.25
    assert jain([1, 2, 3]) == pytest.approx(36 / 42)
    assert jain([0, 0]) == 0
