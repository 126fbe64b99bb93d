"""Answers judged by the document that the daemon publishes, more strictly than a client should: nothing that isn't written there."""

from collections.abc import Iterator
from functools import cache
import json
import re
from typing import Any, Final
from urllib.parse import unquote

from attrs import define, field
import httpx
import jsonschema_rs

Json = dict[str, Any]

# What the front door and the routing may answer to anything; the document says so in words.
ANYWHERE: Final = {
    (400, "BAD_REQUEST"),
    (404, "NOT_FOUND"),
    (405, "METHOD_NOT_ALLOWED"),
    (408, "REQUEST_TIMEOUT"),
    (413, "BODY_TOO_LARGE"),
    (431, "HEAD_TOO_LARGE"),
}
# Fields that stand in an answer only where the document has them.
TELLING: Final = {"retry-after", "www-authenticate", "idempotent-replayed", "location"}
# What every answer has, as the document would say it if it were a response of its own.
PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}


@define
class Conformance:
    document: Json
    seen: set[tuple[str, int]] = field(factory=set)
    _validators: dict[str, Any] = field(factory=dict)

    @classmethod
    async def published(cls, client: httpx.AsyncClient) -> "Conformance":
        """By what this daemon publishes: it is of the program, so one that was read is good for all, and for what was made of it."""
        if not _READ:
            _READ.append(cls((await client.get("/openapi.json")).json()))
        return cls(_READ[0].document, validators=_READ[0]._validators)

    def check(self, response: httpx.Response) -> None:
        """Fail with what differs from the document."""
        request = response.request
        assert response.headers["x-request-id"]
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        if self._is_from_anywhere(response):
            if request.method != "HEAD":
                self._valid(response.json(), PROBLEM)
            return
        if request.method == "OPTIONS" and response.status_code == 204:
            return
        sent = request.url.raw_path.partition(b"?")[0].decode("ascii")
        path = unquote(re.sub("%2[Ff]", "%252F", sent))  # a name may have an escaped slash
        template, operation = self.operation("GET" if request.method == "HEAD" else request.method, path)
        self.seen.add((operation["operationId"], response.status_code))
        where = f"{request.method} {template} {response.status_code}"
        documented = operation["responses"].get(str(response.status_code))
        assert documented is not None, f"{where} is not in the document: {response.text}"
        documented = self.resolved(documented)
        self._check_headers(where, response, documented)
        if request.method != "HEAD":
            self._check_body(where, response, documented)
        if response.is_success:
            self._check_request(request, operation)

    def _is_from_anywhere(self, response: httpx.Response) -> bool:
        if response.headers.get("content-type") != "application/problem+json":
            return False
        if response.request.method == "HEAD":
            return response.status_code in {status for status, _ in ANYWHERE}
        return (response.status_code, response.json()["code"]) in ANYWHERE

    def operation(self, method: str, path: str) -> tuple[str, Json]:
        path = "/" + path.strip("/")  # as Quart does
        for template, item in self.document["paths"].items():
            if _paths_of(template).fullmatch(path) and method.lower() in item:
                return template, item[method.lower()]
        raise AssertionError(f"{method} {path} is not in the document")

    def operations(self) -> Iterator[tuple[str, str, Json]]:
        for template, item in self.document["paths"].items():
            for method, operation in item.items():
                yield method.upper(), template, operation

    def resolved(self, thing: Json) -> Json:
        while "$ref" in thing:
            _, *keys = thing["$ref"].split("/")
            thing = self.document
            for key in keys:
                thing = thing[key]
        return thing

    def _check_headers(self, where: str, response: httpx.Response, documented: Json) -> None:
        headers = {name.lower(): self.resolved(header) for name, header in documented["headers"].items()}
        missing = [name for name, header in headers.items() if header.get("required") and name not in response.headers]
        assert not missing, f"{where} lacks {missing}"
        surplus = TELLING & set(response.headers) - set(headers)
        assert not surplus, f"{where} has {surplus}, which the document has not"
        for name, header in headers.items():
            if (value := response.headers.get(name)) is not None:
                self._valid(int(value) if header["schema"].get("type") == "integer" else value, header["schema"])

    def _check_body(self, where: str, response: httpx.Response, documented: Json) -> None:
        if "content" not in documented:
            assert response.content == b"", f"{where} has a body"
            return
        ((kind, content),) = documented["content"].items()
        assert response.headers["content-type"].partition(";")[0] == kind
        if kind == "text/plain":
            return
        body = response.json()
        self._valid(body, content["schema"])
        if body.get("code") == "VALIDATION_FAILED":
            assert body["errors"], f"{where} does not say where"

    def _check_request(self, request: httpx.Request, operation: Json) -> None:
        """What was taken is what the document says is taken."""
        known = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
        for name, value in request.url.params.items():
            self._valid(int(value) if known[name].get("type") == "integer" else value, known[name])
        body = request.content
        if "requestBody" in operation and (body.strip() or operation["requestBody"]["required"]):
            self._valid(json.loads(body), operation["requestBody"]["content"]["application/json"]["schema"])

    def _valid(self, value: Any, schema: Json) -> None:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {**schema, "components": {"schemas": closed(self.document["components"]["schemas"])}}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        faults = [f"{list(fault.instance_path)}: {fault.message}" for fault in self._validators[key].iter_errors(value)]
        assert not faults, faults


# The first of this process.
_READ: Final[list[Conformance]] = []


@cache
def _paths_of(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))


def closed(schemas: Json) -> Json:
    """In the document answers are open, for fields to come; here a field that it doesn't have is a fault."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }
