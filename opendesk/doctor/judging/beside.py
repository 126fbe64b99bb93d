"""The units beside the daemon's: sockets, the nightly backup, the interface for tunnels."""

from collections.abc import Iterator, Sequence
from typing import Final

from opendesk.doctor.finding import Finding, bad, ok, warn
from opendesk.doctor.judging.daemon import Unit

BACKUP: Final = "opendesk-backup.service"
TIMER: Final = "opendesk-backup.timer"
TUNNEL: Final = "opendesk-tunnel.service"


def judge(units: Sequence[Unit]) -> Iterator[Finding]:
    for unit in units:
        if not unit.is_there:
            continue
        if unit.name == TIMER:
            yield _timer(unit)
        elif unit.properties.get("ActiveState") == "failed":
            yield _failed(unit)


def _timer(unit: Unit) -> Finding:
    if unit.is_started and unit.properties.get("UnitFileState") == "enabled":
        return ok("unit.backup_timer", f"{TIMER} is enabled and active")
    told = f"{unit.properties.get('UnitFileState', '')} and {unit.properties.get('ActiveState', '')}"
    return warn("unit.backup_timer", f"{TIMER} is {told}: no backup at night", f"systemctl enable --now {TIMER}")


def _failed(unit: Unit) -> Finding:
    what = f"{unit.name} failed ({unit.properties.get('Result', '')})"
    if unit.name.endswith(".socket"):
        do = f"`ss -ltnp` tells whether the port is taken: stop that, or `systemctl edit {unit.name}` (ListenStream=)"
        return bad("unit.socket", what, f"{do}; then systemctl start {unit.name}")
    short = unit.name.removesuffix(".service")
    check = "unit.backup" if unit.name == BACKUP else "unit.tunnel"
    return bad(check, what, f"journalctl -u {short} -n 20 tells why; then systemctl start {short}")
