"""Somebody who opens the console, watches it for some seconds, and leaves: by logging out, or without a word."""

from http.client import HTTPConnection, HTTPResponse
import re
from typing import Final
from urllib.parse import urlencode

from attrs import define, field

from scripts.benchmarks.churn_acts import ANSWER_S, Ids, Refused

# Whole ones and changes, a second apart.
_PATCHES: Final = 3
_LINES_AT_MOST: Final = 1_000
_LOGIN: Final = "/console/login"
_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')
_COOKIE: Final = re.compile(r"([^=;]+)=([^;]*)")
_LATER: Final = (429, 503)


@define(eq=False)
class Browser:
    """As much of one as it takes: a connection that is kept, cookies, and the token of the last page's forms."""

    port: int
    _http: HTTPConnection = field(init=False)
    _cookies: dict[str, str] = field(factory=dict)
    _csrf: str = ""

    def __attrs_post_init__(self) -> None:
        self._http = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)

    def visit(self, path: str) -> None:
        page = self._asked("GET", path, expected=200).read().decode()
        found = _CSRF.search(page)
        if found is None:
            raise RuntimeError(f"GET {path}: no form")
        self._csrf = found[1]

    def send(self, path: str, **fields: str) -> None:
        self._asked("POST", path, urlencode({**fields, "csrf": self._csrf}), expected=303).read()

    def stream(self) -> HTTPResponse:
        return self._asked("GET", "/console/live", expected=200)

    def beside(self) -> "Browser":
        """Another connection of the same browser."""
        return Browser(self.port, cookies=self._cookies, csrf=self._csrf)

    def close(self) -> None:
        self._http.close()

    def _asked(self, method: str, path: str, body: str | None = None, *, expected: int) -> HTTPResponse:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        if answer.status in _LATER:
            raise Refused(f"{method} {path}: {answer.status}")
        if answer.status != expected:
            raise RuntimeError(f"{method} {path}: {answer.status}")
        self._keep(answer.headers.get_all("Set-Cookie") or [])
        return answer

    def _keep(self, told: list[str]) -> None:
        for line in told:
            if (found := _COOKIE.match(line)) is not None:
                self._cookies[found[1]] = found[2]


def watch(port: int, admin: Ids, *, logs_out: bool) -> None:
    browser = Browser(port)
    try:
        browser.visit(_LOGIN)
        browser.send(_LOGIN, email=admin["email"], password=admin["password"])
        browser.visit("/console")
        _live(browser, logs_out=logs_out)
    finally:
        browser.close()


def _live(browser: Browser, *, logs_out: bool) -> None:
    """Who logs out is told so by the stream."""
    beside = browser.beside()
    try:
        stream = beside.stream()
        _until(stream, b"event: patch", _PATCHES)
        if logs_out:
            browser.send("/console/logout")
            _until(stream, b"event: bye", 1)
        stream.close()
    finally:
        beside.close()


def _until(stream: HTTPResponse, wanted: bytes, times: int) -> None:
    seen = 0
    for _ in range(_LINES_AT_MOST):
        line = stream.readline()
        seen += line.startswith(wanted)
        if seen == times:
            return
        if not line:
            break
    raise RuntimeError(f"the console's stream ended, or went on without {wanted!r}")
