"""What a look led to. Whatever isn't well says what to do."""

from collections.abc import Iterable
from typing import Final, Literal

from attrs import frozen

# `skipped`: it couldn't be looked at, or need not be, and `do` says how it could.
State = Literal["ok", "skipped", "warn", "bad"]
# From what asks for nothing to what asks for somebody at once.
STATES: Final[tuple[State, ...]] = ("ok", "skipped", "warn", "bad")


@frozen
class Finding:
    """`check` is `topic.what`, the same in every version, for scripts."""

    check: str
    state: State
    what: str
    do: str | None = None

    def __attrs_post_init__(self) -> None:
        assert (self.state == "ok") == (self.do is None), self

    @property
    def topic(self) -> str:
        return self.check.partition(".")[0]


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def warn(check: str, what: str, do: str) -> Finding:
    return Finding(check, "warn", what, do)


def bad(check: str, what: str, do: str) -> Finding:
    return Finding(check, "bad", what, do)


def skipped(check: str, what: str, do: str) -> Finding:
    return Finding(check, "skipped", what, do)


def worst(findings: Iterable[Finding]) -> State:
    return max((finding.state for finding in findings), key=STATES.index, default="ok")
