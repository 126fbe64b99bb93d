"""Whatever a router says of itself: it is written, read again and told, and no service ends of it."""

from collections.abc import Sequence
import json
from uuid import uuid4

from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
import trio

from opendesk.network.routeros.errors import Trap
from opendesk.network.routeros.session import Command, Result
from opendesk.network.routers import states
from opendesk.network.routers.health import Health
from opendesk.network.routers.link import look
from opendesk.network.routers.status import status_of
from opendesk.network.routers.uptime import LONGEST_S
from opendesk.postgres.driver import TrioConnection
from opendesk.web.wire import to_wire
from tests.network.routers.fake_routers import FakeApi, FakeRouter, spec_of, worker_of

TEXTS = (
    st.binary(max_size=400).map(lambda data: data.decode("utf-8", "surrogateescape"))
    | st.text("0123456789wdhms", max_size=30)
    | st.text(max_size=400)
    | st.sampled_from(["999999w", "100000w", "5214w", "4294967295s", "0s", "\0", "\udced\udca0", "geheim"])
)
ROWS = st.dictionaries(st.sampled_from(["uptime", "version", "name", ".id"]), TEXTS)
ANSWERS = st.lists(ROWS, max_size=2).map(lambda rows: Result(tuple(rows))) | TEXTS.map(lambda text: Trap(None, text))


@define(eq=False, kw_only=True)
class Says(FakeApi):
    resource: Result | Trap
    identity: Result | Trap

    async def run_all(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Result | Trap]:
        return [self.resource, self.identity]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(resource=ANSWERS, identity=ANSWERS, error=TEXTS)
async def test_whatever_a_router_says_can_be_written_and_told(
    resource: Result | Trap, identity: Result | Trap, error: str, conninfo: str
) -> None:
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        await write_and_tell(conn, resource, identity, error)


async def write_and_tell(conn: TrioConnection, resource: Result | Trap, identity: Result | Trap, error: str) -> None:
    node, spec = uuid4(), spec_of()
    await conn.run("DELETE FROM router_states")
    [lease] = await states.lease(conn, node, ["r1"], 60)
    worker = worker_of(FakeRouter())
    seen = await look(Says(FakeRouter(), 1, resource=resource, identity=identity))
    now_s = trio.current_time()
    worker.health = worker.health.seen(seen.without(spec.password), now_s).failed(error, now_s)
    assert await states.write(conn, node, {"r1": worker.health}, now_s) == 1
    stored = (await states.read(conn, ["r1"]))["r1"]
    for driver in (worker, None):
        told = json.dumps(to_wire(status_of(spec, stored, driver)))
        assert json.loads(told)["id"] == "r1"
    assert "geheim" not in (stored.identity or "") + (stored.version or "")
    [lease] = await states.lease(conn, node, ["r1"], 60)
    again = lease.health(worker.health.breaker, now_s)
    assert isinstance(again.says_rebooted(seen, now_s), bool)


@pytest.mark.parametrize("moment", ["'4713-01-01 BC'", "'-infinity'", "'infinity'", "'294276-01-01'"])
async def test_a_moment_that_no_calendar_has_is_read_as_one_that_is_far_away(conn: TrioConnection, moment: str) -> None:
    node = uuid4()
    await states.lease(conn, node, ["r1"], 60)
    columns = ("open_until", "last_contact_at", "booted_at", "last_error_at")
    await conn.run(f"UPDATE router_states SET {', '.join(f'{column} = {moment}' for column in columns)}")
    stored = (await states.read(conn, ["r1"]))["r1"]
    assert json.dumps(to_wire(status_of(spec_of(), stored, None)))
    [lease] = await states.lease(conn, node, ["r1"], 60)
    health = lease.health(worker_of(FakeRouter()).health.breaker, trio.current_time())
    assert await states.write(conn, node, {"r1": health}, trio.current_time()) == 1


@pytest.mark.parametrize("booted_s", [-1e300, 1e300, float("inf"), float("nan")])
async def test_a_moment_of_our_own_reckoning_is_bounded_too(conn: TrioConnection, booted_s: float) -> None:
    node, worker = uuid4(), worker_of(FakeRouter())
    await states.lease(conn, node, ["r1"], 60)
    worker.health = Health(breaker=worker.health.breaker, booted_s=booted_s)
    assert await states.write(conn, node, {"r1": worker.health}, 0) == 1
    stored = (await states.read(conn, ["r1"]))["r1"]
    assert stored.booted_at is not None
    assert stored.now is not None
    assert abs((stored.booted_at - stored.now).total_seconds()) <= 2 * LONGEST_S + 60
    assert status_of(spec_of(), stored, worker).booted_at is not None
