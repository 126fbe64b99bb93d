"""HTML from templates, and the few files that go with it."""

from functools import partial
from hashlib import sha256
from importlib import resources
from typing import Any, Final

from attrs import define, field, frozen
import jinja2
import trio

# A page with a thousand routers takes a core for a tenth of a second: off the loop, and not many at once.
_RENDERING: Final = 2
_HASH_CHARS: Final = 16
_KINDS: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

HTML: Final = "text/html; charset=utf-8"

# Strict: nothing of ours is inline, and nothing comes from elsewhere.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# On every answer. With `no-referrer` browsers would send no Origin with forms either.
SECURITY: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
NO_STORE: Final = ("Cache-Control", "no-store")
_FOR_GOOD: Final = ("Cache-Control", "private, max-age=31536000, immutable")
_ASK_AGAIN: Final = ("Cache-Control", "no-cache")


@frozen
class Page:
    """What goes back, whole. `SECURITY` comes on top of its headers."""

    status: int
    body: bytes = b""
    content_type: str = HTML
    headers: tuple[tuple[str, str], ...] = (NO_STORE,)


@frozen
class _File:
    body: bytes = field(repr=False)
    kind: str
    hash: str


def see_other(path: str, *headers: tuple[str, str]) -> Page:
    return Page(303, headers=(NO_STORE, ("Location", path), *headers))


@define(eq=False)
class Pages:
    """Everything is read from the package when the daemon starts."""

    _environment: jinja2.Environment = field(init=False)
    _files: dict[str, _File] = field(init=False)
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_RENDERING), init=False)

    def __attrs_post_init__(self) -> None:
        loader = jinja2.PackageLoader("opendesk.console")
        self._environment = jinja2.Environment(
            loader=loader, autoescape=True, auto_reload=False, undefined=jinja2.StrictUndefined
        )
        self._environment.globals["static"] = self._path_of
        self._files = dict(_files())

    async def page(
        self, template: str, status: int = 200, headers: tuple[tuple[str, str], ...] = (), **told: Any
    ) -> Page:
        render = partial(self._rendered, template, told)
        body = await trio.to_thread.run_sync(render, limiter=self._limiter)
        return Page(status, body, headers=(NO_STORE, *headers))

    def static(self, name: str, version: str, known: str | None) -> Page | None:
        """None if there is no such file. `version` is the hash that our pages ask for it with, `known` what the browser has."""
        file = self._files.get(name)
        if file is None:
            return None
        tag = f'"{file.hash}"'
        headers = (_FOR_GOOD if version == file.hash else _ASK_AGAIN, ("ETag", tag))
        if known == tag:
            return Page(304, headers=headers)
        return Page(200, file.body, file.kind, headers)

    def _rendered(self, template: str, told: dict[str, Any]) -> bytes:
        return self._environment.get_template(template).render(told).encode()

    def _path_of(self, name: str) -> str:
        return f"/console/static/{name}?v={self._files[name].hash}"


def _files() -> Any:
    for path in resources.files("opendesk.console").joinpath("static").iterdir():
        kind = _KINDS.get(path.name[path.name.rfind(".") :])
        if kind is not None:
            body = path.read_bytes()
            yield path.name, _File(body, kind, sha256(body).hexdigest()[:_HASH_CHARS])
