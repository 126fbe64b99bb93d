"""What is counted now and then, and what is kept no longer."""

from typing import Final

import structlog
import trio

from opendesk.network import nonces
from opendesk.network.events import looking as events
from opendesk.network.events import retention as event_retention
from opendesk.network.events.figures import EventFigures
from opendesk.network.figures import NetworkFigures
from opendesk.network.hotspots import devices, grants
from opendesk.network.jobs import looking
from opendesk.network.routers.lanes import PRETENDED
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive

log = structlog.get_logger()

# Prometheus asks every 15 s or so; with a hundred thousand jobs a count takes some 20 ms.
FIGURES_S: Final = 10.0
# Small rows that nobody reads once they are too old: what is left over for ten minutes costs little, nonces of a backend in a hurry included.
RETENTION_S: Final = 600.0


async def keep_figures(pool: Pool, figures: NetworkFigures, event_figures: EventFigures) -> None:
    while True:
        alive(wait_s=FIGURES_S)
        try:
            async with pool.connection() as conn:
                found = await looking.numbers(conn)
                event_figures.waiting_are(await events.count_waiting(conn))
            by_state = {
                "due": found.due + found.scheduled,
                "running": found.running,
                "done": found.done,
                "dead": found.dead,
            }
            figures.jobs_are(by_state, found.oldest_due_s, ready=found.due)
        except AWAY as error:
            log.warning("jobs.not_counted", error=repr(error))
        await trio.sleep(FIGURES_S)


async def retention(pool: Pool, events_kept_days: int) -> None:
    while True:
        alive(wait_s=RETENTION_S)
        try:
            async with pool.connection() as conn:
                gone = {
                    "nonces": await nonces.forget_old(conn),
                    "jobs": await looking.forget_old(conn) + await looking.forget_left(conn, PRETENDED),
                    "grants": await grants.forget_old(conn),
                    "devices": await devices.forget_old(conn),
                    "event_details": await event_retention.forget_details(conn, events_kept_days),
                    "events_left": await event_retention.forget_left(conn),
                }
            log.debug("network.retention_done", **gone)
        except AWAY as error:
            log.warning("network.retention_database_away", error=repr(error))
        await trio.sleep(RETENTION_S)
