"""An example of each command, as its help shows it: what somebody wants, and what to type for it."""

from collections.abc import Mapping
from typing import Final

import click

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "serve": ("opendesk serve", "opendesk --env-file /etc/opendesk/opendesk.env serve"),
    "demo": ("opendesk demo --seconds 5", "opendesk demo --seconds 0 --json"),
    "migrate": ("opendesk migrate --check", "opendesk migrate --grant opendesk_app"),
    "admin create": ("opendesk admin create ana@example.org", "opendesk admin create ana@example.org --password-stdin"),
    "admin ban": ("opendesk admin ban hugo@example.org",),
    "admin unban": ("opendesk admin unban hugo@example.org",),
    "wallet credit": ("opendesk wallet credit clara@example.org 5000",),
    "wallet debit": ("opendesk wallet debit hugo@example.org 2000 --reason PAYOUT",),
    "ledger verify": ("opendesk ledger verify", "opendesk ledger verify --json"),
    "router add": ("opendesk router add HOTSPOT-01 10.200.0.7 --user relay-tech --tls",),
    "router list": ("opendesk router list", "opendesk router list --json"),
    "router show": ("opendesk router show HOTSPOT-01",),
    "router remove": ("opendesk router remove HOTSPOT-01",),
    "router test": ("opendesk router test HOTSPOT-01",),
    "router rekey": ("opendesk router rekey",),
    "router breaker reset": ("opendesk router breaker reset HOTSPOT-01",),
    "tunnel init": ("opendesk tunnel init --show", "opendesk tunnel init"),
    "tunnel list": ("opendesk tunnel list", "opendesk tunnel list --rates-over 5 --json"),
    "tunnel plan": ("opendesk tunnel plan --remove-unknown",),
    "tunnel apply": ("opendesk tunnel apply",),
    "tunnel rotate": (
        "opendesk tunnel rotate HOTSPOT-01 hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= --wait 300",
        "opendesk tunnel rotate HOTSPOT-01 --cancel",
    ),
    "tunnel script": ("opendesk tunnel script HOTSPOT-01",),
    "jobs list": ("opendesk jobs list --state dead", "opendesk jobs list --lane HOTSPOT-01 --json"),
    "jobs show": ("opendesk jobs show 0199f0c2-7a4e-7cc3-98c4-dc0c0c07398f",),
    "jobs replay": ("opendesk jobs replay 0199f0c2-7a4e-7cc3-98c4-dc0c0c07398f",),
    "jobs discard": ("opendesk jobs discard 0199f0c2-7a4e-7cc3-98c4-dc0c0c07398f",),
    "events list": ("opendesk events", "opendesk events --state failed --json"),
    "events show": ("opendesk events show evt-4711",),
    "why": ("opendesk why evt-4711", "opendesk why - < token.txt"),
    "import": ("opendesk import --dry-run devices.json peers.meta.json",),
    "simulate routers": ("opendesk simulate routers 100 --dead 0.3",),
    "simulate backend": ("opendesk simulate backend --port 4000",),
    "settings": ("opendesk settings", "opendesk settings --json"),
    "backup": ("opendesk backup", "opendesk backup --keep 14"),
    "restore": (
        "opendesk restore --check opendesk_20261122_030000.tar",
        "opendesk restore opendesk_20261122_030000.tar",
    ),
    "doctor": ("opendesk doctor", "opendesk doctor --quick --json"),
    "completion": ('eval "$(opendesk completion bash)"', "opendesk completion bash --program scripts/run"),
}


def shown_in(command: click.Command, name: str) -> None:
    """Put them behind the help of a command, or of each of a group's."""
    if isinstance(command, click.Group):
        for sub_name, sub in command.commands.items():
            shown_in(sub, f"{name} {sub_name}")
    elif name in EXAMPLES:
        # The mark keeps click from filling the lines up.
        command.epilog = "\n".join(("\b", "For example:", *(f"  {line}" for line in EXAMPLES[name])))
