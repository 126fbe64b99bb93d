"""What has changed from one snapshot to the next, as the live stream tells it. Pure."""

from collections.abc import Mapping
from typing import Any

from attrs import astuple

from opendesk.console.plots import drawn
from opendesk.console.shapes import Figure, Plot, Row, Section, Snapshot, Table

Patch = dict[str, Any]


def whole(new: Snapshot) -> Patch:
    """Everything, for who has seen nothing yet."""
    return patch(Snapshot(""), new)


def patch(old: Snapshot, new: Snapshot) -> Patch:
    """Only what has changed; `at` is always there."""
    told: Patch = {"at": new.at, "parts": {}, "figures": {}, "plots": {}, "tables": {}, "faults": {}}
    for name, section in new.sections.items():
        before = old.sections.get(name)
        if before is not section:
            _tell_section(told, before, section)
    return told


def _tell_section(told: Patch, before: Section | None, section: Section) -> None:
    name = section.name
    if before is None or _state(before) != _state(section):
        told["parts"][name] = _state(section)
    if before is None or before.fault != section.fault:
        told["faults"][name] = section.fault
    figures: Mapping[str, Figure] = {one.key: one for one in before.figures} if before else {}
    for figure in section.figures:
        if figures.get(figure.key) != figure:
            told["figures"][f"{name}.{figure.key}"] = [figure.value, figure.state, figure.note]
    plots: Mapping[str, Plot] = {one.key: one for one in before.plots} if before else {}
    for plot in section.plots:
        if (known := plots.get(plot.key)) is not plot and known != plot:
            told["plots"][f"{name}.{plot.key}"] = astuple(drawn(plot))
    tables: Mapping[str, Table] = {one.name: one for one in before.tables} if before else {}
    for table in section.tables:
        if (seen := tables.get(table.name)) is not table and (change := _table(seen, table)):
            told["tables"][table.name] = change


def _state(section: Section) -> list[str]:
    return [section.worst, section.reason]


def _table(before: Table | None, table: Table) -> Patch:
    known = {row.key: row for row in before.rows} if before else {}
    order = [row.key for row in table.rows]
    rows = [_row(row) for row in table.rows if not _is_same(known.get(row.key), row)]
    is_reordered = before is None or order != list(known)
    if before is not None and not rows and not is_reordered and before.left_out == table.left_out:
        return {}
    gone = sorted(known.keys() - set(order)) if is_reordered else []
    change: Patch = {"rows": rows, "gone": gone, "left_out": table.left_out}
    return {**change, "order": order} if is_reordered else change


def _is_same(before: Row | None, row: Row) -> bool:
    """Rows that are made only when something changed are mostly the very same."""
    return before is row or before == row


def _row(row: Row) -> list[Any]:
    return [row.key, row.state, row.why, row.can_act, list(row.cells)]
