"""The OpenAPI document (3.1), made from the endpoints and the attrs classes that they take and answer."""

from collections.abc import Iterable
from http import HTTPStatus
import inspect
from typing import Any, Final

import attrs
from attrs import define, field

from opendesk.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    FieldFault,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidJson,
    NotFound,
    OpenDeskError,
    Overloaded,
)
from opendesk.web.credentials import SCHEMES, SECURITY, SIGNATURE, refusals
from opendesk.web.endpoint import Access, Endpoint
from opendesk.web.json_schema import Schema, Schemas, without_null
from opendesk.web.paths import parameters
from opendesk.web.problems import PROBLEM_JSON
from opendesk.web.wire import camel

VERSION: Final = "1.0.0"

DESCRIPTION: Final = """\
Rent PCs by the minute.

**Values.** JSON in UTF-8, whatever the Content-Type says. Times are RFC 3339 in UTC with milliseconds. Money is an integer in minor units \
(centavos) beside a `currency`. Rates are decimals as text. Ids are UUIDs; devices and routers have names \
of their own.
**Requests** are strict: unknown fields and query parameters, and numbers as text, are refused. **Answers** may get more fields later; ignore \
those that you don't know.

**Who calls.** `Authorization: Bearer …` with the `token` that registering and logging in give. It ends with its time, with a log-out, a new \
password or a ban: then calls are answered 401. Calls about routers and hotspots are for programs, which hold the relay token (and the internal \
one for `/internal/`). Where the daemon has a secret to sign with, a POST, PUT or DELETE of theirs is signed: `X-Relay-Signature` is `v1=` and the \
HMAC-SHA256, in hexadecimal, of method, path with query as sent, `X-Relay-Ts`, `X-Relay-Nonce` and body, a line feed between each two; or just the \
HMAC-SHA256 of a body, if it isn't empty and the daemon isn't strict.

**Errors** are problem details (RFC 9457) with a `code` that is stable: go by it, not by the words. Besides those that stand at each call, any \
may be answered 400 `BAD_REQUEST` (not HTTP as we read it), 404 `NOT_FOUND` (no such path), 405 `METHOD_NOT_ALLOWED` with `Allow`, 408 \
`REQUEST_TIMEOUT`, 413 `BODY_TOO_LARGE` (over 1 MiB), 431 `HEAD_TOO_LARGE`, or 500 `INTERNAL`; tell us the `traceId` then.

**Lists** are newest first: `limit` items, and `nextCursor` to give as `cursor` for those after them.

**Trying again.** A POST with an `Idempotency-Key` can be sent again until it is answered: it has its effect once, and a repeat gets the same \
answer with `Idempotent-Replayed: true`. 429 and 503 say with `Retry-After` when.

**Tracing.** Every answer has an `X-Request-ID`: yours (up to 64 letters, digits and `._:-`), or a new one. It is the `traceId` of errors and of \
our log.
"""

_HEADERS: Final[dict[str, Schema]] = {
    "X-Request-ID": {
        "description": "The caller's, or a new one; the `traceId` in our log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}},
    "Idempotent-Replayed": {
        "description": "This is the answer to an earlier request with the same `Idempotency-Key`.",
        "schema": {"const": "true"},
    },
}
_KEY: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A new UUID, say, for each thing to be done. The same key with the same request gives the stored answer again; kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


@attrs.frozen
class Problem:
    """An error (RFC 9457). `code` is stable; `error` is `detail` again, for older clients; `errors` comes with VALIDATION_FAILED, `jobId` and `deviceId` with what goes on by itself."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    trace_id: str
    errors: tuple[FieldFault, ...] = ()
    job_id: str = ""
    device_id: str = ""


def document(endpoints: Iterable[Endpoint], *, server_url: str = "/") -> dict[str, Any]:
    """The whole document, ready for JSON. Order follows the endpoints, so that it changes only with them."""
    return _Document(tuple(endpoints)).whole(server_url)


@define
class _Document:
    endpoints: tuple[Endpoint, ...]
    schemas: Schemas = field(factory=Schemas)
    responses: dict[str, Schema] = field(factory=dict)

    def whole(self, server_url: str) -> dict[str, Any]:
        self.schemas.of(Problem, asked=False)
        for seldom in ("errors", "jobId", "deviceId"):
            self.schemas.components["Problem"]["required"].remove(seldom)
        paths: dict[str, dict[str, Any]] = {}
        for endpoint in self.endpoints:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = self._operation(endpoint)
        return {
            "openapi": "3.1.0",
            "info": {"title": "OpenDesk", "version": VERSION, "description": DESCRIPTION},
            "servers": [{"url": server_url}],
            "tags": [{"name": name} for name in dict.fromkeys(e.tag for e in self.endpoints)],
            "paths": paths,
            "components": {
                "schemas": self.schemas.components,
                "responses": self.responses,
                "headers": _HEADERS,
                "securitySchemes": SCHEMES,
            },
        }

    def _operation(self, endpoint: Endpoint) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "operationId": _operation_id(endpoint),
            "summary": endpoint.summary,
            **_description(endpoint),
            "tags": [endpoint.tag],
            "security": SECURITY[endpoint.access],
            "parameters": self._parameters(endpoint),
        }
        if endpoint.body is not None:
            content = {"application/json": {"schema": self.schemas.of(endpoint.body, asked=True)}}
            operation["requestBody"] = {"required": not endpoint.body_optional, "content": content}
        return {**operation, "responses": {**self._answers(endpoint), **self._problems(endpoint)}}

    def _parameters(self, endpoint: Endpoint) -> list[Schema]:
        found: list[Schema] = [
            {"name": name, "in": "path", "required": True, "schema": self._parameter(endpoint, name)}
            for name in parameters(endpoint.path)
        ]
        for attribute in attrs.fields(endpoint.query) if endpoint.query else ():
            schema = self.schemas.of(without_null(attribute.type), asked=True)
            if attribute.default is not None:
                schema["default"] = attribute.default
            description = {"description": schema.pop("description")} if "description" in schema else {}
            found.append({"name": camel(attribute.name), "in": "query", **description, "schema": schema})
        if endpoint.of_network and endpoint.method != "GET":
            found += SIGNATURE
        return [*found, _KEY] if endpoint.guarded else found

    def _parameter(self, endpoint: Endpoint, name: str) -> Schema:
        kind = endpoint.names.get(name)
        return {"type": "string", "format": "uuid"} if kind is None else self.schemas.of(kind.type, asked=True)

    def _answers(self, endpoint: Endpoint) -> dict[str, Schema]:
        headers = ["X-Request-ID", "Idempotent-Replayed"] if endpoint.guarded else ["X-Request-ID"]
        answers: dict[str, Schema] = {}
        for status, cls in endpoint.answers.items():
            answer: Schema = {"description": HTTPStatus(status).phrase, "headers": _header_references(headers)}
            if cls is not None:
                kind = "text/plain" if cls is str else "application/json"
                answer["content"] = {kind: {"schema": self.schemas.of(cls, asked=False)}}
            if status == HTTPStatus.CREATED and (links := self._links(endpoint, cls)):
                answer["links"] = links
            answers[str(status)] = answer
        return answers

    def _links(self, made: Endpoint, cls: Any) -> dict[str, Schema]:
        """From what was made to what can be done with it."""
        ids = [camel(a.name) for a in attrs.fields(cls) if attrs.has(a.type) and "id" in attrs.fields_dict(a.type)]
        return {
            _operation_id(endpoint): {
                "operationId": _operation_id(endpoint),
                "parameters": {"id": f"$response.body#/{ids[0]}/id"},
            }
            for endpoint in self.endpoints
            if ids and endpoint.path.startswith(f"{made.path}/{{id}}")
        }

    def _problems(self, endpoint: Endpoint) -> dict[str, Schema]:
        by_status: dict[int, list[type[OpenDeskError]]] = {}
        for error in dict.fromkeys([*endpoint.errors, *_common_errors(endpoint)]):
            by_status.setdefault(error.status, []).append(error)
        return {str(status): self._problem(status, by_status[status]) for status in sorted(by_status)}

    def _problem(self, status: int, errors: list[type[OpenDeskError]]) -> Schema:
        """Those with the same codes are one component."""
        errors = sorted(errors, key=lambda error: error.code)
        name = "Or".join(error.__name__ for error in errors)
        codes = [error.code for error in errors]
        headers = _header_references(["X-Request-ID"])
        if status == HTTPStatus.UNAUTHORIZED:
            headers |= _header_references(["WWW-Authenticate"])
        if status in _WAITING:
            headers |= {"Retry-After": {"required": True, **_HEADERS["Retry-After"]}}
        elif IdempotencyInProgress in errors:
            headers |= _header_references(["Retry-After"])
        own = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
        self.responses[name] = {
            "description": "\n".join(f"- `{error.code}`: {error.title()}" for error in errors),
            "headers": headers,
            "content": {PROBLEM_JSON: {"schema": {"allOf": [self.schemas.of(Problem, asked=False), own]}}},
        }
        return {"$ref": f"#/components/responses/{name}"}


_WAITING: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def _header_references(names: list[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _operation_id(endpoint: Endpoint) -> str:
    """The handler's name: what a client's method will be called."""
    return camel(endpoint.act.__name__)


def _description(endpoint: Endpoint) -> Schema:
    words = [
        inspect.cleandoc(endpoint.act.__doc__ or ""),
        "Only for admins." if endpoint.access is Access.ADMIN else "",
    ]
    text = "\n\n".join(part for part in words if part)
    return {"description": text} if text else {}


def _common_errors(endpoint: Endpoint) -> list[type[OpenDeskError]]:
    """What every call of this kind may answer."""
    found: list[type[OpenDeskError]] = [DatabaseUnavailable, Overloaded, *refusals(endpoint)]
    if endpoint.takes_body:
        found += [InvalidJson, BodyTooLarge]
    if parameters(endpoint.path):
        found.append(NotFound)
    if endpoint.guarded:
        found += [IdempotencyKeyReused, IdempotencyInProgress]
    return found
