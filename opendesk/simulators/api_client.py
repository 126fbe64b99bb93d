"""The HTTP API as a program outside sees it: JSON in, JSON out, problems as exceptions."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import evolve, field, frozen
import httpx
import trio

# Far over what a daemon takes that is well; one that is not says 503 within 5 s.
ANSWER_WITHIN_S: Final = 30.0

# Connections of one crowd of simulators, unless they say otherwise: requests beyond that queue here, not in the daemon.
CONNECTIONS: Final = 64

# The API's largest page, and how many of them are read at most: more is no list for a program to hold.
PAGE: Final = 100
MAX_PAGES: Final = 200


class ApiError(Exception):
    """The API refused, and said why: `code` is stable, `detail` is for people. What goes on all the same is the job `job_id`."""

    def __init__(
        self, status: int, code: str, detail: str, *, retry_after_s: int | None = None, job_id: str | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.job_id = job_id


class ApiUnreachable(Exception):
    """No answer, or none in time. Whether the request took effect isn't known: ask again with the same Idempotency-Key."""


class PromiseBroken(Exception):
    """The API, or the relay, did what it promises not to do."""


class TooManyPages(Exception):
    """A list is longer than anybody here reads."""


@frozen
class Reply:
    """What came back with a 2xx. `replayed`: it is the answer that was kept for this Idempotency-Key."""

    status: int
    body: Any
    replayed: bool


@frozen
class Api:
    """The API with one caller's token, or none."""

    _http: httpx.AsyncClient
    _token: str | None = field(default=None, repr=False)
    _answer_within_s: float = ANSWER_WITHIN_S

    def acting_as(self, token: str) -> "Api":
        """The same connections with somebody's token."""
        return evolve(self, token=token)

    async def get(self, path: str, **query: str | int | None) -> Any:
        """The body of the answer. Raise ApiError or ApiUnreachable, as all calls here."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        return (await self.call("GET", path, params=params)).body

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Reply:
        """`key` is the Idempotency-Key."""
        return await self.call("POST", path, body=body, key=key)

    async def list_all(self, path: str, **query: str | int | None) -> list[dict[str, Any]]:
        """Every item of a list, page by page. Raise TooManyPages too."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self.get(path, limit=PAGE, cursor=cursor, **query)
            items += page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return items
        raise TooManyPages(f"{path} has more than {MAX_PAGES * PAGE} items")

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Reply:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.send(method, path, params=params, json=body, headers=headers)

    async def send(self, method: str, path: str, **request: Any) -> Reply:
        """With nobody's token; `request` is as httpx takes it, for those who choose each byte and header themselves."""
        try:
            with trio.fail_after(self._answer_within_s):
                response = await self._http.request(method, path, **request)
        except (httpx.TransportError, trio.TooSlowError) as error:
            raise ApiUnreachable(f"{method} {path}: {error!r}") from error
        if response.is_success:
            return Reply(response.status_code, _json(response), "Idempotent-Replayed" in response.headers)
        raise _refusal(response)


@asynccontextmanager
async def open_api(url: str, *, connections: int = CONNECTIONS) -> AsyncIterator[Api]:
    """The API at this URL with nobody's token. The deadlines are ours; proxies of the environment are not for these calls."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=None, trust_env=False) as http:  # noqa: S113 - Api.call has the deadline
        yield Api(http)


def _json(response: httpx.Response) -> Any:
    return response.json() if response.content else None


def _refusal(response: httpx.Response) -> ApiError:
    job_id: str | None = None
    try:
        problem = response.json()
        code, detail, job_id = str(problem["code"]), str(problem["detail"]), problem.get("jobId")
    except (ValueError, KeyError, TypeError):
        code, detail = "NOT_A_PROBLEM", response.text[:200]
    wait = response.headers.get("Retry-After", "")
    wait_s = int(wait) if wait.isdigit() else None
    return ApiError(response.status_code, code, detail, retry_after_s=wait_s, job_id=job_id)
