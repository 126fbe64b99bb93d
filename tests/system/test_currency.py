"""Money is in the currency that it was begun in, whatever CURRENCY says later."""

from pathlib import Path

import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.wallets import CurrencyDiffers, keep_currency
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import url_of
from tests.system.people import PASSWORD

SAID = "the money in this database is in BRL, and CURRENCY is USD: set CURRENCY=BRL"


async def test_the_first_to_say_it_settles_it(conn: TrioConnection, pool: Pool) -> None:
    await keep_currency(conn, "BRL")
    async with pool.connection() as another:
        await keep_currency(another, "BRL")
        with pytest.raises(CurrencyDiffers, match=SAID):
            await keep_currency(another, "USD")


async def test_neither_a_daemon_nor_a_command_renames_money(start: Start, folder: Path, empty_conninfo: str) -> None:
    url = url_of(empty_conninfo)
    await start(folder, DATABASE_URL=url)
    await opendesk("admin", "create", "ana@example.org", "--password-stdin", stdin=PASSWORD.encode(), DATABASE_URL=url)
    for command in (["serve"], ["wallet", "credit", "ana@example.org", "5"]):
        done = await opendesk(*command, data_dir=folder, DATABASE_URL=url, CURRENCY="USD", PORT="0")
        assert (done.code, done.refusal) == (1, f"Error: {SAID}")
    credited = await opendesk("wallet", "credit", "ana@example.org", "5", DATABASE_URL=url)
    assert "balance 5 BRL" in credited.out
