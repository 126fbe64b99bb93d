"""The rental tests stand on PostgreSQL; after each with the mark `books`, the books are proven."""

from collections.abc import AsyncIterator

import pytest

from opendesk.postgres.driver import TrioConnection
from tests.rental.builders import Stage, assert_books_are_right, set_stage


@pytest.fixture
async def conn(conn: TrioConnection, request: pytest.FixtureRequest) -> AsyncIterator[TrioConnection]:
    """With the mark `books`, the ledger is right at the end of the test. (An async fixture that is only marked as used would not run.)"""
    yield conn
    if request.node.get_closest_marker("books") is not None:
        await assert_books_are_right(conn)


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    """A host with a PC that beats (24.00 an hour), and a client with 100.00."""
    return await set_stage(conn)
