"""What a call is: declared as data, answered by one pipeline, published as OpenAPI. Knows nothing of the web framework."""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
import re
import secrets
from typing import Any, Final
from uuid import UUID

from attrs import define, field, frozen

from opendesk.errors import (
    FieldFault,
    Forbidden,
    Misfit,
    NetworkApiDisabled,
    OpenDeskError,
    Unauthenticated,
    ValidationFailed,
)
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.web.auth import Caller, Claims, Tokens, bearer
from opendesk.web.idempotency import Guard, StoredAnswer
from opendesk.web.paths import Name, ids_of, names_of
from opendesk.web.reading import refused, structure_body, structure_query
from opendesk.web.shares import Shares
from opendesk.web.wire import dump_json

# A request id of the caller's is taken if it can do no harm in a log.
_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

# Calls of one address that have a connection to the database or wait for one, of some 500 in all (`pool.MAX_WAITING`). Generous: behind a
# proxy that isn't in TRUSTED_PROXIES everybody has one address, and a database that answers in milliseconds still serves them by the
# thousand a second. Those over it are told to come back, when most of what was before them is done.
CALLS_OF_ONE: Final = 64
_RETRY_AFTER_S: Final = 1


class Access(Enum):
    """Who may call; whose thing it is, the handler asks. The last two are programs: who knows the relay token, and the internal one as well."""

    ANYONE = auto()
    USER = auto()
    ADMIN = auto()
    RELAY = auto()
    INTERNAL = auto()


# Of a network API that is switched off: it takes an operator and a restart.
DISABLED_RETRY_S: Final = 300


@frozen
class WebRequest:
    """An HTTP request, whole. Header names are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] | None  # None: it can't be read
    headers: Mapping[str, str]
    body: bytes
    address: str
    request_id: str
    hearsay: bool = False  # it carries another's address, on the word of nobody we trust
    # How the caller came here, a trusted proxy's word first. `host` is what was sent, port and all; "" if nothing was.
    scheme: str = "http"
    host: str = ""
    target: bytes = b""  # path and query as they were sent: what a signature is over


def _nothing() -> None:
    pass


@frozen
class Answer:
    """What a handler found: a status and a value for `to_wire`; None has no body."""

    value: Any = None
    status: int = 200
    # Called once what a `unit` wrote is committed: it may be tried several times, and counts once.
    then: Callable[[], None] = _nothing


@frozen
class Reply:
    """What goes back: rendered."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class Call:
    """One call, checked: who, which ids and names, what was sent."""

    request: WebRequest
    ids: Mapping[str, UUID]
    body: Any
    query: Any
    claims: Claims | None
    user: Caller | None
    names: Mapping[str, str] = field(factory=dict)

    @property
    def caller(self) -> Caller:
        """Only of endpoints that want a user."""
        if self.user is None:
            raise Unauthenticated
        return self.user


Handler = Callable[[Call], Awaitable[Answer | Reply]]
Unit = Callable[[Call, TrioConnection], Awaitable[Answer]]


@frozen
class Endpoint:
    """A call of the API.

    `unit` gets a connection (in a transaction, when the caller sent an Idempotency-Key and `guarded` is set); `handler` none, because it
    waits for something else than the database. A `hot` one looks the user up itself, together with what it does.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Any]
    unit: Unit | None = None
    handler: Handler | None = None
    access: Access = Access.USER
    body: type | None = None
    body_optional: bool = False
    query: type | None = None
    guarded: bool = False
    hot: bool = False
    tag: str = "sessions"
    errors: tuple[type[OpenDeskError], ...] = ()
    # After so long it is given up, where it waits for something slower than the database.
    limit_s: float | None = None
    # Of its path's parameters those that aren't UUIDs.
    names: Mapping[str, Name] = field(factory=dict)
    of_network: bool = field(init=False)  # for programs: asked for each call, hence kept

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @of_network.default
    def _is_of_network(self) -> bool:
        return self.access in {Access.RELAY, Access.INTERNAL}

    @property
    def takes_body(self) -> bool:
        return self.method not in {"GET", "DELETE"}

    @property
    def act(self) -> Unit | Handler:
        act = self.unit or self.handler
        assert act is not None
        return act


async def switched_off(_request: WebRequest, _access: Access) -> None:
    """Of a daemon that nobody may call the network API of."""
    raise NetworkApiDisabled(retry_after_s=DISABLED_RETRY_S)


@define
class Api:
    """Answers endpoints: token, body, query, idempotency, handler, rendering."""

    pool: Pool
    tokens: Tokens
    find_caller: Callable[[TrioConnection, Claims], Awaitable[Caller | None]]
    # Raises what a caller is to be told who may not use an endpoint of the network API.
    admit_program: Callable[[WebRequest, Access], Awaitable[None]] = switched_off
    _new_id: Callable[[], str] = field(default=lambda: secrets.token_hex(16))
    _shares: Shares = field(factory=lambda: Shares(CALLS_OF_ONE, _RETRY_AFTER_S))

    def request_id(self, sent: str | None) -> str:
        return sent if sent and _SANE_REQUEST_ID.fullmatch(sent) else self._new_id()

    async def answer(self, endpoint: Endpoint, request: WebRequest, ids: Mapping[str, str]) -> Reply:
        """Raise what the caller is to be told."""
        try:
            if endpoint.of_network:
                await self.admit_program(request, endpoint.access)
            claims = self._claims(endpoint, request)
            if endpoint.handler is not None:
                user = await self._user(endpoint, request, claims) if claims and not endpoint.hot else None
                return _rendered(await endpoint.handler(_checked(endpoint, request, ids, claims, user)))
            with self._shares.one(request.address):
                async with self.pool.connection() as conn:
                    user = await self._admitted(conn, endpoint, claims) if claims else None
                    return await self._in_unit(conn, endpoint, _checked(endpoint, request, ids, claims, user))
        except ValidationFailed as error:
            if endpoint.of_network:
                raise Misfit(error.detail, errors=error.errors) from None
            raise

    def _claims(self, endpoint: Endpoint, request: WebRequest) -> Claims | None:
        if endpoint.access is Access.ANYONE or endpoint.of_network:
            return None
        return self.tokens.verify(bearer(request.headers.get("authorization")))

    async def _user(self, endpoint: Endpoint, request: WebRequest, claims: Claims) -> Caller:
        with self._shares.one(request.address):
            async with self.pool.connection() as conn:
                return await self._admitted(conn, endpoint, claims)

    async def _admitted(self, conn: TrioConnection, endpoint: Endpoint, claims: Claims) -> Caller:
        caller = await self.find_caller(conn, claims)
        if caller is None:
            raise Unauthenticated
        if endpoint.access is Access.ADMIN and not caller.is_admin:
            raise Forbidden("only an admin may do this")
        return caller

    async def _in_unit(self, conn: TrioConnection, endpoint: Endpoint, call: Call) -> Reply:
        unit = endpoint.unit
        assert unit is not None

        then = _nothing

        async def once() -> StoredAnswer:
            nonlocal then
            answer = await unit(call, conn)
            then = answer.then
            return StoredAnswer(answer.status, b"" if answer.value is None else dump_json(answer.value))

        key = call.request.headers.get("idempotency-key")
        if not endpoint.guarded or key is None:
            stored = await retrying(once)
        else:
            request = call.request
            guard = Guard.of(call.caller.id, key, request.method, request.path, request.body)
            stored = await retrying(lambda: guard.run(conn, once))
        if not stored.replayed:
            then()
        return _reply(stored)


def _checked(
    endpoint: Endpoint, request: WebRequest, ids: Mapping[str, str], claims: Claims | None, user: Caller | None
) -> Call:
    found, names = ids_of(ids, endpoint.names), names_of(ids, endpoint.names)
    return Call(request, found, _body(endpoint, request), _query(endpoint, request), claims, user, names)


def _body(endpoint: Endpoint, request: WebRequest) -> Any:
    if endpoint.body is None:
        # An empty object says as much as an empty body, and some clients always send one. With GET and DELETE a body means
        # nothing (RFC 9110, 9.3): it isn't looked at.
        if endpoint.takes_body and request.body.strip():
            structure_body(request.body, Nothing)
        return None
    if endpoint.body_optional and not request.body.strip():
        return endpoint.body()
    return structure_body(request.body, endpoint.body)


def _query(endpoint: Endpoint, request: WebRequest) -> Any:
    if request.query is None:
        raise refused([FieldFault("", "has too long a query, or one that is not UTF-8")])
    if endpoint.query is None and not request.query:
        return None
    return structure_query(request.query, endpoint.query or Nothing)


def _rendered(answer: Answer | Reply) -> Reply:
    if isinstance(answer, Reply):
        return answer
    return Reply(answer.status, b"" if answer.value is None else dump_json(answer.value))


def _reply(stored: StoredAnswer) -> Reply:
    headers = (("Idempotent-Replayed", "true"),) if stored.replayed else ()
    return Reply(stored.status, stored.body, headers=headers)


@frozen
class Nothing:
    """A body or a query without fields."""
