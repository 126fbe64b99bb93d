"""What the tests of the console share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from opendesk.console import board as boards
from tests.console.board_site import BoardSite, serving_board
from tests.console.chromium import Chromium, chromium_running
from tests.system.conftest import folder, start

# Fixtures: what starts daemons in processes of their own.
__all__ = ["folder", "start"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with chromium_running() as running:
        yield running


@pytest.fixture
async def board(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BoardSite]:
    """Ten times as quick as a daemon's."""
    monkeypatch.setattr(boards, "PERIOD_S", boards.PERIOD_S / 10)
    async with serving_board(conninfo) as site:
        for look in site.services.console.app._board._gatherer.asking.looks:
            look.period_s /= 10
        yield site
