"""An audit line a step, counted, in the same form everywhere."""

import io
import json
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from opendesk.ops import logging
from opendesk.ops.audit import OUTCOMES, Audit
from opendesk.ops.redaction import MASK


def audited(*steps: tuple[str, dict[str, Any]]) -> tuple[list[Any], list[str]]:
    counted: list[str] = []
    audit = Audit(counted.append)
    with capture_logs() as logs:
        for outcome, facts in steps:
            getattr(audit, outcome)("AUTHORIZE_BY_PEDIDO", "a-trace", **facts)
    return logs, counted


def test_each_step_is_a_line_and_counted() -> None:
    facts = {"router": "r1", "pedidoId": "p1"}
    logs, counted = audited(("attempt", facts), ("success", {"changed": True}), ("failure", {"error": "CIRCUIT_OPEN"}))
    assert tuple(counted) == OUTCOMES
    same = {"event": "audit", "log_level": "info", "action": "AUTHORIZE_BY_PEDIDO", "traceId": "a-trace"}
    assert logs == [
        {**same, "outcome": "attempt", **facts},
        {**same, "outcome": "success", "changed": True},
        {**same, "outcome": "failure", "error": "CIRCUIT_OPEN"},
    ]


def test_a_fact_takes_no_other_s_place() -> None:
    (line,), _ = audited(("attempt", {"outcome": "success", "traceId": "another", "event": "x"}))
    assert (line["event"], line["outcome"], line["traceId"]) == ("audit", "attempt", "a-trace")


@pytest.mark.parametrize("level", logging.LEVELS)
def test_no_log_level_leaves_a_line_out(level: str) -> None:
    stream = io.StringIO()
    logs = logging.configure(level, "json", stream, environ={})
    try:
        Audit(lambda _: None).failure("HELLO", "a-trace", error="CIRCUIT_OPEN")
        structlog.get_logger().info("something.else")
    finally:
        logs.close()
    told = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert told == (["audit", "something.else"] if level in {"debug", "info"} else ["audit"])


def test_secrets_do_not_reach_the_log() -> None:
    stream = io.StringIO()
    logs = logging.configure("info", "json", stream, environ={})
    try:
        Audit(lambda _: None).attempt("HELLO", "a-trace", deviceToken="hush", api_password="hush", router="r1")
    finally:
        logs.close()
    line = json.loads(stream.getvalue())
    assert (line["event"], line["router"], line["deviceToken"]) == ("audit", "r1", MASK)
    assert "hush" not in stream.getvalue()
