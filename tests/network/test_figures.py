"""What is counted of the network: a router's name is a label where only the relay's own pages look."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from opendesk.network import figures
from opendesk.network.figures import NetworkFigures
from opendesk.ops.metrics import Metrics


def made() -> tuple[Metrics, NetworkFigures]:
    metrics = Metrics()
    return metrics, NetworkFigures(metrics)


def samples(text: bytes, *names: str) -> dict[tuple[str, ...], float]:
    """Of these series that have counted something the name and the labels' values, the outcome last, with the value."""
    return {
        (sample.name, *[sample.labels[label] for label in sorted(sample.labels, key="outcome".__eq__)]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name in names and (sample.value or not sample.name.endswith("_total"))
    }


def test_actions_are_counted_by_outcome_and_timed() -> None:
    metrics, on = made()
    for ok in (True, True, False):
        on.action_ended("REVOKE_SESSION", ok=ok, seconds=0.2)
    names = ("opendesk_actions_total", "opendesk_action_duration_seconds_count", "opendesk_action_duration_seconds_sum")
    assert samples(metrics.render(), *names) == {
        ("opendesk_actions_total", "REVOKE_SESSION", "attempt"): 3,
        ("opendesk_actions_total", "REVOKE_SESSION", "success"): 2,
        ("opendesk_actions_total", "REVOKE_SESSION", "fail"): 1,
        ("opendesk_action_duration_seconds_count", "REVOKE_SESSION"): 3,
        ("opendesk_action_duration_seconds_sum", "REVOKE_SESSION"): 0.2 + 0.2 + 0.2,
    }


def test_the_audit_and_the_jobs_are_there() -> None:
    metrics, on = made()
    on.audited("attempt")
    on.jobs_are({"due": 3, "dead": 1, "unheard": 9}, 4.5)
    on.jobs_are({"due": 2, "running": 1}, 1.5)
    names = ("opendesk_audit_total", "opendesk_jobs", "opendesk_job_oldest_due_seconds")
    assert samples(metrics.render(), *names) == {
        ("opendesk_audit_total", "attempt"): 1,
        ("opendesk_jobs", "due"): 2,
        ("opendesk_jobs", "running"): 1,
        ("opendesk_jobs", "done"): 0,
        ("opendesk_jobs", "dead"): 0,
        ("opendesk_job_oldest_due_seconds",): 1.5,
    }


OF_ROUTERS = ("opendesk_router_actions_total", "opendesk_router_action_seconds_total")


def test_routers_are_counted_apart() -> None:
    metrics, on = made()
    on.router_acted("r1", ok=True, seconds=0.25)
    on.router_acted("r1", ok=False, seconds=0.5)
    on.router_acted("r2", ok=True, seconds=1.0)
    assert samples(metrics.render(), *OF_ROUTERS) == {}
    assert samples(on.render(), *OF_ROUTERS) == {
        ("opendesk_router_actions_total", "r1", "success"): 1,
        ("opendesk_router_actions_total", "r1", "fail"): 1,
        ("opendesk_router_actions_total", "r2", "success"): 1,
        ("opendesk_router_action_seconds_total", "r1"): 0.75,
        ("opendesk_router_action_seconds_total", "r2"): 1.0,
    }
    assert samples(on.render(), "opendesk_database_up") == samples(metrics.render(), "opendesk_database_up") != {}


def test_a_router_that_is_gone_is_forgotten() -> None:
    _, on = made()
    for router in ("r1", "r2"):
        on.router_acted(router, ok=True, seconds=1.0)
    for router in ("r1", "r3"):
        on.forget_router(router)
    assert {key[1] for key in samples(on.render(), *OF_ROUTERS)} == {"r2"}


def test_of_too_many_routers_the_last_are_counted_together(monkeypatch: Any) -> None:
    monkeypatch.setattr(figures, "MOST_ROUTERS", 2)
    _, on = made()
    for router in ("r1", "r2", "r3", "r4", "r1"):
        on.router_acted(router, ok=True, seconds=1.0)
    assert samples(on.render(), "opendesk_router_actions_total") == {
        ("opendesk_router_actions_total", "r1", "success"): 2,
        ("opendesk_router_actions_total", "r2", "success"): 1,
        ("opendesk_router_actions_total", "other", "success"): 2,
    }


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_whatever_a_router_is_called_the_text_stays_readable(router: str) -> None:
    _, on = made()
    on.router_acted(router, ok=True, seconds=1.0)
    text = on.render().decode()
    lines = [line for line in text.split("\n") if line.startswith("opendesk_router_actions_total")]
    assert len(lines) == 1
    assert lines[0].endswith(" 1.0")
