"""Which failures are news."""

from opendesk.network.routeros.errors import TimedOut, Unreachable
from opendesk.network.routers.blame import Blame
from tests.network.routers.fake_routers import FakeApi, FakeRouter

SLOW, LOST = TimedOut("no answer"), Unreachable("gone")


def connection() -> FakeApi:
    return FakeApi(FakeRouter(), 5)


def test_time_outs_that_overlap_are_one_failure() -> None:
    blame, api = Blame(), connection()
    assert [blame.is_news(SLOW, api, began_s, began_s + 5) for began_s in (0, 1, 4.9, 5, 6, 10)] == [
        True, False, False, True, False, True,
    ]  # fmt: skip


def test_a_connection_is_lost_once() -> None:
    blame, one, other = Blame(), connection(), connection()
    assert [blame.is_news(LOST, api, 0, 1) for api in (one, one, other, other)] == [True, False, True, False]


def test_a_connection_is_old_when_a_newer_one_answered() -> None:
    blame, one, other = Blame(), connection(), connection()
    blame.answered(one)
    assert not blame.is_old(one)
    blame.answered(other)
    assert blame.is_old(one)
