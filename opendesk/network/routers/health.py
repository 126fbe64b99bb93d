"""How a router is, as a value. All times are of the daemon's own clock, seconds; what they are for others the database reckons."""

from typing import Final

from attrs import evolve, frozen

from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.link import Look
from opendesk.network.routers.uptime import has_rebooted

# Of a router's name, version or a fault: what is told first says most.
TEXT_MAX_CHARS: Final = 300


@frozen(kw_only=True)
class Health:
    breaker: Breaker
    contact_s: float | None = None
    booted_s: float | None = None
    looked_s: float | None = None  # when `booted_s` was learnt
    identity: str | None = None
    version: str | None = None
    refused: bool = False  # it let nobody in when it was last tried
    error: str | None = None
    error_s: float | None = None
    target: str | None = None  # host and port that all this was learnt of
    moved: bool = False  # its id stands for another router since it was last looked at

    def at(self, target: str) -> "Health":
        """Where it is to be found now. Elsewhere is another router, which knows nothing of what that one was told."""
        return evolve(self, target=target, moved=self.moved or self.target not in (None, target))

    def answered(self, now_s: float) -> "Health":
        return evolve(self, breaker=self.breaker.succeeded(), contact_s=now_s, refused=False)

    def failed(self, error: str, now_s: float, *, refused: bool = False) -> "Health":
        breaker = self.breaker.failed(now_s)
        return evolve(self, breaker=breaker, error=told(error), error_s=now_s, refused=refused)

    def says_rebooted(self, seen: Look, now_s: float) -> bool:
        """Whether it has forgotten what it was told: booted since it was looked at last, by whichever daemon, or is another."""
        if self.moved:
            return True
        if self.booted_s is None or seen.uptime_s is None:
            return False
        since_s = now_s - (self.booted_s if self.looked_s is None else self.looked_s)
        return has_rebooted(expected_s=now_s - self.booted_s, since_s=since_s, uptime_s=seen.uptime_s)

    def seen(self, look: Look, now_s: float, *, is_told: bool = True) -> "Health":
        """`is_told`: a reboot, if it was one, needn't be told of any more."""
        kept = evolve(
            self,
            identity=self.identity if look.identity is None else told(look.identity),
            version=self.version if look.version is None else told(look.version),
        )
        if not is_told:
            return kept
        kept = evolve(kept, moved=False)
        return kept if look.uptime_s is None else evolve(kept, booted_s=now_s - look.uptime_s, looked_s=now_s)


def told(text: str) -> str:
    """As the database takes it: bounded, no NUL, no halves of characters."""
    return text[:TEXT_MAX_CHARS].replace("\0", "\\0").encode(errors="backslashreplace").decode()
