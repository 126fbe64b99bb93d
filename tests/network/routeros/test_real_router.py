"""The driver against our simulator, and against a real router: ROUTEROS_TEST_HOST, _USER, _PASS, and what else `real` reads.

It writes to /ip/firewall/address-list, in a list of its own, and removes what it wrote.
"""

from collections.abc import AsyncIterator
import os
from uuid import uuid4

from attrs import evolve
import pytest
import trio

from opendesk.network.routeros.client import Client, connect
from opendesk.network.routeros.errors import LoginRefused, TimedOut, Trap
from opendesk.network.routeros.session import Command
from opendesk.network.routeros.transport import Target
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros.router import PASSWORD, USER, Router
from opendesk.simulators.routeros.server import simulated

LIST = "/ip/firewall/address-list"
COMMENT = 'a "comment" = \\ $x [/y] João\n; ção'


def real() -> Target:
    environment = os.environ
    pin = environment.get("ROUTEROS_TEST_TLS_SHA256")
    tls = pin is not None or environment.get("ROUTEROS_TEST_TLS") == "1"
    return Target(
        environment["ROUTEROS_TEST_HOST"],
        int(environment.get("ROUTEROS_TEST_PORT", "8729" if tls else "8728")),
        environment.get("ROUTEROS_TEST_USER", "admin"),
        Secret(environment.get("ROUTEROS_TEST_PASS", "")),
        tls,
        tls_sha256=bytes.fromhex(pin) if pin else None,
    )


@pytest.fixture(params=["simulated", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    """Not async: pytest-trio drops what a skip says."""
    if request.param == "real" and "ROUTEROS_TEST_HOST" not in os.environ:
        pytest.skip("NO REAL ROUTER WAS TESTED: ROUTEROS_TEST_HOST is not set")
    return str(request.param)


@pytest.fixture
async def target(kind: str) -> AsyncIterator[Target]:
    if kind == "simulated":
        async with simulated(Router()) as (host, port):
            yield Target(host, port, USER, Secret(PASSWORD))
    else:
        yield real()


@pytest.fixture
async def router(target: Target) -> AsyncIterator[Client]:
    async with connect(target) as client:
        yield client


async def rows(router: Client, name: str) -> list[dict[str, str]]:
    return list((await router.run(Command(f"{LIST}/print", queries=(f"?list={name}",)))).rows)


async def test_it_says_what_it_is(router: Client) -> None:
    [row] = (await router.run(Command("/system/resource/print", proplist=("version", "uptime")))).rows
    assert row.keys() == {"version", "uptime"}


async def test_a_wrong_password_is_refused(target: Target) -> None:
    with pytest.raises(LoginRefused):
        async with connect(evolve(target, password=Secret(uuid4().hex))):
            pass


async def test_what_is_added_is_there_until_it_is_removed(router: Client) -> None:
    name = f"opendesk-test-{uuid4().hex[:8]}"
    added = await router.run(Command(f"{LIST}/add", {"list": name, "address": "192.0.2.1", "comment": COMMENT}))
    try:
        [row] = await rows(router, name)
        assert (row[".id"], row["address"], row["comment"]) == (added.ret, "192.0.2.1", COMMENT)
        with pytest.raises(Trap):
            await router.run(Command(f"{LIST}/add", {"list": name, "address": "192.0.2.1"}))
    finally:
        await router.run(Command(f"{LIST}/remove", {".id": added.ret or ""}))
    assert await rows(router, name) == []


async def test_what_isnt_there_is_a_trap_and_nothing_else_suffers(router: Client) -> None:
    missing, unknown, identity = await router.run_all(
        [Command(f"{LIST}/remove", {".id": "*FFFFFF"}), Command("/no/such/command"), Command("/system/identity/print")]
    )
    assert isinstance(missing, Trap)
    assert isinstance(unknown, Trap)
    assert not isinstance(identity, Trap)
    assert identity.rows[0].keys() == {"name"}


async def test_queries_are_a_stack(router: Client) -> None:
    query = ("?name=read", "?name=write", "?#|")
    result = await router.run(Command("/user/group/print", queries=query, proplist=("name",)))
    assert {row["name"] for row in result.rows} == {"read", "write"}


async def test_listening_is_cancelled_and_the_connection_serves_on(router: Client) -> None:
    with trio.move_on_after(0.5):
        async with router.listen(Command(f"{LIST}/listen")) as changes:
            await anext(changes)
    with pytest.raises(TimedOut):
        await router.run(Command(f"{LIST}/listen"), timeout_s=0.5)
    assert not router.is_closed
    await router.run(Command("/system/identity/print"))
