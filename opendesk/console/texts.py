"""Numbers, amounts, times and other people's words, as the page shows them. Pure."""

from datetime import UTC, datetime
from typing import Final

# Where nothing is known.
NOTHING: Final = "–"
# Of one cell: an error's first words say most, and a page isn't where one reads the rest.
CELL_CHARS: Final = 120

_KILO: Final = 1000
_SIZES: Final = ("B", "kB", "MB", "GB", "TB")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_CENTAVOS: Final = 100


def cut(words: object, most: int = CELL_CHARS) -> str:
    """As one line without anything that isn't seen, and not too long."""
    line = str(words)[: most * 4]
    if not line.isprintable():
        line = "".join([char if char.isprintable() else " " for char in line])
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def number(value: int | None, *, most: int | None = None) -> str:
    """With a plus where counting stopped at `most`."""
    if value is None:
        return NOTHING
    return f"{value:,}+" if most is not None and value >= most else f"{value:,}"


def money(minor_units: int | None, currency: str) -> str:
    if minor_units is None:
        return NOTHING
    whole, rest = divmod(abs(minor_units), _CENTAVOS)
    return f"{'-' if minor_units < 0 else ''}{whole:,}.{rest:02d} {currency}".rstrip()


def size(count: float | None, *, per_s: bool = False) -> str:
    if count is None:
        return NOTHING
    power = 0
    while count >= _KILO and power < len(_SIZES) - 1:
        count, power = count / _KILO, power + 1
    digits = 0 if power == 0 or count >= _KILO / 10 else 1
    return f"{count:.{digits}f} {_SIZES[power]}{'/s' if per_s else ''}"


def span(seconds: float | None) -> str:
    """How long, in the two largest units: what changes seldom costs little to keep current."""
    if seconds is None:
        return NOTHING
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def age(seconds: float | None) -> str:
    """How long ago, to the minute: a row of many isn't to change every second."""
    if seconds is None:
        return NOTHING
    return "< 1 min" if seconds < _MINUTE_S else span(seconds)


def clock(moment: datetime | None, now: datetime) -> str:
    """The time of a day that is today (UTC), and the date of any other."""
    if moment is None:
        return NOTHING
    told = moment.astimezone(UTC)
    return f"{told:%H:%M:%S}" if told.date() == now.astimezone(UTC).date() else f"{told:%Y-%m-%d %H:%M}"


def stamp(moment: datetime) -> str:
    """RFC 3339, UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
