"""What is counted now and then of the rental: each daemon of a database says the same."""

from collections import Counter
from typing import Final

from prometheus_client import Gauge
import structlog
import trio

from opendesk import supervise
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import EndReason
from opendesk.rental.telling import KINDS

log = structlog.get_logger()

# Prometheus asks every 15 s or so. Live sessions are an index's, and ten thousand PCs take some milliseconds.
FIGURES_S: Final = 10.0
# What is more is told as this.
COUNT_AT_MOST: Final = 100_000
LIVE: Final = ("PENDING", "ACTIVE")
PC_STATUSES: Final = ("ONLINE", "BUSY", "OFFLINE")
# What the rental has Metrics count, by its words. Each is shown from the start, so that the first one of each is seen.
EVENTS: Final = ("created", "started")
LOG_INS_REFUSED: Final = ("credentials", "rate_limited")
TIMERS: Final = ("expiry", "host_timeout")

_COUNT: Final = f"""
    SELECT 'session', status, count(*)
      FROM (SELECT status FROM sessions WHERE status IN ('PENDING', 'ACTIVE') LIMIT {COUNT_AT_MOST}) AS live GROUP BY status
     UNION ALL
    SELECT 'pc', status, count(*)
      FROM (SELECT status FROM pcs WHERE deleted_at IS NULL LIMIT {COUNT_AT_MOST}) AS listed GROUP BY status
"""


class RentalFigures:
    """Made once a daemon, beside its Metrics. `keep` is a service."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._live = Gauge("opendesk_live_sessions", "Sessions that aren't over", ["status"], registry=registry)
        self._pcs = Gauge("opendesk_pcs", "PCs that are offered, by status", ["status"], registry=registry)
        for event in EVENTS:
            metrics.session_event(event, 0)
        for reason in EndReason:
            metrics.session_ended(reason, 0)
        for kind in KINDS:
            metrics.money_settled(kind, 0)
        for refused in LOG_INS_REFUSED:
            metrics.login_failed(refused, 0)
        for timer in TIMERS:
            metrics.timer_known(timer)

    async def keep(self, pool: Pool) -> None:
        while True:
            supervise.alive()
            try:
                async with pool.connection() as conn:
                    await self.count(conn)
            except AWAY as error:
                log.warning("rental.not_counted", error=repr(error))
            await trio.sleep(FIGURES_S)

    async def count(self, conn: TrioConnection) -> None:
        found = Counter({(what, status): int(number) for what, status, number in await conn.fetch(_COUNT)})
        for status in LIVE:
            self._live.labels(status).set(found["session", status])
        for status in PC_STATUSES:
            self._pcs.labels(status).set(found["pc", status])
