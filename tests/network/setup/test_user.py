"""The technical user: may do what is needed and no more, and its password is seen to be right."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import evolve
import pytest

from opendesk.network.setup.apply import Applied, apply, pretended
from opendesk.network.setup.errors import NotHeld, OwnUser, RouterRefused, RowInTheWay
from opendesk.network.setup.script import ADDRESSES
from opendesk.network.setup.user import DENIED, GRANTED, GROUP, GROUPS, NAME, USERS, TechnicalUser, plan
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros import Act, Router
from opendesk.simulators.routeros.values import POLICIES
from tests.network.setup.wires import Wire, WireApi, held, router, tunnel_of

PASSWORD = "tech-geheim-1"


def user_of(it: Router, password: str = PASSWORD, name: str = NAME) -> TechnicalUser:
    @asynccontextmanager
    async def log_in() -> AsyncIterator[WireApi]:
        async with Wire(it, name, password).dial() as api:
            yield api

    return TechnicalUser(Secret(password), log_in, name)


async def make(it: Router, wire: Wire | None = None, *, dry_run: bool = False, password: str = PASSWORD) -> Applied:
    return await apply((wire or Wire(it)).dial, config=None, user=user_of(it, password), dry_run=dry_run)


async def test_it_logs_in_and_may_change_what_is_needed_alone(autojump_clock: object) -> None:
    made = router()
    assert (await make(made)).changed
    assert (await apply(Wire(made, NAME, PASSWORD).dial, config=tunnel_of(), user=None, dry_run=False)).changed
    with pytest.raises(RouterRefused):
        await apply(Wire(made, NAME, PASSWORD).dial, config=None, user=user_of(made, "another"), dry_run=False)
    assert set(GRANTED) | set(DENIED) == set(POLICIES)


async def test_the_second_time_changes_nothing(autojump_clock: object) -> None:
    made = router()
    await make(made)
    wire, before = Wire(made), held(made)
    assert not (await make(made, wire)).changed
    assert (wire.changes(), held(made)) == ([], before)


async def test_another_password_is_seen_by_logging_in_and_set(autojump_clock: object) -> None:
    made = router()
    await make(made)
    applied = await make(made, password="another-geheim")
    assert [(step.menu, step.verb, dict(step.attributes)) for step in applied.plan] == [
        (USERS, "set", {"password": "********"})
    ]
    assert not (await make(made, password="another-geheim")).changed


async def test_no_plan_shows_the_password(autojump_clock: object) -> None:
    made = router()
    wire = Wire(made)
    for applied in (await make(made, wire, dry_run=True), pretended(tunnel_of(), user_of(made))):
        assert not applied.changed
        assert PASSWORD not in repr(applied)
        assert applied.plan[-1].attributes["password"] == "********"
    assert wire.changes() == []
    assert PASSWORD not in repr(user_of(made))


async def test_what_was_taken_from_it_or_given_is_put_right(autojump_clock: object) -> None:
    made = router()
    await make(made)
    right = held(made)
    made.run(f"{GROUPS}/set", {"numbers": GROUP, "policy": "api,read,write,policy"})
    made.run(f"{USERS}/set", {"numbers": NAME, "group": "full", "disabled": "yes"})
    assert (await make(made)).changed
    assert held(made) == right


async def test_a_user_of_that_name_that_somebody_else_made_is_left_alone(autojump_clock: object) -> None:
    made = router()
    made.run(f"{USERS}/add", {"name": NAME, "group": "full", "password": PASSWORD})
    before = held(made)
    assert not (await make(made)).changed
    with pytest.raises(RowInTheWay):
        await make(made, password="another")
    assert held(made) == before


async def test_who_is_logged_in_as_it_does_not_change_its_own_password_or_group(autojump_clock: object) -> None:
    """The registry goes on with the one that it has: the next connection would be refused."""
    made = router()
    await make(made)
    own, before = Wire(made, NAME, PASSWORD), held(made)
    with pytest.raises(OwnUser):
        await apply(own.dial, config=None, user=evolve(user_of(made, "another"), is_own=True), dry_run=False)
    assert (own.changes(), held(made)) == ([], before)
    assert not (await apply(own.dial, config=None, user=evolve(user_of(made), is_own=True), dry_run=False)).changed
    made.run(f"{USERS}/set", {"numbers": NAME, "group": "full"})
    with pytest.raises(OwnUser):
        await apply(own.dial, config=None, user=evolve(user_of(made), is_own=True), dry_run=False)


async def test_it_logs_in_from_the_vps_alone_if_that_is_known(autojump_clock: object) -> None:
    made = router()
    await make(made)
    for _ in range(2):
        applied = await apply(
            Wire(made).dial, config=None, user=evolve(user_of(made), address="10.200.0.1/32"), dry_run=False
        )
        assert made.rows(USERS)[-1]["address"] == "10.200.0.1/32"
    assert not applied.changed
    assert not (await make(made)).changed
    other = router()
    await apply(Wire(other).dial, config=None, user=evolve(user_of(other), address="10.200.0.1/32"), dry_run=False)
    assert other.rows(USERS)[-1]["address"] == "10.200.0.1/32"


async def test_a_group_of_that_name_that_may_more_is_in_the_way(autojump_clock: object) -> None:
    made = router()
    made.run(f"{GROUPS}/add", {"name": GROUP, "policy": "api,read,write,policy"})
    with pytest.raises(RowInTheWay):
        await make(made)


async def test_a_router_that_only_says_it_was_done_is_not_believed(autojump_clock: object) -> None:
    made = router()
    made.faults.decide = lambda request: Act.LIE if request.path == USERS else None
    with pytest.raises(NotHeld):
        await make(made)


async def test_the_tunnel_comes_first_and_a_conflict_of_either_stops_both(autojump_clock: object) -> None:
    made = router()
    made.run(f"{USERS}/add", {"name": NAME, "group": "full", "password": "theirs"})
    with pytest.raises(RowInTheWay):
        await apply(Wire(made).dial, config=tunnel_of(), user=user_of(made), dry_run=False)
    assert made.rows(ADDRESSES) == []
    made.run(f"{USERS}/remove", {"numbers": NAME})
    applied = await apply(Wire(made).dial, config=tunnel_of(), user=user_of(made), dry_run=False)
    assert [step.menu for step in applied.plan][-2:] == [GROUPS, USERS]


@pytest.mark.parametrize(("there", "is_right"), [("10.200.0.1", True), ("10.200.0.1/32", True), ("10.200.0.2", False)])
def test_where_it_may_log_in_from_is_compared_as_networks(there: str, *, is_right: bool) -> None:
    user = evolve(user_of(Router()), address="10.200.0.1/32")
    row = {".id": "*1", "name": user.name, "group": "opendesk", "address": there, "comment": "opendesk"}
    group = {".id": "*2", "name": "opendesk", "policy": "api,read,write", "comment": "opendesk"}
    assert (plan(user, [group], [row], logs_in=True) == ()) is is_right
