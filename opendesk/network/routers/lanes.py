"""The lanes that jobs for routers wait in: what a dry run pretends, no other daemon does, nor the other way round."""

from typing import Final

# No router's id has a blank or a slash.
PRETENDED: Final = "dry run/"


def lane_of(router_id: str, *, dry_run: bool) -> str:
    return f"{PRETENDED}{router_id}" if dry_run else router_id


def router_of(lane: str) -> str:
    return lane.removeprefix(PRETENDED)


def is_pretended(lane: str) -> bool:
    return lane.startswith(PRETENDED)
