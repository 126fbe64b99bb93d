"""Which events may be written down together, so that those of one device keep the order in which they came."""

from collections.abc import Iterator, Sequence

from attrs import define, field

from opendesk.network.events.types import Event

_Key = tuple[str, str, str]


@define
class _Levels:
    """Each event comes after all before it that it shares a device or an order with."""

    _last: dict[_Key, int] = field(factory=dict)
    _floor: dict[str, int] = field(factory=dict)
    _top: dict[str, int] = field(factory=dict)

    def level(self, event: Event) -> int:
        if event.place.ip is None or event.place.mac is None:
            return self._alone(event.router)
        keys = list(_keys(event))
        level = max(self._floor.get(event.router, 0), *(self._last.get(key, -1) + 1 for key in keys))
        self._last.update(dict.fromkeys(keys, level))
        self._top[event.router] = max(level, self._top.get(event.router, 0))
        return level

    def _alone(self, router: str) -> int:
        """Who is told by one address only may be any device of the router: all before it come before, and all later ones after."""
        level = self._top.get(router, -1) + 1
        self._top[router], self._floor[router] = level, level + 1
        return level


def in_order(events: Sequence[Event]) -> list[list[int]]:
    """Their numbers, in groups to be written one after the other; within a group no two have to do with each other."""
    levels, groups = _Levels(), list[list[int]]()
    for number, event in enumerate(events):
        level = levels.level(event)
        if level == len(groups):
            groups.append([])
        groups[level].append(number)
    return groups


def _keys(event: Event) -> Iterator[_Key]:
    for name, value in (("ip", event.place.ip), ("mac", event.place.mac), ("order", event.pedido)):
        if value is not None:
            yield event.router, name, value
