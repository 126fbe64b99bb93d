"""docs/tunnels.md tells all codes that callers of tunnels meet, all that operators see, and settings and figures as they are."""

from pathlib import Path
import re
from typing import Any

from opendesk.cli.tunnel import tunnel
from opendesk.network.setup.redialling import NAME, REDIAL_S
from opendesk.network.setup.undo import UNDO_S
from opendesk.network.tunnels.api import devices_api, peers_api, scripts_api, setup_api
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.plan import ONE_IN, Kind
from opendesk.network.tunnels.keeping.presence import STATUSES
from opendesk.network.tunnels.keeping.rotation import ROTATION_LASTS_S
from opendesk.ops.metrics import Metrics
from opendesk.settings import load
from opendesk.settings.table import DECLARED
from opendesk.web.endpoint import Endpoint
from opendesk.web.openapi import _common_errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tunnels.md").read_text()
MODULES = sorted((ROOT / "opendesk" / "network").rglob("*.py"))


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


class StandIn:
    """Nothing of it is called."""

    probe_s = 8.0

    def __getattr__(self, _name: str) -> "StandIn":
        return self


def calls() -> tuple[Endpoint, ...]:
    stand_in: Any = StandIn()
    return (
        *devices_api.endpoints(stand_in),
        *scripts_api.endpoints(stand_in),
        *setup_api.endpoints(stand_in),
        *peers_api.endpoints(stand_in),
    )


def test_every_error_is_there_with_what_to_do() -> None:
    told = {
        (int(status), code)
        for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \| \S", section("Errors"), re.MULTILINE)
    }
    own = {(error.status, error.code) for call in calls() for error in call.errors}
    common = {(error.status, error.code) for call in calls() for error in _common_errors(call)}
    assert (told - own, own - common - told) == (set(), set())


def test_every_log_line_is_there() -> None:
    found = {event for path in MODULES for event in re.findall(r'"(tunnel\.\w+)"', path.read_text())}
    told = set(re.findall(r"`(tunnel\.\w+)`", PAGE))
    assert (found - told, told - found) == (set(), set())


def test_every_metric_is_there_with_its_words() -> None:
    metrics = Metrics()
    before = {family.name for family in metrics.registry.collect()}
    figures = TunnelFigures(metrics)
    figures.interface_is(up=True)
    figures.key_is(other=False)
    figures.peers_are({})
    figures.unknown_are(0)
    found = {family.name for family in metrics.registry.collect()} - before
    assert {name.removesuffix("_total") for name in re.findall(r"^\| `(opendesk_\w+)`", PAGE, re.MULTILINE)} == found
    words = {*STATUSES, *(kind.value for kind in Kind if kind is not Kind.UNKNOWN)}
    assert [word for word in words if f"`{word}`" not in PAGE] == []


def test_every_command_is_there() -> None:
    told = set(re.findall(r"opendesk tunnel (\w+)", PAGE))
    assert told == set(tunnel.commands)
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `tunnel "))
    assert set(re.findall(r"`(?:tunnel )?(\w+)`", line)) == set(tunnel.commands)


def test_the_settings_are_taken_as_systemd_reads_them() -> None:
    """A line that begins with # is a comment; what stands behind a value belongs to it."""
    [block] = [
        text
        for text in re.findall(r"^```sh\n(.*?)^```$", section("The VPS"), re.DOTALL | re.MULTILINE)
        if "\nWG_" in text
    ]
    lines = [line for line in block.splitlines() if line.strip() and line[0] not in "#;"]
    settings = load(dict(line.split("=", 1) for line in lines) | {"OPENDESK_DATA_DIR": "/nowhere"})
    assert settings.wg_vps_endpoint == "vpn.example.org:51820"
    assert (settings.wg_interface, str(settings.wg_tunnel_pool)) == ("wg0", "10.200.0.0/16")


def test_settings_and_figures_are_those_of_the_program() -> None:
    names = set(re.findall(r"`((?:RELAY|MIKROTIK|WG)_\w+)", PAGE))
    assert names <= {declared.name for declared in DECLARED}
    assert (ONE_IN, UNDO_S, ROTATION_LASTS_S) == (10, 300, 86_400)  # a tenth, 5 minutes, a day
    assert f"{REDIAL_S} seconds later (`{NAME}`)" in PAGE
