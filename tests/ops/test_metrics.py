from collections.abc import Mapping

from attrs import field, frozen
from prometheus_client.parser import text_string_to_metric_families
import pytest

from opendesk.ops.metrics import CONTENT_TYPE, LABEL_VALUES_MAX, Metrics, PoolNumbers


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *(value for _name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@frozen
class Lines:
    dropped: int = 7
    lines: Mapping[str, int] = field(factory=lambda: {"info": 40, "warning": 3})


def test_requests_are_counted_by_template() -> None:
    metrics = Metrics()
    metrics.request_answered("GET", "/pcs/{id}", 200, 0.004)
    metrics.request_answered("GET", "/pcs/{id}", 200, 0.3)
    metrics.request_answered("POST", None, 404, 0.001)
    found = samples(metrics)
    assert found["opendesk_http_requests_total", "GET", "/pcs/{id}", "200"] == 2
    assert found["opendesk_http_requests_total", "POST", "unmatched", "404"] == 1
    assert found["opendesk_http_request_duration_seconds_bucket", "0.005", "/pcs/{id}"] == 1
    assert found["opendesk_http_request_duration_seconds_count", "/pcs/{id}"] == 2


def test_a_stranger_makes_up_no_labels() -> None:
    metrics = Metrics()
    for number in range(2 * LABEL_VALUES_MAX):
        metrics.request_answered(f"M{number}", f"/{number}", 1000 + number, 0.1)
    families = samples(metrics)
    requests = [labels for labels in families if labels[0] == "opendesk_http_requests_total"]
    assert len(requests) == LABEL_VALUES_MAX + 1
    assert {labels[1:2] + labels[3:] for labels in requests} == {("other", "other")}


def test_sessions_and_money_are_counted() -> None:
    metrics = Metrics()
    metrics.session_event("created")
    metrics.session_event("expired", 20)
    metrics.session_ended("HOST_TIMEOUT")
    metrics.money_settled("host_payout", 378)
    metrics.money_settled("host_payout", 0)
    metrics.login_failed("credentials")
    found = samples(metrics)
    assert found["opendesk_sessions_total", "created"] == 1
    assert found["opendesk_sessions_total", "expired"] == 20
    assert found["opendesk_sessions_ended_total", "HOST_TIMEOUT"] == 1
    assert found["opendesk_settled_money_total", "host_payout"] == 378
    assert found["opendesk_login_failures_total", "credentials"] == 1


def test_upkeep_is_counted() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.heartbeat_taken()
    metrics.heartbeats_written(3)
    metrics.timer_ran("expiry", 0.01)
    metrics.timer_ran("expiry", 0.02, failed=True)
    metrics.service_restarted("timers")
    metrics.loop_lagged(0.02)
    metrics.database_is_up(up=True)
    found = samples(metrics)
    assert (found["opendesk_heartbeats_total",], found["opendesk_heartbeat_batches_total",]) == (3, 1)
    assert found["opendesk_heartbeat_batch_size_sum",] == 3
    assert (found["opendesk_timer_runs_total", "expiry"], found["opendesk_timer_errors_total", "expiry"]) == (2, 1)
    assert found["opendesk_timer_duration_seconds_count", "expiry"] == 2
    assert found["opendesk_service_restarts_total", "timers"] == 1
    assert found["opendesk_loop_lag_seconds_bucket", "0.025"] == 1
    assert found["opendesk_database_up",] == 1


def test_the_pool_and_the_logs_are_asked_when_metrics_are_read() -> None:
    metrics = Metrics()
    asked = []

    def numbers() -> PoolNumbers:
        asked.append(1)
        return PoolNumbers(size=10, idle=4, waiting=len(asked))

    metrics.watch_pool(numbers)
    metrics.watch_logs(Lines())
    assert asked == []
    found = samples(metrics)
    assert found["opendesk_database_connections", "idle"] == 4
    assert found["opendesk_database_connections", "used"] == 6
    assert found["opendesk_database_waiting",] == 1
    assert found["opendesk_log_lines_dropped_total",] == 7
    assert found["opendesk_log_lines_total", "warning"] == 3


def test_two_daemons_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.heartbeat_taken()
    assert samples(second)["opendesk_heartbeats_total",] == 0


def test_money_never_goes_down() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        Metrics().money_settled("retained", -1)


def test_no_series_says_when_another_began() -> None:
    metrics = Metrics()
    metrics.request_answered("GET", "/pcs", 200, 0.1)
    assert b"_created" not in metrics.render()
    assert CONTENT_TYPE.startswith("text/plain; version=")
