from datetime import UTC, datetime

from opendesk.ops.standing import Counted, ready, starting

URLS = ["http://127.0.0.1:3333"]
NOON = datetime(2030, 1, 1, 12, 3, 4, tzinfo=UTC)


def test_what_is_under_way_is_told_in_words() -> None:
    counted = Counted(rooms=2, routers=1000, reachable=998, sessions=3, jobs=4)
    assert (
        ready(URLS, counted, away_since=None, silent=[])
        == "ready at http://127.0.0.1:3333; 3 sessions live, 2 rooms, 998 of 1000 routers reachable, 4 jobs waiting"
    )


def test_one_is_told_as_one_and_what_there_is_none_of_is_left_out() -> None:
    counted = Counted(rooms=1, routers=0, reachable=0, sessions=1, jobs=0)
    assert ready(URLS, counted, away_since=None, silent=[]) == "ready at http://127.0.0.1:3333; 1 session live, 1 room"


def test_what_is_wrong_comes_first() -> None:
    told = ready(URLS, Counted(rooms=0, routers=0, reachable=0), away_since=NOON, silent=["tunnels (passing)"])
    assert told == (
        "hangs: tunnels (passing); the database is away since 12:03:04 UTC; ready at http://127.0.0.1:3333; 0 rooms"
    )


def test_a_start_tells_how_far_it_is() -> None:
    assert starting("migrating") == "starting: migrating"
