"""What is counted of a room, and of all of them together."""

from collections import Counter
from typing import Final

from attrs import define, field

from opendesk.stream.tokens import Role

# Why somebody isn't let in, and why somebody is closed: as the close frames say it, and where nothing could be said, why not.
REFUSALS: Final = (
    "rate_limited", "invalid_query", "invalid_token", "expired_token", "token_session_mismatch", "session_not_streamable",
    "stream_mismatch", "client_forbidden", "host_forbidden", "room_full", "try_again_later", "relay_shutdown",
)  # fmt: skip
DISCONNECTS: Final = (
    "closed", "gone", "silent", "host_left_midway", "host_replaced", "host_rate_limit", "client_rate_limit", "client_too_slow",
    "session_closed", "relay_shutdown", "interrupted",
)  # fmt: skip
# Faults in frames are told apart by their codes (RFC 6455, section 7.4.1): their reasons are sentences.
FAULTS: Final = {1002: "protocol_error", 1007: "invalid_data", 1009: "too_big"}
OTHER: Final = "other"

# Why a client's message isn't passed on.
CLIENT_DROPS: Final = ("rate", "no_host", "slow_host", "invalid", "not_active")


@define
class Counts:
    """Messages, and bytes of frames where it says so."""

    host_messages: int = 0
    host_bytes: int = 0
    host_dropped_rate: int = 0
    host_dropped_no_client: int = 0
    host_control_forwarded: int = 0
    host_control_invalid: int = 0
    client_messages: int = 0
    client_forwarded: Counter[str] = field(factory=Counter)  # by kind, of which there are few
    client_dropped: Counter[str] = field(factory=Counter)  # by CLIENT_DROPS
    relayed_messages: int = 0
    relayed_bytes: int = 0
    shed_messages: int = 0  # for slow clients
    shed_bytes: int = 0

    def add(self, other: "Counts") -> None:
        """Written out: it is done for every room whenever the metrics are read."""
        self.host_messages += other.host_messages
        self.host_bytes += other.host_bytes
        self.host_dropped_rate += other.host_dropped_rate
        self.host_dropped_no_client += other.host_dropped_no_client
        self.host_control_forwarded += other.host_control_forwarded
        self.host_control_invalid += other.host_control_invalid
        self.client_messages += other.client_messages
        for kind, count in other.client_forwarded.items():
            self.client_forwarded[kind] += count
        for reason, count in other.client_dropped.items():
            self.client_dropped[reason] += count
        self.relayed_messages += other.relayed_messages
        self.relayed_bytes += other.relayed_bytes
        self.shed_messages += other.shed_messages
        self.shed_bytes += other.shed_bytes


@define
class Pace:
    """What a host sends in a second, from two looks at what it has sent. None before the second."""

    _looked_s: float  # in monotonic seconds
    _messages: int = 0
    _bytes: int = 0
    messages_per_s: int | None = None
    bytes_per_s: int | None = None

    def look(self, counts: Counts, now_s: float) -> None:
        passed_s = now_s - self._looked_s
        if passed_s <= 0:
            return
        self.messages_per_s = round((counts.host_messages - self._messages) / passed_s)
        self.bytes_per_s = round((counts.host_bytes - self._bytes) / passed_s)
        self._looked_s, self._messages, self._bytes = now_s, counts.host_messages, counts.host_bytes


@define
class Tally:
    """Of a relay since it began: what its closed rooms had counted, and who wasn't let in or went, by fixed words."""

    closed: Counts = field(factory=Counts)
    refused: Counter[str] = field(factory=Counter)
    disconnected: Counter[tuple[Role, str]] = field(factory=Counter)

    def refuse(self, reason: str) -> None:
        self.refused[reason if reason in REFUSALS else OTHER] += 1

    def disconnect(self, role: Role, code: int | None, reason: str) -> None:
        word = reason if reason in DISCONNECTS else FAULTS.get(code or 0, OTHER)
        self.disconnected[role, word] += 1
