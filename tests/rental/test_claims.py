"""The handler that ends sessions: as what a caller acts there, and what the daemon itself knows of a host's silence."""

from datetime import datetime, timedelta
from uuid import UUID

from attrs import evolve
import pytest

from opendesk.errors import Forbidden, ValidationFailed
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.api.context import Rental, Terms
from opendesk.rental.api.sessions import EndSession, SessionEnded, Sessions
from opendesk.rental.heartbeats import Heartbeats
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.web.auth import Caller, Passwords, Tokens, utc_now
from opendesk.web.endpoint import Call, WebRequest
from tests.rental.builders import (
    FEE,
    HOUR,
    MINUTE,
    PENALTY,
    TIMEOUT,
    Host,
    Stage,
    add_client,
    add_host,
    add_pc,
    add_user,
    credit,
    database_now,
    rent,
)

pytestmark = pytest.mark.books

REQUEST = WebRequest("POST", "/sessions/…/end", (), {}, b"", "127.0.0.1", "a-request")
SILENT = 5 * MINUTE


def handlers(pool: Pool, *, listening_since: datetime | None) -> Sessions:
    metrics = Metrics()
    return Sessions(
        Rental(
            pool=pool,
            tokens=Tokens(b"x" * 32, timedelta(days=1)),
            passwords=Passwords(),
            heartbeats=Heartbeats(pool, metrics),
            terms=Terms("BRL", FEE, PENALTY, TIMEOUT),
            metrics=metrics,
            clock=utc_now,
            listening_since=lambda now: listening_since or now,
        )
    )


async def ended_by(
    conn: TrioConnection, pool: Pool, session: Session, caller: Caller, body: EndSession, *, since: datetime | None
) -> Session:
    call = Call(REQUEST, {"id": session.id}, body, None, None, caller)
    answer = await handlers(pool, listening_since=since).end_session(call, conn)
    assert isinstance(answer.value, SessionEnded)
    return answer.value.session


def client(user: UUID, host: UUID | None = None) -> Caller:
    return Caller(user, "CLIENT", host)


BLAMES_THE_HOST = EndSession(FailureReason.HOST)


async def test_a_claim_counts_when_this_daemon_heard_the_silence(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, used=30 * MINUTE, silent=SILENT)
    since = await database_now(conn) - HOUR
    ended = await ended_by(conn, pool, session, client(stage.client), BLAMES_THE_HOST, since=since)
    assert (ended.failure_reason, ended.claimed_failure_reason) == (FailureReason.HOST, None)


async def test_a_claim_is_only_kept_by_a_daemon_that_has_not_listened_yet(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    """It may have been away itself for those five minutes."""
    session = await rent(conn, stage, used=30 * MINUTE, silent=SILENT)
    ended = await ended_by(conn, pool, session, client(stage.client), BLAMES_THE_HOST, since=None)
    assert (ended.failure_reason, ended.claimed_failure_reason) == (FailureReason.NONE, FailureReason.HOST)


async def test_host_fault_is_another_word_for_it(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await rent(conn, stage, used=30 * MINUTE)
    body = EndSession(None, host_fault=True)
    ended = await ended_by(conn, pool, session, client(stage.client), body, since=None)
    assert ended.claimed_failure_reason == FailureReason.HOST


@pytest.mark.parametrize("other", [FailureReason.NONE, FailureReason.CLIENT, FailureReason.PLATFORM])
async def test_host_fault_and_another_reason_are_refused(
    conn: TrioConnection, pool: Pool, stage: Stage, other: FailureReason
) -> None:
    session = await rent(conn, stage, used=30 * MINUTE)
    with pytest.raises(ValidationFailed):
        await ended_by(conn, pool, session, client(stage.client), EndSession(other, host_fault=True), since=None)


async def test_a_stranger_ends_nothing(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await rent(conn, stage)
    other = await add_host(conn)
    for stranger in (client(await add_client(conn)), Caller(other.user, "HOST", other.id)):
        with pytest.raises(Forbidden):
            await ended_by(conn, pool, session, stranger, EndSession(), since=None)


async def test_a_host_who_rents_acts_as_the_client(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    other = await add_host(conn, money=10_000)
    session = await rent(conn, evolve(stage, client=other.user))
    ended = await ended_by(conn, pool, session, Caller(other.user, "HOST", other.id), EndSession(), since=None)
    assert (ended.end_reason, ended.failure_reason) == ("ENDED_BY_CLIENT", "NONE")


async def test_an_admins_own_rental_gives_an_admin_no_more_say_than_a_client_has(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    admin = await add_user(conn, role="ADMIN")
    await credit(conn, admin.id, 10_000)
    session = await rent(conn, evolve(stage, client=admin.id))
    ended = await ended_by(conn, pool, session, Caller(admin.id, "ADMIN", None), BLAMES_THE_HOST, since=None)
    assert (ended.end_reason, ended.failure_reason, ended.claimed_failure_reason) == ("ENDED_BY_CLIENT", "NONE", "HOST")


async def test_a_session_at_an_admins_own_pc_is_ended_by_its_host(conn: TrioConnection, pool: Pool) -> None:
    account = await add_user(conn, role="HOST")
    assert account.host_id is not None
    host = Host(account.id, account.host_id)
    session = await rent(conn, Stage(host, await add_pc(conn, host), await add_client(conn)))
    ended = await ended_by(conn, pool, session, Caller(account.id, "ADMIN", host.id), EndSession(), since=None)
    assert (ended.end_reason, ended.failure_reason) == ("ENDED_BY_HOST", "HOST")


async def test_an_admin_decides_whose_fault_another_s_session_was(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, used=30 * MINUTE)
    admin = Caller((await add_user(conn, role="ADMIN")).id, "ADMIN", None)
    ended = await ended_by(conn, pool, session, admin, EndSession(FailureReason.PLATFORM), since=None)
    assert (ended.end_reason, ended.failure_reason) == ("ENDED_BY_ADMIN", "PLATFORM")
