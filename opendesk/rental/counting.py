"""What the metrics are told of sessions that came to their end."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from opendesk.ops.metrics import Metrics
from opendesk.rental.sessions import Session

_KINDS: Final = ("host_payout", "platform_fee", "client_credit", "retained")


def count_closed(metrics: Metrics, closed: Sequence[Session]) -> None:
    for reason, count in Counter(session.end_reason for session in closed).items():
        metrics.session_ended(str(reason), count)
    for kind in _KINDS:
        metrics.money_settled(kind, sum(getattr(session.settlement, kind) for session in closed if session.settlement))
