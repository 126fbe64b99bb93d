"""What is put together for events says at the start what an operator may not have meant."""

from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from opendesk.network.events.figures import EventFigures
from opendesk.network.events.parts import events
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.settings import load

ACKS = {"BACKEND_ACK_URL": "http://127.0.0.1:1/acks"}


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"RELAY_DRY_RUN": "1", **ACKS}, 1), ({"RELAY_DRY_RUN": "1"}, 0), (ACKS, 0)],
    ids=["both", "a dry run", "ACKs"],
)
async def test_a_dry_run_that_tells_a_backend_that_all_is_done_says_so(settings: dict[str, str], warned: int) -> None:
    nobody: Any = None
    with capture_logs() as logs:
        events(
            load({"OPENDESK_DATA_DIR": "/nowhere", **settings}),
            pool=nobody,
            fleet=nobody,
            node=uuid4(),
            audit=Audit(print),
            figures=EventFigures(Metrics()),
            peer_silent_for=lambda _key: None,
        )
    assert [line["log_level"] for line in logs if line["event"] == "events.dry_run_acknowledges"] == [
        "warning"
    ] * warned
