"""The OpenAPI document (3.1), made from the endpoints and the attrs classes that they take and answer."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
import re
from typing import Any, Final, get_args, get_origin

import attrs
import msgspec

from opendesk.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    FieldFault,
    Forbidden,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidJson,
    NotFound,
    OpenDeskError,
    Overloaded,
    Unauthenticated,
    ValidationFailed,
)
from opendesk.web.endpoint import Access, Endpoint
from opendesk.web.wire import LARGEST_INTEGER, camel

VERSION: Final = "1.0.0"
_REF: Final = "#/components/schemas/{name}"

_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request gives the stored answer again; kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}


@attrs.frozen
class Problem:
    """An error (RFC 9457). `code` is stable; `error` is `detail` again, for older clients."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    trace_id: str
    errors: tuple[FieldFault, ...] = ()


def document(endpoints: Iterable[Endpoint], *, server_url: str = "/") -> dict[str, Any]:
    """The whole document, ready for JSON. Order follows the endpoints, so that it changes only with them."""
    listed = tuple(endpoints)
    components, schema_of = _components(listed)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenDesk",
            "version": VERSION,
            "description": "Rent PCs by the minute. Times are RFC 3339 in UTC; money is an integer in minor units.",
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _components(endpoints: tuple[Endpoint, ...]) -> tuple[dict[str, Any], Mapping[Any, Any]]:
    """The schemas of all classes, and of each type that is used the reference to it."""
    used: dict[Any, None] = {Problem: None}
    for endpoint in endpoints:
        used |= dict.fromkeys([*endpoint.answers.values(), endpoint.body])
        for attribute in attrs.fields(endpoint.query) if endpoint.query else ():
            used[attribute.type] = None
    used.pop(None, None)
    types = list(used)
    references, components = msgspec.json.schema_components(types, ref_template=_REF)
    names = {_component_name(cls): cls for cls in _classes(types)}
    for name, schema in components.items():
        _finish(schema, answers_only=name not in _requested(endpoints) and name in names)
    return dict(sorted(components.items())), dict(zip(types, references, strict=True))


def _classes(types: Iterable[Any]) -> set[Any]:
    """Every attrs class within these types."""
    found: set[Any] = set()
    todo = list(types)
    while todo:
        cls = todo.pop()
        todo += get_args(cls)
        origin = get_origin(cls) or cls
        if isinstance(origin, type) and attrs.has(origin) and cls not in found:
            found.add(cls)
            attrs.resolve_types(origin)
            todo += [attribute.type for attribute in attrs.fields(origin)]
    return found


def _component_name(cls: Any) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", getattr(cls, "__name__", str(cls)))


def _requested(endpoints: Iterable[Endpoint]) -> set[str]:
    return {endpoint.body.__name__ for endpoint in endpoints if endpoint.body}


def _finish(schema: dict[str, Any], *, answers_only: bool) -> None:
    """What the wire adds to a class: camelCase, no unknown fields, and in answers every field is there."""
    if schema.get("type") != "object" or "properties" not in schema:
        return
    schema["properties"] = {camel(name): _bounded(value) for name, value in schema["properties"].items()}
    required = schema["properties"] if answers_only else map(camel, schema.get("required", ()))
    schema["required"] = list(required)
    if schema.get("title") == Problem.__name__:
        schema["required"].remove("errors")
    schema["additionalProperties"] = False


def _bounded(schema: Any) -> Any:
    """JSON's integers are those of `wire.LARGEST_INTEGER`; text has no control characters but tab and line ends."""
    if not isinstance(schema, dict):
        return schema
    bounded = {key: [_bounded(item) for item in value] if key == "anyOf" else value for key, value in schema.items()}
    if bounded.get("type") == "integer":
        bounded.setdefault("maximum", LARGEST_INTEGER)
        bounded.setdefault("minimum", -LARGEST_INTEGER)
    return bounded


def _operation(endpoint: Endpoint, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint, schema_of),
        "responses": _responses(endpoint, schema_of),
        "security": [] if endpoint.access is Access.ANYONE else [{"bearer": []}],
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": schema_of[endpoint.body]}}
        operation["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", endpoint.path)
    return endpoint.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _parameters(endpoint: Endpoint, schema_of: Mapping[Any, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    for attribute in attrs.fields(endpoint.query) if endpoint.query else ():
        schema = _without_null(_bounded(schema_of[attribute.type]))
        found.append({"name": camel(attribute.name), "in": "query", "required": False, "schema": schema})
    return [*found, _KEY] if endpoint.guarded else found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter can be left out, but not be null."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema


def _responses(endpoint: Endpoint, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    responses = {str(status): _answer(status, cls, schema_of) for status, cls in endpoint.answers.items()}
    by_status: dict[int, list[str]] = {}
    for error in dict.fromkeys([*endpoint.errors, *_common_errors(endpoint)]):
        by_status.setdefault(error.status, []).append(error.code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "content": {"application/problem+json": {"schema": schema_of[Problem]}},
        }
    return responses


def _answer(status: int, cls: Any, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if cls is not None:
        kind = "text/plain" if cls is str else "application/json"
        answer["content"] = {kind: {"schema": schema_of[cls]}}
    return answer


def _common_errors(endpoint: Endpoint) -> list[type[OpenDeskError]]:
    """What every call of this kind may answer."""
    found: list[type[OpenDeskError]] = [InvalidJson, ValidationFailed, BodyTooLarge, DatabaseUnavailable, Overloaded]
    if endpoint.access is not Access.ANYONE:
        found.append(Unauthenticated)
    if endpoint.access is Access.ADMIN:
        found.append(Forbidden)
    if "{" in endpoint.path:
        found.append(NotFound)
    if endpoint.guarded:
        found += [IdempotencyKeyReused, IdempotencyInProgress]
    return found
