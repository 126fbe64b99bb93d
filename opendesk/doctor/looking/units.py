"""The units that systemd has of us, and which daemons are to be called, where."""

from collections.abc import Iterable, Sequence
import subprocess
from typing import Final

from attrs import frozen
import trio

from opendesk.doctor.judging import beside
from opendesk.doctor.judging.daemon import Unit

_PATTERNS: Final = ("opendesk.service", "opendesk.socket", "opendesk@*.service", "opendesk@*.socket")
_BESIDE: Final = (beside.BACKUP, beside.TIMER, beside.TUNNEL, "opendesk.socket", "opendesk@*.socket")
_PROPERTIES: Final = "Id,LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,MainPID,Listen"
# A machine has a few; more of them aren't looked at.
_MOST: Final = 32


@frozen
class Target:
    """A daemon that is to be called."""

    address: str
    pid: int | None = None
    unit: str = "opendesk"
    is_by_settings: bool = False


async def units() -> list[Unit]:
    """The daemons'. Empty where there is no systemd to ask."""
    return parsed(await _shown(_PATTERNS))


async def units_beside() -> list[Unit]:
    """What else we have of units, which nobody calls."""
    return parsed_each(await _shown(_BESIDE))


async def _shown(names: Sequence[str]) -> str:
    try:
        done = await trio.run_process(
            ["systemctl", "show", *names, f"--property={_PROPERTIES}"],
            capture_stdout=True,
            check=False,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def parsed(text: str) -> list[Unit]:
    """Of what `systemctl show` prints: a paragraph a unit."""
    found = [_pairs(paragraph) for paragraph in text.split("\n\n")]
    listens = {
        _value(pairs, "Id").removesuffix(".socket"): tuple(_addresses(pairs))
        for pairs in found
        if _value(pairs, "Id").endswith(".socket") and _value(pairs, "ActiveState") == "active"
    }
    services = [pairs for pairs in found if _value(pairs, "Id").endswith(".service")]
    return [
        Unit(
            name=_value(pairs, "Id"),
            properties=dict(pairs),
            listens=listens.get(_value(pairs, "Id").removesuffix(".service"), ()),
        )
        for pairs in services[:_MOST]
    ]


def parsed_each(text: str) -> list[Unit]:
    found = [_pairs(paragraph) for paragraph in text.split("\n\n") if paragraph.strip()]
    return [Unit(name=_value(pairs, "Id"), properties=dict(pairs)) for pairs in found[:_MOST]]


def _pairs(paragraph: str) -> list[tuple[str, str]]:
    split = (line.partition("=") for line in paragraph.splitlines())
    return [(name, value) for name, is_there, value in split if is_there]


def _value(pairs: Iterable[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in pairs if name == wanted), "")


def _addresses(pairs: Iterable[tuple[str, str]]) -> Iterable[str]:
    """`Listen=127.0.0.1:3333 (Stream)`, a line each."""
    for name, value in pairs:
        if name == "Listen" and value.endswith(" (Stream)"):
            address = value.removesuffix(" (Stream)")
            yield f"unix:{address}" if address.startswith("/") else address


def targets(found: Sequence[Unit], address: str, daemon_pid: int | None) -> list[Target]:
    """Those of systemd, wherever their sockets listen; else the one that the settings tell of. `daemon_pid` serves from our data folder.

    Nobody is called whom systemd would only start for it.
    """
    started = [unit for unit in found if unit.is_started and daemon_pid in (None, unit.pid)]
    if started:
        return [
            Target(listen, unit.pid, unit.name.removesuffix(".service"))
            for unit in started
            for listen in unit.listens or (_own_address(unit, address),)
        ]
    would_start = {listen.rpartition(":")[2] for unit in found if not unit.is_started for listen in unit.listens}
    return [] if address.rpartition(":")[2] in would_start else [Target(address, daemon_pid, is_by_settings=True)]


def listens(found: Sequence[Unit], address: str, daemon_pid: int | None) -> list[str]:
    """Where systemd has the daemons called, whoever of them runs; empty where it is the settings that tell."""
    called = targets(found, address, daemon_pid)
    if any(target.is_by_settings for target in called):
        return []
    return [target.address for target in called] or [listen for unit in found for listen in unit.listens]


def _own_address(unit: Unit, address: str) -> str:
    """An instance's name is its port."""
    port = unit.name.removesuffix(".service").partition("@")[2]
    return f"127.0.0.1:{port}" if port.isdecimal() else address
