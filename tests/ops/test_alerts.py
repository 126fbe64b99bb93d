"""Alerts look back at counters that a daemon shows from its start, and their tests begin as a daemon does."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
import re
import signal
from typing import Final

from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
import pytest
import trio

from opendesk import daemon
from opendesk.ops.logging import LEVELS
from opendesk.ops.metrics import Metrics
from opendesk.settings import load
from tests.ops.test_monitoring import RULE_TESTS, Lines, rules
from tests.system.daemon import url_of

# Nobody listens there.
NOWHERE: Final = "http://127.0.0.1:9/"
# By route, of which there is none before somebody asked for it: rules go by what these do over minutes.
BY_ROUTE: Final = {"opendesk_http_requests_total"}


@frozen
class Selector:
    """What an alert asks for: `words` are all that each label is to have, None where any will do."""

    metric: str
    words: Mapping[str, tuple[str, ...]]

    def lacks(self, shown: list[Sample]) -> list[str]:
        """What isn't there of it."""
        named = [sample.labels for sample in shown if sample.name == self.metric]
        wanted = [(label, word) for label, words in self.words.items() for word in words]
        missing = [
            f"{self.metric} {label} {word}" for label, word in wanted if not any(x.get(label) == word for x in named)
        ]
        return missing if named else [self.metric]


def counted() -> list[Selector]:
    """The counters that alerts look back at."""
    asked = {found for _, expression, _ in rules() for found in re.findall(r"(\w+_total)\{([^}]*)\}\[", expression)}
    return [Selector(metric, words_of(matchers)) for metric, matchers in asked if metric not in BY_ROUTE]


def words_of(matchers: str) -> dict[str, tuple[str, ...]]:
    found = re.findall(r'(\w+)(=|!=|=~|!~)"([^"]*)"', matchers)
    return {label: tuple(words.split("|")) for label, _, words in found if label != "job"}


@pytest.fixture
async def fresh(conninfo: str, tmp_path: Path) -> list[Sample]:
    """What a daemon shows that has just started, and that asks a backend for events."""
    metrics = Metrics()
    metrics.watch_logs(Lines(lines=dict.fromkeys(LEVELS, 0)))
    given = {"DATABASE_URL": url_of(conninfo), "PORT": "0", "OPENDESK_DATA_DIR": str(tmp_path)}
    settings = load({**given, "BACKEND_EVENTS_URL": NOWHERE, "BACKEND_ACK_URL": NOWHERE})
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(daemon.run, settings, environ={}, metrics=metrics))
        page = metrics.render().decode()
        signal.raise_signal(signal.SIGTERM)
    return [sample for family in text_string_to_metric_families(page) for sample in family.samples]


async def test_all_that_alerts_count_is_there_before_its_first_event(fresh: list[Sample]) -> None:
    assert len(counted()) > 10
    assert [missing for asked in counted() for missing in asked.lacks(fresh)] == []
    services = {sample.labels["service"] for sample in fresh if sample.name == "opendesk_service_restarts_total"}
    assert [sample.value for sample in fresh if sample.name == "opendesk_event_poll_seconds"] == [3.0]
    assert {"routers", "ledger", "events", "jobs", "relay_sessions", "watchdog"} <= services


async def test_each_series_that_rules_are_tested_with_begins_as_a_daemons_does(fresh: list[Sample]) -> None:
    """With nothing, or, where a daemon that has just started shows it, with a counter at 0."""
    tests = "".join(path.read_text() for path in RULE_TESTS)
    tested = re.findall(r"- series: '(\w+)\{(.*)\}'\n +values: '(\S+)", tests)
    assert len(tested) == tests.count("- series:")
    wrong = [
        f"{metric} {labels} {first}"
        for metric, labels, first in tested
        if metric.startswith("opendesk_") and not first.startswith("_")
        if (metric.endswith("_total") and not re.match(r"0(\+|x|$)", first))
        or Selector(metric, words_of(labels.replace('instance="vps"', ""))).lacks(fresh)
    ]
    assert wrong == []
