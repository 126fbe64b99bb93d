"""What one socket may do in a time. Times are monotonic seconds and come in as arguments."""

from attrs import define, field
from attrs.validators import gt


@define(on_setattr=[])  # a use of it is an assignment: no validator has to look at each
class Rate:
    """One socket's amount (bytes, messages) a second, by fixed windows of one second.

    A window begins with the first amount that comes after the last one is over, and lets through at most `limit`: the contract's "at
    most so many a second", and the first over it is told at once. So:
    - who never goes over `limit` in any span of a second is never refused;
    - in a span of T seconds at most `limit * (ceil(T) + 1)` goes through: two seconds' worth within one second at the worst, where one
      window's end and the next one's start are both full. A burst within a window is all of `limit` at once.
    A token bucket would let through more than `limit` in its first second, and which message is over would hang on microseconds.
    """

    limit: int = field(validator=gt(0))
    _used: int = field(default=0, init=False)
    _until_s: float = field(default=float("-inf"), init=False)

    def take(self, amount: int, now_s: float) -> bool:
        """Return whether `amount` more goes within the limit; what doesn't is not counted in. `now_s` never goes back."""
        if now_s >= self._until_s:
            self._until_s = now_s + 1.0
            self._used = 0
        used = self._used + amount
        if used > self.limit:
            return False
        self._used = used
        return True
