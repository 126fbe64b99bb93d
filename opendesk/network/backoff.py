"""How long to wait before the next try."""

from typing import Final

# Doubled oftener than this, any first pause is past any longest one, and a float would overflow in the end.
_MOST_DOUBLINGS: Final = 60


def pause_s(failures: int, *, first_s: float, longest_s: float, jitter: float) -> float:
    """Seconds to wait after so many failures in a row, one at least: doubled each time, up to `longest_s`.

    `jitter` (0…1, drawn by the caller) spreads it between half and one and a half of that: what failed together, as all behind one
    router do, doesn't come back together.
    """
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    return min(first_s * 2.0**doublings, longest_s) * (0.5 + jitter)
