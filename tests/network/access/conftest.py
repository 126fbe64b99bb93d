"""What the tests of access share."""

from collections.abc import AsyncIterator

import pytest

from tests.web.site import Site, serving_site


@pytest.fixture
async def site(conninfo: str) -> AsyncIterator[Site]:
    async with serving_site(conninfo) as served:
        yield served
