"""The rental tests stand on PostgreSQL; after each that asks for `books`, the books are proven."""

from collections.abc import AsyncIterator

import pytest

from opendesk.postgres.driver import TrioConnection
from tests.rental.builders import Stage, assert_books_are_right, set_stage


@pytest.fixture
async def books(conn: TrioConnection) -> AsyncIterator[None]:
    """The ledger is right at the end of the test."""
    yield
    await assert_books_are_right(conn)


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    """A host with a PC that beats (24.00 an hour), and a client with 100.00."""
    return await set_stage(conn)
