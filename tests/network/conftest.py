from collections.abc import AsyncIterator

import pytest

from tests.network.wireguard.namespaces import Joined, joined, skip_if_impossible


@pytest.fixture(scope="session")
def real_wireguard() -> None:
    """What can't be had is said loudly. Not in an async fixture: pytest-trio drops what a skip says."""
    skip_if_impossible()


@pytest.fixture
async def wires(real_wireguard: None) -> AsyncIterator[Joined]:
    """Real WireGuard between a VPS and a bus."""
    async with joined() as both:
        yield both
