"""How long a router has been up, as it prints it, and whether it has been away in between."""

import re
from typing import Final

_UNITS_S: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PARTS: Final = re.compile(r"(?:[0-9]{1,6}[wdhms])+")
_PART: Final = re.compile(r"([0-9]+)([wdhms])")

# Uptime is told in whole seconds, and an answer may be late by as much as it may take.
SLACK_S: Final = 15.0
# How wrong a cheap router's clock goes, and ours, as a part of the time between two looks: an hour in a month.
DRIFT: Final = 0.0015


def parse_uptime(text: str) -> float | None:
    """`2d20h12m20s` in seconds; None for what isn't such a text."""
    if not _PARTS.fullmatch(text):
        return None
    return float(sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text)))


def has_rebooted(*, expected_s: float, since_s: float, uptime_s: float) -> bool:
    """Whether it is up for less long than it would be had it stayed so for the `since_s` seconds since it was looked at."""
    return uptime_s < expected_s - SLACK_S - since_s * DRIFT
