"""A plot as the path of an SVG, for a viewBox of 100 by 24, with what is written beside it. Pure."""

from itertools import dropwhile
from typing import Final

from attrs import frozen

from opendesk.console.shapes import Plot
from opendesk.console.texts import NOTHING, size

WIDTH: Final = 100
HEIGHT: Final = 24
# Above and below: a line is half outside of where it runs.
_MARGIN: Final = 1
# All the points of a plot.
_HOUR_MIN: Final = 60
# A daemon that has just started: its few points aren't drawn all over the width.
_FEWEST_MIN: Final = 5
# Below it a tenth is worth telling.
_SMALL: Final = 10


@frozen
class Drawn:
    """Where the line runs; the last value, the highest (the top of the box; 0 is its bottom), and since when."""

    path: str
    now: str
    most: str
    since: str


def drawn(plot: Plot) -> Drawn:
    points = _measured(plot.points)
    known = [point for point in points if point is not None]
    top = max(known, default=0.0)
    last = points[-1] if points else None
    minutes = round(_HOUR_MIN * len(points) / max(1, len(plot.points)))
    since = "1 h ago" if minutes == _HOUR_MIN else f"{minutes} min ago"
    return Drawn(_path(points, top or 1.0), _told(last, plot.unit), _told(top, plot.unit) if top > 0 else "", since)


def _measured(points: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Without what was before the first that is known."""
    known = len(tuple(dropwhile(lambda point: point is None, points)))
    fewest = -(-_FEWEST_MIN * len(points) // _HOUR_MIN)
    return points[len(points) - max(known, fewest) :]


def _path(points: tuple[float | None, ...], top: float) -> str:
    """From 0 at the bottom to the highest point at the top; a gap where nothing was measured. Empty if nothing ever was."""
    step = WIDTH / max(1, len(points) - 1)
    steps, is_drawing = [], False
    for place, point in enumerate(points):
        if point is not None:
            steps.append(f"{'L' if is_drawing else 'M'}{place * step:.1f} {_height(point, top):.1f}")
            if not is_drawing and _is_alone(points, place):
                steps.append("h.1")  # a point without neighbours is seen as a dot, by its round ends
        is_drawing = point is not None
    return "".join(steps)


def _height(point: float, top: float) -> float:
    return HEIGHT - _MARGIN - max(0.0, point) / top * (HEIGHT - 2 * _MARGIN)


def _is_alone(points: tuple[float | None, ...], place: int) -> bool:
    return place + 1 >= len(points) or points[place + 1] is None


def _told(point: float | None, unit: str) -> str:
    if point is None:
        return NOTHING
    if unit == "B/s":
        return size(point, per_s=True)
    digits = 1 if point < _SMALL and point != int(point) else 0
    return f"{point:,.{digits}f} {unit}".rstrip()
