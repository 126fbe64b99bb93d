"""What most tests of the relay begin with."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.rental.builders import Stage, rent, set_stage
from tests.stream.relaying import Relaying, relaying

Limited = Callable[..., AbstractAsyncContextManager[Relaying]]


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
async def limited(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> Limited:
    """How a test gets a relay with limits of its own, and an ACTIVE session on it."""
    return partial(relaying, conn, pool, conninfo, stage, await rent(conn, stage))


@pytest.fixture
async def on(limited: Limited) -> AsyncIterator[Relaying]:
    """One with the limits of the contract."""
    async with limited() as made:
        yield made
