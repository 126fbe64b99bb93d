"""Who is in a room, as evidence of who failed whom. Only sockets that came with their own token count: both sides hold the shared one."""

from attrs import define


@define
class Presence:
    """In monotonic seconds. See lifecycle.RelayEvidence for what each says."""

    # When the last host socket left, or the room opened if none came; None: one is up.
    host_down_since_s: float | None
    # Since when there has been a socket of the client without a gap; None: there is none.
    client_up_since_s: float | None = None
    # When the host's last byte was passed on.
    last_byte_s: float | None = None
    written: tuple[float | None, float | None, float | None] | None = None
    written_s: float = float("-inf")

    def now(self, now_s: float, *, host: bool, client: bool) -> None:
        """Who is there now."""
        if host:
            self.host_down_since_s = None
        elif self.host_down_since_s is None:
            self.host_down_since_s = now_s
        if not client:
            self.client_up_since_s = None
        elif self.client_up_since_s is None:
            self.client_up_since_s = now_s

    @property
    def facts(self) -> tuple[float | None, float | None, float | None]:
        return self.host_down_since_s, self.client_up_since_s, self.last_byte_s
