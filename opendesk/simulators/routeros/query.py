"""The query words of `print`: a stack of conditions, and operations on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final

from attrs import frozen

from opendesk.simulators.routeros import durations
from opendesk.simulators.routeros.refusals import ARGUMENT, Refused
from opendesk.simulators.routeros.tables import INDEXED, Table

Row = Mapping[str, str]

_TRUTHS: Final = {"yes": "true", "no": "false"}


@frozen
class Test:
    """`fits` looks at a row as it is shown. `numbers` are those of a table that may fit: None for all."""

    fits: Callable[[Row], bool]
    numbers: Callable[[Table], set[int] | None] = lambda _: None


def matching(words: Sequence[str]) -> Test:
    """What a row must be for all that is on the stack in the end to hold. Refuses a query that is none."""
    stack: list[Test] = []
    for word in words:
        if word.startswith("?#"):
            _operate(stack, word[2:])
        else:
            stack.append(_condition(word[1:]))
    return Test(
        lambda row: all(test.fits(row) for test in stack), lambda table: _fewest(test.numbers(table) for test in stack)
    )


def _condition(text: str) -> Test:
    if text.startswith("-"):
        name = text[1:]
        return Test(lambda row: name not in row, lambda table: _having(table, name, None))
    sign, rest = (text[0], text[1:]) if text[:1] in {"=", "<", ">"} else ("=", text)
    name, has_value, value = rest.partition("=")
    if not name or (sign != "=" and not has_value):
        raise Refused(ARGUMENT, "invalid query")
    if not has_value:
        return Test(lambda row: name in row)
    if sign == "=":
        return Test(lambda row: name in row and _same(row[name], value), lambda table: _having(table, name, value))
    below = sign == "<"
    return Test(lambda row: name in row and _below(*((row[name], value) if below else (value, row[name]))))


def _having(table: Table, name: str, value: str | None) -> set[int] | None:
    return table.having(name, value) if name in INDEXED and value not in _TRUTHS else None


def _fewest(found: Iterable[set[int] | None]) -> set[int] | None:
    return min((numbers for numbers in found if numbers is not None), key=len, default=None)


def _same(held: str, asked: str) -> bool:
    """A router compares truth values by what they mean."""
    return held == _TRUTHS.get(asked, asked) if held in {"true", "false"} else held == asked


def _below(one: str, other: str) -> bool:
    for read in (int, lambda text: int(ip_address(text)), durations.seconds):
        try:
            first, second = read(one), read(other)
        except ValueError:
            continue
        if first is not None and second is not None:
            return first < second
    return one < other


def _operate(stack: list[Test], operations: str) -> None:
    digits = ""
    for sign in operations:
        if sign.isascii() and sign.isdigit():
            digits += sign
            continue
        if digits:
            stack.append(_at(stack, digits))
        # After an index a dot does nothing; elsewhere it copies what is on top.
        if sign != "." or not digits:
            _apply(stack, sign)
        digits = ""
    if digits:
        stack[:] = [_at(stack, digits)]


def _at(stack: list[Test], digits: str) -> Test:
    """Counted from the top, which is 0."""
    if int(digits[:6]) >= len(stack):
        raise Refused(ARGUMENT, "invalid query")
    return stack[-1 - int(digits)]


def _apply(stack: list[Test], sign: str) -> None:
    needed = {"!": 1, ".": 1, "&": 2, "|": 2}.get(sign)
    if needed is None or len(stack) < needed:
        raise Refused(ARGUMENT, "invalid query")
    top = stack.pop()
    if sign == "!":
        stack.append(Test(lambda row: not top.fits(row)))
    elif sign == ".":
        stack += [top, top]
    elif sign == "&":
        stack.append(_both(stack.pop(), top))
    else:
        stack.append(_either(stack.pop(), top))


def _both(one: Test, other: Test) -> Test:
    return Test(
        lambda row: one.fits(row) and other.fits(row),
        lambda table: _fewest([one.numbers(table), other.numbers(table)]),
    )


def _either(one: Test, other: Test) -> Test:
    def numbers(table: Table) -> set[int] | None:
        these, those = one.numbers(table), other.numbers(table)
        return None if these is None or those is None else these | those

    return Test(lambda row: one.fits(row) or other.fits(row), numbers)
