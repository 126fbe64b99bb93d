"""What one connection, and all of them together, may take of the daemon."""

import resource

from attrs import evolve, frozen

KIB = 1024
MIB = 1024 * KIB

# Descriptors that are not connections: the database's sockets, routers, files, the embedded server's pipes.
_OTHER_DESCRIPTORS = 128


@frozen
class Limits:
    """Times are in seconds, sizes in bytes."""

    # Each costs a descriptor and 10 KiB, more with TLS. One more takes the place of the one that has been waiting longest for a request.
    connections: int = 4096
    # WebSockets that were taken over: 5,000 sessions with a host and a client each, and some more. They are not counted in the above.
    upgraded: int = 12_000
    # Connections over the limit that are being told so (503). More than these are closed without a word.
    turned_away: int = 64
    # A client that stays for good would never feel a new certificate, or a second daemon behind the same name.
    requests_per_connection: int = 10_000

    # What nginx and Apache allow for a head; a bearer token and a browser's headers take some 2 KiB.
    head_bytes: int = 16 * KIB
    # h11 looks at each in Python. Browsers send some 20, proxies add a few.
    head_fields: int = 100
    # From its first byte to its last: a phone on a bad line needs 2 s, a client that drips a byte a second is cut.
    head_s: float = 10.0
    # From connecting to the first byte. Browsers open connections ahead of need, and open another when one is closed.
    silence_s: float = 10.0
    # Between requests. Hosts beat every 10 s, and a proxy's pool keeps connections for 60.
    idle_s: float = 75.0
    # For the TLS handshake: two round trips.
    handshake_s: float = 10.0

    # The contract's (contracts/README.md).
    body_bytes: int = 1 * MIB
    # h11 takes some 10 µs a chunk: a body in chunks of a byte would hold the daemon for 10 s.
    body_chunks: int = 4096
    # For a whole body: 1 MiB at 35 KiB/s.
    body_s: float = 30.0

    # For each 64 KiB of an answer: a reader that takes less than 2 KiB/s is cut.
    send_s: float = 30.0
    # After our last words, for the other side to read them and close.
    linger_s: float = 1.0
    # What is thrown away meanwhile: the rest of a body that was refused.
    linger_bytes: int = 8 * MIB

    def within_descriptors(self) -> "Limits":
        """The same with no more connections than this process may really hold: each needs a file descriptor."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = soft - _OTHER_DESCRIPTORS - self.turned_away
        if soft == resource.RLIM_INFINITY or spare >= self.connections + self.upgraded:
            return self
        connections = max(1, min(self.connections, spare // 2))
        return evolve(self, connections=connections, upgraded=max(1, min(self.upgraded, spare - connections)))
