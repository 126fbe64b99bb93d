"""The books are proven once a day by each daemon that serves, so that a fault is heard of before somebody asks for a payout."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from opendesk import supervise
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.rental import ledger
from opendesk.rental.ledger import Verification

log = structlog.get_logger()

DAY_S: Final = 86_400.0
# After a start: a daemon that comes up has other things to do, and one that is started again and again isn't to read all each time.
FIRST_AFTER_S: Final = 600.0
# A large ledger takes minutes. What takes longer than this hangs, on a lock or on a database that has fallen mute.
PROOF_AT_MOST_S: Final = 6 * 3600.0
# For a database that is away.
RETRY_S: Final = 60.0

# One at a time: it reads everything. Each daemon's metrics are of its own proof, so who finds another at it comes again. Held by the connection.
_TAKE_TURN: Final = "SELECT pg_try_advisory_lock(hashtextextended('opendesk.proving', 0))"


async def keep_proving(
    connect: Callable[[], Awaitable[TrioConnection]], metrics: Metrics, *, first_after_s: float = FIRST_AFTER_S
) -> None:
    """A service. On a connection of its own: with a large ledger it takes minutes."""
    await _rest(first_after_s)
    while True:
        is_done = False
        try:
            with trio.move_on_after(PROOF_AT_MOST_S) as limit:
                is_done = await prove(connect, metrics)
        except AWAY as error:
            log.warning("ledger.not_proven", error=repr(error))
        if limit.cancelled_caught:
            log.error("ledger.not_proven", error="it took too long", at_most_s=PROOF_AT_MOST_S)
        await _rest(DAY_S if is_done or limit.cancelled_caught else RETRY_S)


async def prove(connect: Callable[[], Awaitable[TrioConnection]], metrics: Metrics) -> bool:
    """False where another daemon is at it."""
    supervise.alive(wait_s=PROOF_AT_MOST_S)
    async with await connect() as conn:
        row = await conn.fetch_one(_TAKE_TURN)
        if row is None or not row[0]:
            return False
        found = await ledger.verify(conn)
    tell(found, metrics)
    return True


def tell(found: Verification, metrics: Metrics) -> None:
    """Whoever made the proof: alerts go by the metrics, people by the log."""
    metrics.ledger_proven(right=found.ok)
    faults = {check.states: check.faults for check in found.checks if check.faults}
    if faults:
        log.critical("ledger.wrong", faults=faults, hint="opendesk ledger verify")
    else:
        log.info("ledger.proven", entries=found.entries, wallets=found.wallets)


async def _rest(for_s: float) -> None:
    supervise.alive(wait_s=for_s)
    await trio.sleep(for_s)
