"""What a benchmark found: rows against their peers, as JSON or as a table."""

from collections.abc import Sequence
import json
import os
import platform
from typing import Any

from attrs import asdict, field, frozen, resolve_types
import psutil
from rich.console import Console
from rich.table import Table


@frozen
class Row:
    """One measured thing. A ratio is so that larger is better, and 1 is level with the peer; `bar` is the least it should be."""

    work: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str | None
    ratio: float | None
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """None where there is no bar."""
        return None if self.bar is None or self.ratio is None else self.ratio >= self.bar


def more_is_better(work: str, unit: str, ours: float, peer: float, peer_name: str, *, bar: float | None = None) -> Row:
    return Row(work, unit, ours, peer, peer_name, _quotient(ours, peer), bar)


def less_is_better(work: str, unit: str, ours: float, peer: float, peer_name: str, *, bar: float | None = None) -> Row:
    return Row(work, unit, ours, peer, peer_name, _quotient(peer, ours), bar)


def only_told(work: str, unit: str, ours: float) -> Row:
    return Row(work, unit, ours, None, None, None)


def _quotient(over: float, under: float) -> float:
    # A tiny run may not use a tick of the CPU's clock.
    return over / max(under, 1e-9)


@frozen
class Report:
    name: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(factory=tuple)

    @property
    def ratio(self) -> float | None:
        """The worst of the rows that have a bar; of all rows, where none has."""
        ratios = [row.ratio for row in self.rows if row.bar is not None and row.ratio is not None]
        return min(ratios or [row.ratio for row in self.rows if row.ratio is not None], default=None)

    def as_json(self) -> str:
        rows = [asdict(row, filter=lambda attribute, _: attribute.name != "bar") for row in self.rows]
        told: dict[str, Any] = {"name": self.name, "rows": rows, "ratio": self.ratio, "machine": machine()}
        return json.dumps(_rounded(told), ensure_ascii=False)

    def print_to(self, console: Console) -> None:
        table = Table(title=f"{self.name} · {machine()}", title_justify="left")
        for heading in ("work", "unit", "ours", "peer", "", "ratio", "at least", ""):
            table.add_column(heading, justify="right" if heading in {"ours", "peer", "ratio", "at least"} else "left")
        for row in self.rows:
            verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[row.met]
            figures = [_shown(row.ours), _shown(row.peer), row.peer_name or "", _shown(row.ratio), _shown(row.bar)]
            table.add_row(row.work, row.unit, *figures, verdict)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", style="dim", highlight=False)


resolve_types(Row)


def machine() -> str:
    """What it ran on, in a line."""
    memory_gib = psutil.virtual_memory().total / 2**30
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, {python}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  # no file: read line by line
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _shown(figure: float | None) -> str:
    if figure is None:
        return ""
    digits = 0 if abs(figure) >= 1000 else 1 if abs(figure) >= 100 else 2  # noqa: PLR2004  # three digits that count
    return f"{figure:,.{digits}f}"


def _rounded(value: Any) -> Any:
    """Four digits that count: the noise is in the second."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
