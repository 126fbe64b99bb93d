"""`stream/start`: client and host of a session are told how they reach each other."""

from contextlib import suppress
from functools import partial
from typing import Final
from uuid import UUID

from attrs import define, field, frozen

from opendesk.errors import Forbidden
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import errors, sessions, telling
from opendesk.rental.lifecycle import Status
from opendesk.stream import signaling
from opendesk.stream.signaling import Granted, MissingHostAddress, PcAddress, SessionNotStreamable, StreamStarted
from opendesk.stream.tokens import Role
from opendesk.web.endpoint import Answer, Call, Endpoint, WebRequest
from opendesk.web.http.request import BadRequest

_FACTS = """
    SELECT s.status, s.client_user_id, h.user_id AS host_user_id,
           p.network_provider, p.connect_address, p.connection_host, p.connection_port
      FROM sessions s JOIN hosts h ON h.id = s.host_id JOIN pcs p ON p.id = s.pc_id WHERE s.id = %(id)s
"""

# Both sides are to meet at one relay: the first call says whose, and that stands while its daemon is alive. Our own row may be late. A caller
# whose daemon it is, is told the URL of their own request: what somebody else's Host header said may be a lie. Only another daemon tells the
# stored one, as it knows no better.
_GRANT = """
    UPDATE sessions SET stream_expires_at = now() + %(ttl_ms)s * interval '1 millisecond',
           stream_by_relay = stream_by_relay OR (SELECT network_provider = 'RELAY' FROM pcs WHERE pcs.id = pc_id),
           (stream_node, stream_url) = (
               SELECT CASE WHEN stays THEN stream_node ELSE %(node)s END, CASE WHEN stays THEN stream_url ELSE %(url)s END
                 FROM (SELECT coalesce(stream_node = %(node)s, false) OR EXISTS (
                           SELECT FROM relay_nodes WHERE id = stream_node AND alive_until > now())) AS node (stays))
     WHERE id = %(id)s AND status IN ('PENDING', 'ACTIVE')
 RETURNING status, stream_expires_at, CASE WHEN stream_node = %(node)s THEN %(url)s ELSE stream_url END AS stream_url
"""


@frozen
class Facts:
    """A session and its PC as they were read, without a lock."""

    status: str
    client_user_id: UUID
    host_user_id: UUID
    network_provider: str
    connect_address: str | None
    connection_host: str | None
    connection_port: int | None

    def role_of(self, user: UUID) -> Role | None:
        """None for a stranger; an admin is one. Nobody rents a PC of their own."""
        return {self.host_user_id: Role.HOST, self.client_user_id: Role.CLIENT}.get(user)

    @property
    def address(self) -> PcAddress:
        return PcAddress(self.network_provider, self.connect_address, self.connection_host, self.connection_port)


@define
class Stream:
    """What the handler needs. `node` is this daemon's id; `token_ttl_ms` is STREAM_TOKEN_TTL_MS."""

    key: bytes = field(repr=False)
    node: UUID
    public_url: str | None
    token_ttl_ms: int
    metrics: Metrics


@frozen
class Signaling:
    """The handler."""

    _on: Stream

    async def start_stream(self, call: Call, conn: TrioConnection) -> Answer:
        """For the session's client and the PC's host. The client's call starts a PENDING session; the host's leaves it PENDING. Each call lets the tokens admit to the relay for a while longer (60 s, if not set otherwise)."""
        session, caller = call.ids["id"], call.caller.id
        facts = await _facts(conn, session)
        role = facts.role_of(caller)
        if role is None:
            raise Forbidden("only the session's client and the PC's host may stream")
        if facts.status not in signaling.STREAMABLE:
            raise SessionNotStreamable(f"the session is {facts.status}")
        # Before anything is started: nobody is to pay for what can't be reached.
        lan, url = signaling.direct_way(facts.address), self._url(call.request)
        if role is Role.CLIENT and facts.status == Status.PENDING:
            granted, started = await self._start(conn, session, caller, url)
        else:
            granted, started = await self._grant(conn, session, url), False
        value = signaling.answer(self._on.key, session, role, caller, lan=lan, granted=granted)
        then = partial(telling.started, self._on.metrics, session, caller, call.request.request_id)
        return Answer(value, then=then) if started else Answer(value)

    async def _start(self, conn: TrioConnection, session: UUID, client: UUID, url: str) -> tuple[Granted, bool]:
        """What is granted, and whether it was this call that started the session. Both or neither."""
        started = False
        async with conn.transaction():
            # Another call of the client's may have been first. What the session is by now, the grant sees.
            with suppress(errors.InvalidStatus):
                await sessions.start(conn, session, client, admin=False)
                started = True
            return await self._grant(conn, session, url), started

    async def _grant(self, conn: TrioConnection, session: UUID, url: str) -> Granted:
        values = {"id": session, "node": self._on.node, "url": url, "ttl_ms": self._on.token_ttl_ms}
        granted = await conn.fetch_one(_GRANT, values, row=Granted)
        if granted is None:
            raise SessionNotStreamable
        return granted

    def _url(self, request: WebRequest) -> str:
        try:
            return signaling.relay_url(self._on.public_url, request.scheme, request.host)
        except signaling.NoRelayUrl:
            raise BadRequest("the request does not say which host it went to") from None


async def _facts(conn: TrioConnection, session: UUID) -> Facts:
    facts = await conn.fetch_one(_FACTS, {"id": session}, row=Facts)
    if facts is None:
        raise errors.SessionNotFound
    return facts


_REFUSALS: Final = (
    Forbidden, errors.SessionNotFound, SessionNotStreamable, MissingHostAddress, errors.PcBusy, errors.PcOffline,
)  # fmt: skip


def endpoints(on: Stream) -> tuple[Endpoint, ...]:
    """The calls of signaling. Without an Idempotency-Key: a repeat is meant to move the tokens' end."""
    api = Signaling(on)
    return (
        Endpoint(
            "POST",
            "/sessions/{id}/stream/start",
            "How to stream",
            {200: StreamStarted},
            unit=api.start_stream,
            tag="stream",
            errors=_REFUSALS,
        ),
    )
