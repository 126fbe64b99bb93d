"""A circuit breaker as a value: closed, open, one probe, closed. It reads no clock: it is told the time."""

from attrs import evolve, frozen


@frozen(kw_only=True)
class Breaker:
    """Opens after `limit` failures in a row, for `recovery_s`; then one may try, and what comes of it decides.

    `open_until_s` is None while it is closed. It stays, in the past, until a probe has gone well.
    """

    limit: int
    recovery_s: float
    failures: int = 0
    open_until_s: float | None = None
    probing: bool = False

    @property
    def is_closed(self) -> bool:
        return self.open_until_s is None

    def may_try(self, now_s: float) -> bool:
        """Whether anything may be sent: all while it is closed, one when its time is over."""
        return self.open_until_s is None or (not self.probing and now_s >= self.open_until_s)

    def begin_probe(self, now_s: float) -> "Breaker":
        """Whoever was told that it may try takes the one try. Of a closed one there is no end of tries."""
        assert self.may_try(now_s)
        return self if self.is_closed else evolve(self, probing=True)

    def failed(self, now_s: float) -> "Breaker":
        failures = self.failures + 1
        if self.probing or (self.is_closed and failures >= self.limit):
            return evolve(self, failures=failures, open_until_s=now_s + self.recovery_s, probing=False)
        # While it is open, what was under way when it opened still fails: that says nothing new.
        return evolve(self, failures=failures)

    def succeeded(self) -> "Breaker":
        return self if self == (closed := self.reset()) else closed

    def abandoned(self) -> "Breaker":
        """The probe ended without a word on the router: another may try."""
        return evolve(self, probing=False) if self.probing else self

    def due(self, now_s: float) -> "Breaker":
        """Its time is over now: there is reason to think that a probe goes well."""
        return self if self.open_until_s is None else evolve(self, open_until_s=min(self.open_until_s, now_s))

    def reset(self) -> "Breaker":
        return Breaker(limit=self.limit, recovery_s=self.recovery_s)
