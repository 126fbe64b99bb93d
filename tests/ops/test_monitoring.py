"""Dashboards, alerts and runbooks speak of metrics that there are, and of each other."""

from collections import Counter
from collections.abc import Mapping
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import time
from typing import Any, Final, cast

from attrs import field, frozen
import click
from prometheus_client.parser import text_string_to_metric_families
import pytest

from opendesk.cli import group
from opendesk.network.events.figures import ANSWERED, EventFigures
from opendesk.network.figures import NetworkFigures
from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.figures import FleetFigures
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.health import Health
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.plan import Kind
from opendesk.ops.machine import BACKUP_SUFFIX, MachineFigures, last_backup_s
from opendesk.ops.metrics import Metrics, PoolNumbers
from opendesk.rental.figures import RentalFigures
from opendesk.stream.counts import Tally
from opendesk.stream.figures import RelayFigures
from opendesk.stream.relay import Relay

MONITORING: Final = Path(__file__).parents[2] / "docs" / "monitoring"
RULE_TESTS: Final = (MONITORING / "alerts_test.yml", MONITORING / "alerts_slow_test.yml")
DASHBOARDS: Final = sorted((MONITORING / "dashboards").glob("*.json"))
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="NO PROMTOOL HERE: THE RULES OF docs/monitoring ARE UNTESTED"
)

# Prometheus makes them.
FOREIGN: Final = {"up", "ALERTS"}
# What is asked about.
ROUTERS: Final = 1_000
PEERS: Final = 10_000
SERIES_MAX: Final = 2_000
# More than there are, and more than most of them answer with.
ROUTES: Final = 80
STATUSES: Final = (200, 400, 401, 404, 409, 503)


@frozen
class FakeWorker:
    health: Health
    is_connected: bool = True


@frozen(eq=False)
class FakeFleet:
    specs: Mapping[str, FakeWorker]

    def get(self, router_id: str) -> FakeWorker | None:
        return self.specs.get(router_id)


@frozen(eq=False)
class FakeRelay:
    rooms: Mapping[Any, Any] = field(factory=dict)
    tally: Tally = field(factory=Tally)


@frozen
class Lines:
    dropped: int = 0
    lines: Mapping[str, int] = field(factory=lambda: {"error": 1})


def workers() -> dict[str, FakeWorker]:
    healths = [
        Health(breaker=Breaker(limit=3, recovery_s=30), contact_s=1.0),
        Health(breaker=Breaker(limit=3, recovery_s=30, failures=3, open_until_s=1e12)),
        Health(breaker=Breaker(limit=3, recovery_s=30, failures=3, open_until_s=0.0)),
        Health(breaker=Breaker(limit=3, recovery_s=30), refused=True),
        Health(breaker=Breaker(limit=3, recovery_s=30)),
    ]
    return {f"HOTSPOT-{number}": FakeWorker(healths[number % 5]) for number in range(ROUTERS)}


def busy(folder: Path) -> tuple[Metrics, NetworkFigures]:
    """All figures of a daemon that has seen everything."""
    metrics = Metrics()
    network, events, tunnels = NetworkFigures(metrics), EventFigures(metrics), TunnelFigures(metrics)
    (folder / f"one{BACKUP_SUFFIX}").touch()
    for collector in (
        FleetFigures(cast("Fleet", FakeFleet(workers())), lambda: 1_000.0),
        RelayFigures(cast("Relay", FakeRelay())),
        MachineFigures(folder, lambda: 1.0, folder),
    ):
        metrics.registry.register(collector)
    RentalFigures(metrics)
    metrics.watch_pool(lambda: PoolNumbers(1, 1, 0))
    metrics.watch_logs(Lines())
    metrics.ledger_proven(right=True)
    for route in range(ROUTES):
        for status in STATUSES:
            metrics.request_answered("GET", f"/{route}", status, 0.1)
    for timer in ("expiry", "host_timeout"):
        metrics.timer_ran(timer, 0.1, failed=True)
    for number in range(ROUTERS):
        network.router_acted(f"HOTSPOT-{number}", ok=number % 10 > 0, seconds=0.1)
    for action in ("AUTHORIZE_BY_PEDIDO", "RESYNC_DEVICE", "REVOKE_SESSION", "RESTORE"):
        network.action_ended(action, ok=True, seconds=0.1)
        network.action_ended(action, ok=False, seconds=0.1)
    network.jobs_are({"due": 1}, 1.0, ready=1)
    for outcome in (*ANSWERED, "failed"):
        events.fetched(outcome)
    events.polled_every(3.0)
    events.acked("taken")
    tunnels.interface_is(up=True)
    tunnels.peers_are({"ONLINE": PEERS})
    tunnels.unknown_are(0)
    tunnels.key_is(other=False)
    for kind in Kind:
        tunnels.drifted(kind)
    return metrics, network


def series(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if line and not line.startswith("#")]


def names_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expression)
    return set(re.findall(r"\b(?:opendesk_|process_)\w+\b|\bup\b", bare))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    _, network = busy(tmp_path_factory.mktemp("data"))
    page = network.render().decode()
    families = list(text_string_to_metric_families(page))
    samples = {sample.name for family in families for sample in family.samples}
    # Of those that have labels and counted nothing yet there is only the name.
    described = {name for family in families for name in (family.name, f"{family.name}_total")}
    return samples | described | {f"{family.name}_bucket" for family in families if family.type == "histogram"}


def rules() -> list[tuple[str, str, str]]:
    """Names, expressions and runbooks of the alerts."""
    text = (MONITORING / "alerts.yml").read_text()
    found = re.findall(r"- alert: (\w+)\n +expr: '(.*)'\n(?: +\w+:.*\n)+? +runbook: (\S+)", text)
    assert len(found) == text.count("- alert:")
    return found


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def commands(within: click.Group) -> set[str]:
    """`jobs`, `jobs list` …"""
    context, found = click.Context(within), set[str]()
    for name in within.list_commands(context):
        command = within.get_command(context, name)
        found |= {name} | (
            {f"{name} {sub}" for sub in commands(command)} if isinstance(command, click.Group) else set()
        )
    return found


@needs_promtool
def test_promtool_has_nothing_to_say_of_the_rules() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "config", "prometheus.yml"], cwd=MONITORING, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"rules found" in done.stdout


@needs_promtool
def test_each_rule_fires_by_its_cause() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", *(path.name for path in RULE_TESTS)],
        cwd=MONITORING,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tested() -> None:
    tested = {name for path in RULE_TESTS for name in re.findall(r'alertname="(\w+)"', path.read_text())}
    assert tested == {name for name, _, _ in rules()}


def test_each_alert_has_its_paragraph_and_each_paragraph_its_alert() -> None:
    paragraphs = re.findall(r"^### (\w+)$", (MONITORING / "runbooks.md").read_text(), re.MULTILINE)
    assert Counter(paragraphs) == Counter(name for name, _, _ in rules())
    assert {runbook for _, _, runbook in rules()} == {f"runbooks.md#{name.lower()}" for name in paragraphs}


def test_a_paragraph_says_what_to_do() -> None:
    _, *paragraphs = re.split(r"^### ", (MONITORING / "runbooks.md").read_text(), flags=re.MULTILINE)
    assert [text.split("\n")[0] for text in paragraphs if "**Look:** " not in text or "**Do:** " not in text] == []


def test_commands_of_runbooks_are_commands() -> None:
    spans = re.findall(r"`opendesk ([a-z][a-z ]*)", (MONITORING / "runbooks.md").read_text())
    known_ones = commands(group)
    groups = {name.rpartition(" ")[0] for name in known_ones}
    assert spans
    assert {words for words in spans if not _is_command(words.split(), known_ones, groups)} == set()


def _is_command(words: list[str], known_ones: set[str], groups: set[str]) -> bool:
    """The longest beginning that is one; after a group a subcommand has to come, unless the group alone is meant."""
    named = [" ".join(words[:length]) for length in range(1, len(words) + 1)]
    longest = max((name for name in named if name in known_ones), key=len, default=None)
    return longest is not None and (longest not in groups or longest == named[-1])


def test_lines_that_runbooks_look_for_are_written() -> None:
    asked = set(re.findall(r"OPENDESK_EVENT=([\w.]+)", (MONITORING / "runbooks.md").read_text()))
    source = "".join(path.read_text() for path in (MONITORING.parents[1] / "opendesk").rglob("*.py"))
    assert asked
    assert [event for event in asked if f'"{event}"' not in source] == []


def test_alerts_ask_for_metrics_that_there_are(known: set[str]) -> None:
    asked = {name for _, expression, _ in rules() for name in names_in(expression)}
    assert asked - FOREIGN - known == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_a_dashboard_asks_for_metrics_that_there_are(path: Path, known: set[str]) -> None:
    targets = [target["expr"] for panel in dashboard(path)["panels"] for target in panel["targets"]]
    asked = {name for expression in targets for name in names_in(expression)}
    assert asked
    assert asked - FOREIGN - known == set()


def test_runbooks_speak_of_metrics_that_there_are(known: set[str]) -> None:
    asked = set(re.findall(r"`(opendesk_\w+)`", (MONITORING / "runbooks.md").read_text()))
    assert asked - known == set()


@needs_promtool
def test_what_a_dashboard_asks_is_promql(tmp_path: Path) -> None:
    """All at once: promtool names the group of what it doesn't understand."""
    groups = []
    for path in DASHBOARDS:
        targets = [target["expr"] for panel in dashboard(path)["panels"] for target in panel["targets"]]
        named = [
            {"record": f"x:{number}", "expr": expression.replace("$__rate_interval", "5m")}
            for number, expression in enumerate(targets)
        ]
        groups.append({"name": path.stem, "rules": named})
    rule_file = tmp_path / "rules.yml"  # JSON is YAML
    rule_file.write_text(json.dumps({"groups": groups}))
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(rule_file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_a_dashboard_can_be_imported(path: Path) -> None:
    found = dashboard(path)
    panels = found["panels"]
    assert found["uid"] == f"opendesk-{path.stem}"
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert {variable["name"] for variable in found["templating"]["list"]} == {"datasource", "instance"}
    sources = [panel["datasource"] for panel in panels] + [
        t["datasource"] for panel in panels for t in panel["targets"]
    ]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert all(panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels)


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_no_panel_covers_another(path: Path) -> None:
    taken = Counter[tuple[int, int]]()
    for panel in dashboard(path)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        taken.update((at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"]))
    assert [place for place, times in taken.items() if times > 1] == []


def test_there_are_the_five_dashboards() -> None:
    assert [path.stem for path in DASHBOARDS] == ["database", "network", "overview", "relay", "rental"]


def test_a_thousand_routers_and_ten_thousand_peers_are_fewer_than_two_thousand_series(tmp_path: Path) -> None:
    metrics, network = busy(tmp_path)
    shown = series(metrics.render())
    assert len(shown) < SERIES_MAX
    assert not [line for line in shown if "HOTSPOT-" in line]
    by_router = [line for line in series(network.render()) if "HOTSPOT-" in line]
    # One outcome of each, and the seconds: what the contract has by router, and nothing more.
    assert len(by_router) == 2 * ROUTERS


@needs_promtool
def test_promtool_has_nothing_to_say_of_any_metric(tmp_path: Path) -> None:
    _, network = busy(tmp_path)
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=network.render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_routers_are_counted_by_circuit_and_by_the_last_try(tmp_path: Path) -> None:
    metrics, _ = busy(tmp_path)
    shown = set(series(metrics.render()))
    assert {
        'opendesk_routers_driven{circuit="open"} 200.0',
        'opendesk_routers_driven{circuit="half-open"} 200.0',
        'opendesk_routers_driven{circuit="closed"} 600.0',
        'opendesk_routers{status="unreachable"} 400.0',
        'opendesk_routers{status="auth_failed"} 200.0',
        'opendesk_routers{status="online"} 200.0',
        'opendesk_routers{status="unknown"} 200.0',
    } <= shown


def test_a_backup_of_a_clock_that_was_ahead_says_nothing(tmp_path: Path) -> None:
    made = [tmp_path / f"{name}{BACKUP_SUFFIX}" for name in ("old", "ahead")]
    for path, made_s in zip(made, (1_000_000_000, time.time() + 86_400), strict=True):
        path.touch()
        os.utime(path, (made_s, made_s))
    assert last_backup_s(tmp_path) == 1_000_000_000
    made[0].unlink()
    assert last_backup_s(tmp_path) is None


def test_what_the_machine_cannot_say_is_not_told(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.registry.register(MachineFigures(tmp_path / "away", lambda: None, tmp_path / "away"))
    page = metrics.render()
    assert not [name for name in (b"data_free", b"data_size", b"certificate", b"backup") if name in page]
