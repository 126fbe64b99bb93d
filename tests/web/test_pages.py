from uuid import UUID

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.errors import ValidationFailed
from opendesk.web.pages import PageQuery, page
from opendesk.web.reading import structure_query


@frozen
class Item:
    id: UUID


def select(items: list[Item], query: PageQuery) -> list[Item]:
    """As the database does."""
    return [item for item in items if item.id < query.before][: query.wanted]


@given(st.sets(st.uuids(), max_size=30), st.integers(1, 10))
def test_walking_the_pages_finds_everything_once_newest_first(ids: set[UUID], limit: int) -> None:
    items = [Item(each) for each in sorted(ids, reverse=True)]
    query = PageQuery(limit)
    walked: list[Item] = []
    while True:
        found = page(select(items, query), query)
        assert len(found.items) <= limit
        walked += found.items
        if found.next_cursor is None:
            break
        assert len(found.items) == limit
        query = structure_query([("limit", str(limit)), ("cursor", found.next_cursor)], PageQuery)
    assert walked == items


@given(st.uuids())
def test_a_cursor_is_read_as_it_was_written(last: UUID) -> None:
    found = page([Item(last), Item(last)], PageQuery(limit=1))
    assert found.next_cursor is not None
    assert structure_query([("cursor", found.next_cursor)], PageQuery).before == last


def test_without_a_cursor_everything_is_before() -> None:
    assert PageQuery().before == UUID(int=2**128 - 1)
    assert PageQuery().limit == 20


@given(st.text(max_size=30))
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    try:
        query = structure_query([("cursor", text)], PageQuery)
    except ValidationFailed as refusal:
        assert [fault.pointer for fault in refusal.errors] == ["/cursor"]  # noqa: PT017  # both ways are right
    else:
        assert isinstance(query.before, UUID)


@pytest.mark.parametrize("limit", [1, 100])
def test_the_limits_are_within(limit: int) -> None:
    assert structure_query([("limit", str(limit))], PageQuery).wanted == limit + 1
