"""How a daemon stands, in a line for people: what `systemctl status` shows."""

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen


@frozen
class Counted:
    """What is under way. `sessions` and `jobs` are those of all daemons; None while the database doesn't say."""

    rooms: int
    routers: int
    reachable: int
    sessions: int | None = None
    jobs: int | None = None


def starting(what: str) -> str:
    return f"starting: {what}"


def ready(urls: Sequence[str], counted: Counted, *, away_since: datetime | None, silent: Sequence[str]) -> str:
    """What is wrong comes first: the line may be cut off."""
    wrong = [f"hangs: {', '.join(silent)}"] if silent else []
    if away_since is not None:
        wrong.append(f"the database is away since {away_since:%H:%M:%S} UTC")
    return "; ".join([*wrong, f"ready at {' '.join(urls)}", _under_way(counted)])


def _under_way(counted: Counted) -> str:
    parts = []
    if counted.sessions is not None:
        parts.append(_many(counted.sessions, "session", "live"))
    parts.append(_many(counted.rooms, "room"))
    if counted.routers:
        parts.append(f"{counted.reachable} of {_many(counted.routers, 'router', 'reachable')}")
    if counted.jobs:
        parts.append(_many(counted.jobs, "job", "waiting"))
    return ", ".join(parts)


def _many(count: int, what: str, how: str = "") -> str:
    return f"{count} {what}{'' if count == 1 else 's'} {how}".rstrip()
