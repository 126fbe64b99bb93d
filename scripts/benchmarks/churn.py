"""`churn`: hours of what comes and goes, at the speed that this machine has, and whether the daemon holds as much after them as before."""

from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import Any, Final

from attrs import frozen
import trio

from scripts.benchmarks.churn_hour import hour
from scripts.benchmarks.churn_memory import MIB, Held, slope, spread
from scripts.benchmarks.churn_world import Churn, churn
from scripts.benchmarks.report import Report, Row, less_is_better, only_told
from scripts.benchmarks.servers import database
from scripts.benchmarks.sizes import Size

SPREAD_BAR_PERCENT: Final = 2.0
# Of all hours, the first ones fill what is bounded: pools, caches, statements, what PostgreSQL and malloc keep for the next time.
WARM_UP: Final = 0.25
_QUIET_S: Final = 3.0
_DAY_HOURS: Final = 24
# Types of which there are more objects afterwards: the ones that grew most.
_GREW_TOLD: Final = 8
_GREW_BY: Final = 50


@frozen
class Run:
    """One sample for each hour after the warm-up, and one of before them."""

    samples: Sequence[Held]
    before: dict[str, Any]
    after: dict[str, Any]
    seconds: Sequence[float]
    refused: Mapping[str, int]
    acts: int


async def measure(size: Size) -> Report:
    """Raise RuntimeError if anything was answered other than it should be."""
    async with database() as base, base.connection() as conn:
        with TemporaryFile() as log:
            try:
                async with churn(base, conn, log) as world:
                    ran = await _run(world, size)
            except RuntimeError as error:
                raise RuntimeError(f"{error}; the daemon said {_last_lines(log)}") from None
    return Report("churn", _rows(ran, size), _notes(ran, size))


async def _run(world: Churn, size: Size) -> Run:
    much, warm_up = hour(size), max(1, round(size.hours * WARM_UP))
    await world.census()  # it takes memory itself: no sample is of before the first
    seconds = [await world.hour(much) for _ in range(warm_up)]
    await trio.sleep(size.seconds(_QUIET_S))
    # The sample first, here as at the end: a census has garbage collected.
    samples = [world.held()]
    before = await world.census()
    for _ in range(size.hours - warm_up):
        seconds.append(await world.hour(much))
        await trio.sleep(size.seconds(_QUIET_S))
        samples.append(world.held())
    return Run(samples, before, await world.census(), seconds, world.refused, world.acts)


def _rows(ran: Run, size: Size) -> list[Row]:
    resident = [sample.resident / MIB for sample in ran.samples]
    work = f"{size.hours} hours' churn, after the first {size.hours - len(resident) + 1}"
    first, last = ran.samples[0], ran.samples[-1]
    return [
        less_is_better(f"{work}: resident memory, from the least to the most", "%", spread(resident) * 100, SPREAD_BAR_PERCENT, "bar", bar=1.0),
        only_told("the same", "MiB", resident[-1]),
        only_told("the same: the line through it, for a day", "MiB", slope(resident) * _DAY_HOURS),
        only_told("anonymous memory: the line through it, for a day", "MiB", slope([sample.anonymous / MIB for sample in ran.samples]) * _DAY_HOURS),
        only_told(f"of {ran.acts} acts, refused for now or not answered in time", "", sum(ran.refused.values())),
        only_told("descriptors: more than before", "", last.descriptors - first.descriptors),
        only_told("threads: more than before", "", last.threads - first.threads),
        only_told("tasks: more than before", "", ran.after["tasks"] - ran.before["tasks"]),
        only_told("objects that the collector knows: more than before", "", ran.after["objects"] - ran.before["objects"]),
        only_told("PostgreSQL's memory", "MiB", last.postgres / MIB),
        only_told("PostgreSQL's memory: more than before", "MiB", (last.postgres - first.postgres) / MIB),
    ]  # fmt: skip


def _notes(ran: Run, size: Size) -> list[str]:
    resident = ", ".join(f"{sample.resident / MIB:.1f}" for sample in ran.samples)
    refused = ", ".join(f"{what}, {count} times" for what, count in sorted(ran.refused.items()))
    grew = ", ".join(f"{name} {more:+}" for name, more in grown(ran.before["types"], ran.after["types"]))
    return [
        hour(size).told,
        f"hours took {min(ran.seconds):.1f} to {max(ran.seconds):.1f} s; after each, {_QUIET_S:g} s of quiet",
        f"resident, MiB: {resident}",
        f"objects that became more: {grew or 'none'}",
        f"refused: {refused or 'nothing'}",
    ]


def grown(before: dict[str, int], after: dict[str, int]) -> list[tuple[str, int]]:
    """Types of which there are clearly more, most of all first."""
    more = {name: count - before.get(name, 0) for name, count in after.items()}
    ordered = sorted(more.items(), key=lambda item: -item[1])
    return [item for item in ordered if item[1] > _GREW_BY][:_GREW_TOLD]


def _last_lines(log: Any) -> list[str]:
    log.seek(0)
    lines = [line.decode("utf-8", "replace").strip() for line in log]
    return [line for line in lines if '"level": "info"' not in line and '"level":"info"' not in line][-5:]
