"""The collector looks seldom, and not at what stays."""

from collections.abc import Iterator
import gc

import pytest

from opendesk.ops import collector


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_looks_seldom() -> None:
    collector.look_seldom()
    assert gc.get_threshold()[0] == collector.YOUNG
    assert gc.isenabled()


def test_what_is_there_is_not_looked_at_again_and_what_comes_later_is() -> None:
    here = [object()]
    collector.spare_what_stays()
    later: list[object] = [here]
    found = {id(each) for each in gc.get_objects()}
    assert gc.get_freeze_count() > 0
    assert id(here) not in found
    assert id(later) in found
