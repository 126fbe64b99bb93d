"""A connection: log-ins, tags, what runs until it is cancelled."""

from hashlib import md5

import pytest

from opendesk.simulators.routeros import Act, Router, Session
from opendesk.simulators.routeros.session import MOST_NEWS, MOST_RUNNING
from tests.simulators.routeros.talking import Line, logged_in, trapped

REFUSED = trapped("invalid user name or password (6)")
LISTS = "/ip/firewall/address-list"


@pytest.mark.parametrize(("user", "password"), [("admin", "wrong"), ("nobody", ""), ("", ""), ("admin", "")])
def test_a_wrong_password_is_refused_and_may_be_tried_again(user: str, password: str) -> None:
    line = Line(Router(users={"admin": ("right", "full")}))
    assert line.say("/login", f"=name={user}", f"=password={password}") == REFUSED
    assert line.say("/login", "=name=admin", "=password=right") == [("!done",)]
    assert (line.router.counts.logins, line.router.counts.refused_logins) == (1, 1)


@pytest.mark.parametrize("change", [{"disabled": "yes"}, {"group": "few"}])
def test_who_is_switched_off_or_has_no_api_policy_cannot_log_in(change: dict[str, str]) -> None:
    router = Router(users={"admin": ("right", "full")})
    router.run("/user/group/add", {"name": "few", "policy": "read,write"})
    router.run("/user/set", {".id": "admin", **change})
    assert Line(router).say("/login", "=name=admin", "=password=right") == REFUSED


def test_an_old_router_asks_a_challenge_whatever_password_came_with_the_first_word() -> None:
    line = Line(Router(users={"admin": ("right", "full")}, asks_challenge=True))
    ((done, ret),) = line.say("/login", "=name=admin", "=password=right")
    assert done == "!done"
    challenge = bytes.fromhex(ret.removeprefix("=ret="))
    for password, answer in ((b"wrong", REFUSED), (b"right", [("!done",)])):
        response = "00" + md5(b"\0" + password + challenge, usedforsecurity=False).hexdigest()
        assert line.say("/login", "=name=admin", f"=response={response}") == answer


def test_nothing_is_done_before_the_login() -> None:
    line = Line(Router())
    assert line.say("/system/reboot", ".tag=1") == [("!fatal", "not logged in")]
    assert line.session.is_over
    assert line.router.boots == 1
    assert line.say("/login") == []


def test_quit_ends_the_connection() -> None:
    line = logged_in(Router())
    assert line.say("/quit") == [("!fatal", "session terminated on request")]
    assert line.session.is_over


def test_every_sentence_of_an_answer_bears_its_tag() -> None:
    line = logged_in(Router())
    assert [words[-1] for words in line.say("/user/group/print", ".tag=a.1")] == [".tag=a.1"] * 4
    assert line.say(f"{LISTS}/remove", ".tag=7", "=.id=*9")[0] == (
        "!trap",
        "=category=0",
        "=message=no such item",
        ".tag=7",
    )
    assert line.say(f"{LISTS}/print", ".tag=8") == [("!empty", ".tag=8"), ("!done", ".tag=8")]


def test_who_listens_is_told_of_changes_by_others_until_it_is_cancelled() -> None:
    router = Router()
    line, other = logged_in(router), logged_in(router)
    assert line.say(f"{LISTS}/listen", "?list=a", "=.proplist=.id,list", ".tag=5") == []
    for name in ("a", "b"):
        other.say(f"{LISTS}/add", "=address=10.0.0.1", f"=list={name}")
    other.say(f"{LISTS}/remove", "=.id=*1")
    assert line.heard() == [
        ("!re", "=.id=*1", "=list=a", ".tag=5"),
        ("!re", "=.id=*1", "=.dead=yes", ".tag=5"),
    ]
    assert line.say("/cancel", "=tag=5", ".tag=6") == [
        ("!trap", "=category=2", "=message=interrupted", ".tag=5"),
        ("!done", ".tag=5"),
        ("!done", ".tag=6"),
    ]
    other.say(f"{LISTS}/add", "=address=10.0.0.1", "=list=a")
    assert line.heard() == []


def test_a_cancel_may_be_done_before_what_it_ends() -> None:
    line = logged_in(Router(cancel_first=True))
    line.say(f"{LISTS}/listen", ".tag=5")
    assert [(words[0], words[-1]) for words in line.say("/cancel", ".tag=6")] == [
        ("!done", ".tag=6"),
        ("!trap", ".tag=5"),
        ("!done", ".tag=5"),
    ]


def test_a_cancel_of_what_has_ended_is_done() -> None:
    assert logged_in(Router()).say("/cancel", "=tag=77", ".tag=1") == [("!done", ".tag=1")]


def test_a_print_that_follows_gives_the_rows_and_then_the_changes() -> None:
    router = Router()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a"})
    line = logged_in(router)
    assert [words[0] for words in line.say(f"{LISTS}/print", "=follow=", "=.proplist=.id")] == ["!re"]
    router.run(f"{LISTS}/add", {"address": "10.0.0.2", "list": "a"})
    assert line.heard() == [("!re", "=.id=*2")]


def test_one_that_is_never_answered_can_be_cancelled() -> None:
    router = Router()
    line = logged_in(router)
    router.faults.plan(Act.SILENT, "*/add")
    router.faults.plan(Act.IGNORED, "*/add")
    for address in ("10.0.0.1", "10.0.0.2"):
        assert line.say(f"{LISTS}/add", f"=address={address}", "=list=a", f".tag={address}") == []
    assert [row["address"] for row in router.rows(LISTS)] == ["10.0.0.1"]
    assert len(line.say("/cancel", ".tag=9")) == 5


def test_what_runs_and_what_waits_to_be_told_is_bounded() -> None:
    router = Router()
    line = logged_in(router)
    for tag in range(MOST_RUNNING):
        assert line.say(f"{LISTS}/listen", f".tag={tag}") == []
    assert line.say(f"{LISTS}/listen", ".tag=more")[0][:2] == ("!trap", "=message=failure: too many commands")
    for number in range(MOST_NEWS // MOST_RUNNING + 1):
        router.run(f"{LISTS}/add", {"address": f"10.0.0.{number}", "list": "a"})
    assert line.session.is_over


def test_a_closed_connection_hears_nothing() -> None:
    router = Router()
    line = logged_in(router)
    line.say(f"{LISTS}/listen")
    line.session.close()
    router.run(f"{LISTS}/add", {"address": "10.0.0.1", "list": "a"})
    assert line.heard() == []


def test_a_black_hole_answers_nothing() -> None:
    router = Router()
    router.faults.black_hole = True
    assert Session(router).answer((b"/login",)) == []
