"""The query words of `print`: a stack of conditions, and operations on it."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

from opendesk.simulators.routeros import durations
from opendesk.simulators.routeros.refusals import ARGUMENT, Refused

Row = Mapping[str, str]
Test = Callable[[Row], bool]


def matching(words: Sequence[str]) -> Test:
    """What a row must be for all that is on the stack in the end to hold. Refuses a query that is none."""
    stack: list[Test] = []
    for word in words:
        if word.startswith("?#"):
            _operate(stack, word[2:])
        else:
            stack.append(_condition(word[1:]))
    return lambda row: all(test(row) for test in stack)


def _condition(text: str) -> Test:
    if text.startswith("-"):
        name = text[1:]
        return lambda row: name not in row
    sign, rest = (text[0], text[1:]) if text[:1] in {"=", "<", ">"} else ("=", text)
    name, has_value, value = rest.partition("=")
    if not name or (sign != "=" and not has_value):
        raise Refused(ARGUMENT, "invalid query")
    if not has_value:
        return lambda row: name in row
    if sign == "=":
        return lambda row: name in row and _same(row[name], value)
    below = sign == "<"
    return lambda row: name in row and _below(*((row[name], value) if below else (value, row[name])))


def _same(held: str, asked: str) -> bool:
    """A router compares truth values by what they mean."""
    return held == {"yes": "true", "no": "false"}.get(asked, asked) if held in {"true", "false"} else held == asked


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
        stack.append(lambda row: not top(row))
    elif sign == ".":
        stack += [top, top]
    elif sign == "&":
        under = stack.pop()
        stack.append(lambda row: under(row) and top(row))
    else:
        under = stack.pop()
        stack.append(lambda row: under(row) or top(row))
