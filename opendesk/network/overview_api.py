"""How jobs and routers are doing, for backends and operators."""

from datetime import datetime
from typing import Annotated, Any, Final

from attrs import frozen
from msgspec import Meta

from opendesk.errors import NotFound
from opendesk.network.jobs import looking
from opendesk.network.jobs.shapes import JobView, State
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.status import RouterStatus
from opendesk.postgres.driver import TrioConnection
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Limit

# A router's id in hexadecimal, which has 64 characters at most.
_CURSOR: Final = r"^([0-9a-f]{2}){1,64}$"


class JobNotFound(NotFound):
    """There is no such job, or it is long over."""

    code = "JOB_NOT_FOUND"


@frozen
class JobShown:
    """`lastError` is also kept of a job that went well at last. `runAt` is when a `due` one is tried next."""

    id: str
    type: str
    state: State
    attempts: int
    run_at: datetime
    last_error: str | None
    result: Any


@frozen
class JobAnswer:
    job: JobShown


@frozen
class RoutersQuery:
    limit: Limit = 20
    cursor: Annotated[str, Meta(pattern=_CURSOR, title="a cursor of this API")] | None = None

    @property
    def after(self) -> str:
        """Routers with a greater id are on this page."""
        return bytes.fromhex(self.cursor or "").decode("latin-1")


@frozen
class Routers:
    """By id: those of MIKROTIK_NODES have no age. `nextCursor` is null on the last page."""

    items: tuple[RouterStatus, ...]
    next_cursor: str | None


@frozen
class Overview:
    """The handlers."""

    _fleet: Fleet

    async def show_job(self, call: Call, conn: TrioConnection) -> Answer:
        view = await looking.get(conn, call.ids["id"])
        if view is None:
            raise JobNotFound
        return Answer(JobAnswer(_shown(view)))

    async def list_routers(self, call: Call, conn: TrioConnection) -> Answer:
        query: RoutersQuery = call.query
        found = sorted(name for name in self._fleet.specs if name > query.after)
        on_page = found[: query.limit]
        cursor = on_page[-1].encode().hex() if len(found) > len(on_page) else None
        return Answer(Routers(tuple(await self._fleet.status(conn, on_page)), cursor))


def _shown(view: JobView) -> JobShown:
    return JobShown(
        id=str(view.id),
        type=view.type,
        state=view.state,
        attempts=view.attempts,
        run_at=view.run_at,
        last_error=view.last_error,
        result=view.result,
    )


def endpoints(fleet: Fleet) -> tuple[Endpoint, ...]:
    api = Overview(fleet)
    return (
        Endpoint(
            "GET",
            "/relay/jobs/{id}",
            "What became of a job",
            {200: JobAnswer},
            unit=api.show_job,
            access=Access.RELAY,
            tag="relay",
            errors=(JobNotFound,),
        ),
        Endpoint(
            "GET",
            "/relay/routers",
            "Routers: their circuits, lanes, and when they were last heard of",
            {200: Routers},
            unit=api.list_routers,
            access=Access.RELAY,
            query=RoutersQuery,
            tag="relay",
        ),
    )
