"""How what is scarce is shared out."""

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.errors import Overloaded
from opendesk.web.shares import Shares

MOST, ALL = 3, 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_nobody_has_more_than_a_share_nor_all_together_more_than_theirs(steps: list[tuple[str, bool]]) -> None:
    shares = Shares(MOST, retry_after_s=7, of_all=ALL)
    held: dict[str, list[ExitStack]] = {"a": [], "b": [], "c": []}
    for address, takes in steps:
        full = len(held[address]) == MOST or sum(map(len, held.values())) == ALL
        stack = ExitStack()
        if takes and full:
            with pytest.raises(Overloaded) as caught:
                stack.enter_context(shares.one(address))
            assert caught.value.retry_after_s == 7
        elif takes:
            stack.enter_context(shares.one(address))
            held[address].append(stack)
        elif held[address]:
            held[address].pop().close()
    for stacks in held.values():
        for stack in stacks:
            stack.close()
    assert shares == Shares(MOST, retry_after_s=7, of_all=ALL), "addresses are kept only while they have a piece"


def test_a_piece_comes_back_from_whom_it_does_not_help() -> None:
    shares = Shares(1, retry_after_s=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad luck"), shares.one("a"):
            raise ValueError("bad luck")
