"""docs/hotspots.md tells all codes that callers meet, all that operators see, and the rights that a router's user needs."""

from pathlib import Path
import re
from types import SimpleNamespace
from typing import Any

from opendesk.network import overview_api, relay_api
from opendesk.network.events.figures import EventFigures
from opendesk.network.figures import NetworkFigures
from opendesk.network.hotspots import api as hotspots
from opendesk.network.hotspots.place import Grant
from opendesk.network.hotspots.requests import ACTIONS
from opendesk.network.hotspots.rows import converge
from opendesk.network.hotspots.work import Kind
from opendesk.network.jobs.looking import DEAD_KEPT_DAYS, DONE_KEPT_DAYS
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.transport import Target
from opendesk.ops.metrics import Metrics
from opendesk.settings.secret import Secret
from opendesk.settings.table import DECLARED
from opendesk.simulators.routeros import Router, simulated
from opendesk.web.endpoint import Endpoint
from opendesk.web.openapi import _common_errors

PAGE = (Path(__file__).parents[2] / "docs" / "hotspots.md").read_text()


def calls() -> tuple[Endpoint, ...]:
    stand_in: Any = SimpleNamespace(timeout_s=8.0)
    pages = relay_api.RelayPages(stand_in, stand_in, lambda: 0.0)
    return (*hotspots.endpoints(stand_in), *overview_api.endpoints(stand_in), *relay_api.endpoints(pages))


def test_every_error_is_there_with_what_to_do() -> None:
    section = PAGE.split("\n## Errors\n")[1].split("\n## ")[0]
    told = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \| \S", section, re.MULTILINE)}
    errors = {error for call in calls() for error in (*call.errors, *_common_errors(call))}
    # The metrics page, which is no call of the network API, answers with the statuses of all others.
    found = {(error.status, error.code) for error in errors} - {(422, "VALIDATION_FAILED")}
    assert told == found


def test_every_metric_is_there() -> None:
    metrics = Metrics()
    before = {family.name for family in metrics.registry.collect()}
    figures = NetworkFigures(metrics)
    figures.router_acted("r1", ok=True, seconds=1.0)
    events = EventFigures(metrics)
    events.took(None, "again")
    events.fetched("nothing")
    events.polled_every(3.0)
    events.acked("taken")
    shared = {family.name for family in metrics.registry.collect()} - before
    told = set(re.findall(r"^\| `(opendesk_\w+)`", PAGE, re.MULTILINE))
    assert {name.removesuffix("_total") for name in told} == {
        *shared,
        "opendesk_router_actions",
        "opendesk_router_action_seconds",
    }
    assert all(name in figures.render().decode() for name in told)


def test_every_action_is_named() -> None:
    assert [word for word in (*ACTIONS, *Kind) if f"`{word}`" not in PAGE] == []


def test_settings_and_figures_are_those_of_the_program() -> None:
    names = set(re.findall(r"`((?:RELAY|MIKROTIK|HMAC|METRICS)_\w+)", PAGE))
    assert names <= {declared.name for declared in DECLARED}
    assert f"done jobs are kept for {DONE_KEPT_DAYS} days, dead ones for {DEAD_KEPT_DAYS}" in PAGE


async def test_the_rights_that_are_asked_for_are_enough() -> None:
    found = re.search(r"^/user/group/add name=(\w+) policy=(\S+)$", PAGE, re.MULTILINE)
    assert found is not None
    group, policy = found.groups()
    router = Router()
    router.run("/user/group/add", {"name": group, "policy": policy})
    router.run("/user/add", {"name": "opendesk", "group": group, "password": "a word"})
    grant = Grant("10442", "10.5.50.7", "AA:BB:CC:00:00:01", 1800.0, 1_790_001_800)
    router.phone(grant.mac, grant.ip)
    async with (
        simulated(router) as (host, port),
        connect(Target(host, port, "opendesk", Secret("a word"))) as client,
    ):
        await converge(client.run_all, [grant], [grant.place])
        assert router.is_online(grant.mac, grant.ip)
        assert len(router.rows("/system/scheduler")) == 1
        await converge(client.run_all, [], [grant.place])
        assert not router.is_online(grant.mac, grant.ip)
        assert router.rows("/system/scheduler") == router.rows("/ip/hotspot/ip-binding") == []
