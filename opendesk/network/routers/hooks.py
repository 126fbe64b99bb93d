"""Whom a router's worker tells, and asks."""

from collections.abc import Awaitable, Callable

from attrs import define

from opendesk.network.routers.health import Health


def _never(_host: str) -> float | None:
    return None


@define
class Hooks:
    """`rebooted` is awaited before the reboot counts as told: what it raises, it is asked again at the next look."""

    changed: Callable[[str, Health], None]
    lane_opened: Callable[[str], None]
    rebooted: Callable[[str], Awaitable[None]]
    jitter: Callable[[], float]  # 0…1
    silent_for: Callable[[str], float | None] = _never  # of a host behind a tunnel: seconds, if they are too many
