"""What one address or user may do in a time. Times are monotonic seconds and come in as arguments."""

from collections import deque
from collections.abc import Hashable
from ipaddress import ip_network
from typing import Final

from attrs import define, field
from attrs.validators import gt

# 3 MiB at about 200 bytes each. With 24 attempts in 10 s for each address, 680 addresses can be at their limit at the same time.
MOST_REMEMBERED: Final = 16_384


@define
class Window:
    """Attempts by key: of one key at most `limit` are let through in any span of `window_s` seconds.

    Only those let through are remembered, so one who keeps trying gets in again as soon as one who waited, and an attempt's right comes
    back exactly `window_s` after it. At most `remembered` attempts (never fewer than `limit`) are kept over all keys, and the oldest goes
    for a new one. That is safe: what is forgotten makes a limit milder, never harder, and only for keys that would soon have been free;
    nobody is refused for another's attempts; and who wants to push out his own needs that many attempts under other keys within the
    window, each of which has a limit too.
    """

    limit: int = field(validator=gt(0))
    window_s: float = field(validator=gt(0))
    remembered: int = field(default=MOST_REMEMBERED, validator=gt(0), kw_only=True)
    _attempts: deque[tuple[float, Hashable]] = field(factory=deque, init=False)  # oldest first
    _count: dict[Hashable, int] = field(factory=dict, init=False)  # of the attempts in there, by key; never 0

    def __attrs_post_init__(self) -> None:
        self.remembered = max(self.remembered, self.limit)

    def take(self, key: Hashable, now_s: float) -> bool:
        """Return whether one more attempt is let through, and remember it if so. `now_s` never goes back."""
        self._forget_before(now_s)
        count = self._count.get(key, 0)
        if count >= self.limit:
            return False
        if len(self._attempts) >= self.remembered:
            self._forget_oldest()
            count = self._count.get(key, 0)
        self._attempts.append((now_s, key))
        self._count[key] = count + 1
        return True

    def is_full(self, key: Hashable, now_s: float) -> bool:
        """Return whether `take` would refuse. Nothing is remembered."""
        self._forget_before(now_s)
        return self._count.get(key, 0) >= self.limit

    @property
    def size(self) -> int:
        """How many attempts are remembered, over all keys."""
        return len(self._attempts)

    def _forget_before(self, now_s: float) -> None:
        while self._attempts and now_s - self._attempts[0][0] >= self.window_s:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, key = self._attempts.popleft()
        left = self._count[key] - 1
        if left:
            self._count[key] = left
        else:
            del self._count[key]


def counted_as(address: str) -> str:
    """Whose attempts are counted together: an address; of IPv6 a /64, of which any subscriber has one to move about in."""
    address = address.partition("%")[0]  # of a link-local one: by which interface it came
    return str(ip_network((address, 64), strict=False)) if ":" in address else address
