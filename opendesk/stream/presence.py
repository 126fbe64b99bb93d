"""Who is in a room, as evidence of who failed whom. Only sockets that came with their own token count: both sides hold the shared one."""

from typing import Final
from uuid import UUID

from attrs import define, field

# What was seen in a room is told for so long after it closed: whoever lost their sockets comes back within it, to all that was known.
KEEP_S: Final = 60.0

# Of rooms that closed; the longest closed is forgotten first. As many as a whole site loses at once when its network is away, some 3 MB.
MAX_KEPT: Final = 10_000

# Host down since, client up since, last byte, client left.
Facts = tuple[float | None, float | None, float | None, float | None]


@define
class Presence:
    """In monotonic seconds. See lifecycle.RelayEvidence for what each says."""

    # When the last host socket left, or the room opened if none came; None: one is up.
    host_down_since_s: float | None
    # Since when there has been a socket of the client without a gap, or was until `client_left_s`; None: there never was one.
    client_up_since_s: float | None = None
    # When the host's last byte was passed on.
    last_byte_s: float | None = None
    # When the client's last socket left; None: one is up, or there never was one.
    client_left_s: float | None = None
    written: Facts | None = None
    written_s: float = float("-inf")

    def now(self, now_s: float, *, host: bool, client: bool) -> None:
        """Who is there now."""
        if host:
            self.host_down_since_s = None
        elif self.host_down_since_s is None:
            self.host_down_since_s = now_s
        was_up = self.is_client_up
        if client and not was_up:
            self.client_up_since_s, self.client_left_s = now_s, None
        elif was_up and not client:
            self.client_left_s = now_s

    @property
    def is_client_up(self) -> bool:
        return self.client_up_since_s is not None and self.client_left_s is None

    @property
    def facts(self) -> Facts:
        return self.host_down_since_s, self.client_up_since_s, self.last_byte_s, self.client_left_s


@define
class Presences:
    """What this daemon saw of each session, also a while after its room closed: a room that opens again goes on with it."""

    _open: dict[UUID, Presence] = field(factory=dict)
    # Since when, the longest first.
    _closed: dict[UUID, tuple[float, Presence]] = field(factory=dict)

    def opened(self, session: UUID, now_s: float) -> Presence:
        """Of a room that opens now."""
        self._forget_old(now_s)
        _, known = self._closed.pop(session, (now_s, None))
        self._open[session] = known or Presence(host_down_since_s=now_s)
        return self._open[session]

    def closed(self, session: UUID, now_s: float) -> None:
        """Its room closed, and nobody is there."""
        presence = self._open.pop(session, None)
        if presence is not None:  # else the session was over before the good-byes were
            self._closed[session] = now_s, presence
        self._forget_old(now_s)

    def over(self, session: UUID) -> None:
        """Whose fault the end was has been decided."""
        self._open.pop(session, None)
        self._closed.pop(session, None)

    def known(self, now_s: float) -> list[tuple[UUID, Presence]]:
        self._forget_old(now_s)
        return [*self._open.items(), *((session, presence) for session, (_, presence) in self._closed.items())]

    def _forget_old(self, now_s: float) -> None:
        while self._closed:
            longest = next(iter(self._closed))
            if len(self._closed) <= MAX_KEPT and now_s - self._closed[longest][0] < KEEP_S:
                return
            del self._closed[longest]
