"""An hour's churn: so much of everything that comes and goes. A busy house, with all of its hour's work done at once."""

from typing import Final

from attrs import asdict, evolve, frozen

from scripts.benchmarks.sizes import Size


@frozen
class Hour:
    """How often each happens. Rentals are `ended` … `silent`; each has sockets at the relay, but for those never started."""

    ended: int = 60  # a rental as it should be: streamed over the relay, and ended by its client
    killed: int = 20  # the same, and both sockets are torn in the middle of a picture
    expired: int = 10  # started, and left until its time is over
    abandoned: int = 5  # never started
    silent: int = 5  # its host stops beating, and its socket is gone
    looks: int = 400  # small calls: profiles, lists, metrics, strangers, nonsense
    refused: int = 60  # of the relay: wrong tokens, rooms that are over
    cut: int = 60  # requests that end in their midst
    log_ins: int = 20  # right ones, each with a token that is new; a fifth as many are wrong
    authorized: int = 120  # devices behind hotspots, by the API; each is revoked by an event
    events: int = 120  # devices let through by events; each is revoked by another
    flaps: int = 20  # routers that hang up, half of them refusing to be called for a while
    tunnels: int = 20  # devices registered and removed, each a WireGuard peer that comes and goes
    watched: int = 4  # pages of the console opened, watched and left

    @property
    def rentals(self) -> int:
        return self.ended + self.killed + self.expired + self.abandoned + self.silent

    @property
    def told(self) -> str:
        return (
            f"an hour is {self.rentals} rentals ({self.killed} with torn sockets, {self.expired} that expire, {self.abandoned} never started, "
            f"{self.silent} with hosts that fall silent), {self.log_ins} log-ins, {self.authorized + self.events} devices let through and "
            f"shut out again, {self.flaps} routers hanging up, {self.tunnels} peers, {self.watched} pages of the console watched, {self.looks + self.refused + self.cut} calls besides"
        )


HOUR: Final = Hour()


def hour(size: Size) -> Hour:
    """Where it only shows that it runs, nobody waits for a host to fall silent."""
    if size.divisor == 1:
        return HOUR
    return evolve(Hour(**{name: size.count(count) for name, count in asdict(HOUR).items()}), silent=0)
