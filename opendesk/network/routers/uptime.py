"""How long a router has been up, as it prints it, and whether it has been away in between."""

import re
from typing import Final

_UNITS_S: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PARTS: Final = re.compile("".join(f"(?:([0-9]{{1,6}}){unit})?" for unit in _UNITS_S))
# None has been up for as long: whoever says so is up to something, and no calendar goes back as far as it could say.
LONGEST_S: Final = 100 * 365 * 86_400

# Uptime is told in whole seconds, and an answer may be late by as much as it may take.
SLACK_S: Final = 15.0
# How wrong a cheap router's clock goes, and ours, as a part of the time between two looks: an hour in a month.
DRIFT: Final = 0.0015


def parse_uptime(text: str) -> float | None:
    """`2d20h12m20s` in seconds; None for what isn't such a text, or can't be meant."""
    if not text or not (found := _PARTS.fullmatch(text)):
        return None
    uptime_s = sum(int(count or 0) * unit_s for count, unit_s in zip(found.groups(), _UNITS_S.values(), strict=True))
    return float(uptime_s) if uptime_s <= LONGEST_S else None


def has_rebooted(*, expected_s: float, since_s: float, uptime_s: float) -> bool:
    """Whether it is up for less long than it would be had it stayed so for the `since_s` seconds since it was looked at."""
    return uptime_s < expected_s - SLACK_S - since_s * DRIFT
