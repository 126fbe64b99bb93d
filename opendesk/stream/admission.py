"""Who may open the relay: the checks of its opening that look at the query, the token and the session, in the contract's order.

Attempts are counted before and after this, by `limits`; whether there is room, the room knows.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
import re
from typing import Final
from uuid import UUID

from attrs import field, frozen

from opendesk.stream.control import Scope
from opendesk.stream.tokens import Role, StreamToken, read_token, same_stream, stream_id

STREAM_ID_LENGTHS: Final = range(12, 64 + 1)
TOKEN_LENGTHS: Final = range(16, 256 + 1)
POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1

_PARAMETERS: Final = ("role", "sessionId", "streamId", "token", "userId")
_ROLES: Final = {role.value: role for role in Role}
_STREAMABLE: Final = frozenset({"PENDING", "ACTIVE"})
# `UUID` itself takes many spellings: braces, `urn:uuid:`, no dashes.
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Reason(StrEnum):
    """Why nobody gets in, as the close frame says it."""

    INVALID_QUERY = "invalid_query"
    INVALID_TOKEN = "invalid_token"  # noqa: S105  # no secret, the word for a wrong one
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  # likewise
    TOKEN_SESSION_MISMATCH = "token_session_mismatch"  # noqa: S105  # likewise
    SESSION_NOT_STREAMABLE = "session_not_streamable"
    STREAM_MISMATCH = "stream_mismatch"
    CLIENT_FORBIDDEN = "client_forbidden"
    HOST_FORBIDDEN = "host_forbidden"


@frozen
class Asked:
    """A query that parses. Nothing in it is proven yet."""

    role: Role
    session_id: UUID
    stream_id: str
    token: str = field(repr=False)
    user_id: UUID


@frozen
class SessionState:
    """What admission reads of a session. `stream_expires_at` is when its tokens cease to admit, None if none was ever given out."""

    id: UUID
    status: str
    client_user_id: UUID
    host_user_id: UUID
    stream_expires_at: datetime | None


@frozen
class Refusal:
    """The close frame's code and reason."""

    code: int
    reason: Reason


@frozen
class Admitted:
    """`own`: came with the token of its own role and user, not with the shared one, which both sides hold."""

    role: Role
    user_id: UUID
    own: bool
    scope: Scope


def parse_query(pairs: Sequence[tuple[str, str]]) -> Asked | None:
    """Return what is asked for, None if a parameter is missing, malformed or given twice. Unknown ones don't matter."""
    given = {name: value for name, value in pairs if name in _PARAMETERS}
    # Of two values a proxy or a log may take the other one than we do.
    if len(given) != len(_PARAMETERS) or sum(name in _PARAMETERS for name, _ in pairs) != len(_PARAMETERS):
        return None
    role, session_id, stream, token, user_id = (given[name] for name in _PARAMETERS)
    if role not in _ROLES or _UUID.fullmatch(session_id) is None or _UUID.fullmatch(user_id) is None:
        return None
    if len(stream) not in STREAM_ID_LENGTHS or len(token) not in TOKEN_LENGTHS:
        return None
    return Asked(_ROLES[role], UUID(session_id), stream, token, UUID(user_id))


def admit(
    asked: Asked | None,
    key: bytes,
    session: SessionState | None,
    now: datetime,
    *,
    token_session: SessionState | None = None,
) -> Admitted | Refusal:
    """Decide who gets in; the first check that fails says why not.

    `session` is the one asked for, None if there is none. `token_session` is the one that the token names, wanted only where that is another
    (`read_token` tells): whether a token is expired is asked before whether it is this session's, and only its own session knows.
    """
    if asked is None:
        return _refused(Reason.INVALID_QUERY)
    token = read_token(key, asked.token)
    if token is None or session is None:
        return _refused(Reason.INVALID_TOKEN)
    reason = _why_not_session(asked, token, session, token_session, now) or _why_not_role(asked, token, session)
    if reason is not None:
        return _refused(reason)
    # The ids as signaling gave them out, however this socket spelled them: that is what each side compares with.
    scope = Scope(token=asked.token, session_id=str(session.id), stream_id=stream_id(asked.token))
    return Admitted(asked.role, asked.user_id, own=token.role is not None, scope=scope)


def _why_not_session(
    asked: Asked, token: StreamToken, session: SessionState, token_session: SessionState | None, now: datetime
) -> Reason | None:
    assert session.id == asked.session_id
    issuer = session if token.session == session.id else token_session
    if issuer is not None and _is_expired(issuer, now):
        return Reason.EXPIRED_TOKEN
    if token.session != session.id:
        return Reason.TOKEN_SESSION_MISMATCH
    if session.status not in _STREAMABLE:
        return Reason.SESSION_NOT_STREAMABLE
    if not same_stream(asked.stream_id, stream_id(asked.token)):
        return Reason.STREAM_MISMATCH
    return None


def _is_expired(session: SessionState, now: datetime) -> bool:
    """A token admits until its session's `stream_expires_at`, then no more."""
    return session.stream_expires_at is None or now >= session.stream_expires_at


def _why_not_role(asked: Asked, token: StreamToken, session: SessionState) -> Reason | None:
    """An own token is good for its role and user only; the shared one for either role, but only in its user's name.

    Who rents a PC of their own has an own token for each side, and gets in on each side with that side's only.
    """
    party, reason = {
        Role.CLIENT: (session.client_user_id, Reason.CLIENT_FORBIDDEN),
        Role.HOST: (session.host_user_id, Reason.HOST_FORBIDDEN),
    }[asked.role]
    is_party = asked.user_id == party
    admits = token.role is None or (token.role is asked.role and token.user == asked.user_id)
    return None if is_party and admits else reason


def _refused(reason: Reason) -> Refusal:
    return Refusal(POLICY_VIOLATION, reason)
