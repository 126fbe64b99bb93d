"""A plot as the path of an SVG, for a viewBox of 100 by 24. Pure."""

from typing import Final

from opendesk.console.shapes import Plot

WIDTH: Final = 100
HEIGHT: Final = 24
# Above and below: a line is half outside of where it runs.
_MARGIN: Final = 1


def path_of(plot: Plot) -> str:
    """From 0 at the bottom to the highest point at the top; a gap where nothing was measured. Empty if nothing ever was."""
    known = [point for point in plot.points if point is not None]
    if not known:
        return ""
    top = max(*known, 0.0) or 1.0
    step = WIDTH / max(1, len(plot.points) - 1)
    steps, is_drawing = [], False
    for place, point in enumerate(plot.points):
        if point is not None:
            steps.append(f"{'L' if is_drawing else 'M'}{place * step:.1f} {_height(point, top):.1f}")
            if not is_drawing and _is_alone(plot.points, place):
                steps.append("h.1")  # a point without neighbours is seen as a dot, by its round ends
        is_drawing = point is not None
    return "".join(steps)


def _height(point: float, top: float) -> float:
    return HEIGHT - _MARGIN - max(0.0, point) / top * (HEIGHT - 2 * _MARGIN)


def _is_alone(points: tuple[float | None, ...], place: int) -> bool:
    return place + 1 >= len(points) or points[place + 1] is None
