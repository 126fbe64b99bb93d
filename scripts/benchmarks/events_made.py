"""Events by number: each of a device of its own, a tenth of them close what another one opened. `MIX` says how many of which."""

import hashlib
import hmac
import json
from typing import Any, Final

from scripts.benchmarks.routers_devices import Device

SECRET: Final = "benchmarks-only-benchmarks-only"  # noqa: S105  # of a backend on the loopback address
EVENTS_PATH: Final = "/events"
ACKS_PATH: Final = "/acks"

MIX: Final = "45 % releases for an hour, 25 % for good, 20 % trials, 10 % revokes"
_KINDS: Final = 20
_FOR_AN_HOUR: Final = range(9)
_FOR_GOOD: Final = range(9, 14)
_TRIALS: Final = range(14, 18)
# So that each router gets all kinds.
_TURN: Final = 100
# A revoke that stands for itself has a number of its own, so far from that of its device.
REVOKE_APART: Final = 4_000_000
# A revoke is of the device of so many events before: one for good, or a trial.
BEFORE: Final = 500


def opens(number: int) -> bool:
    return _kind(number) < _TRIALS.stop


def stays_open(number: int, end: int) -> bool:
    """After all events before `end`."""
    return opens(number) and (number + BEFORE >= end or opens(number + BEFORE))


def paid(number: int, routers: list[str]) -> bytes:
    return _event(event_id(number), number, "RELEASE_REQUESTED", {**_asked(Device(number), routers), "minutes": 60})


def mixed(number: int, routers: list[str]) -> bytes:
    kind = _kind(number)
    if kind in _FOR_AN_HOUR:
        return paid(number, routers)
    if kind in _FOR_GOOD:
        return _event(event_id(number), number, "RELEASE_REQUESTED", _asked(Device(number), routers))
    if kind in _TRIALS:
        return _event(event_id(number), number, "TRIAL_REQUESTED", _asked(Device(number), routers))
    device = Device(number - BEFORE if number >= BEFORE else number)
    place = _asked(device, routers)
    return _event(event_id(number), number, "REVOKE_REQUESTED", {name: place[name] for name in ("mikId", "ip", "mac")})


def revoked(number: int, routers: list[str]) -> bytes:
    """Of the device that `paid` let through."""
    place = _asked(Device(number - REVOKE_APART), routers)
    return _event(event_id(number), number, "REVOKE_REQUESTED", {name: place[name] for name in ("mikId", "ip", "mac")})


def known(number: int) -> bytes:
    """Of those that were taken long ago."""
    return _event(f"known-{number}", number, "RELEASE_REQUESTED", _asked(Device(number), ["router"]))


def signature(text: bytes) -> bytes:
    return hmac.digest(SECRET.encode(), text, hashlib.sha256).hex().encode()


def event_id(number: int) -> str:
    return f"event-{number}"


def _kind(number: int) -> int:
    return (number // _TURN + number) % _KINDS


def _asked(device: Device, routers: list[str]) -> dict[str, Any]:
    router = routers[device.router(len(routers))]
    return {"pedidoId": device.pedido, "mikId": router, "ip": device.ip, "mac": device.mac}


def _event(name: str, number: int, kind: str, payload: dict[str, Any]) -> bytes:
    told = {"eventId": name, "type": kind, "timestamp": 1_790_000_000_000 + number, "payload": payload}
    return json.dumps(told).encode()
