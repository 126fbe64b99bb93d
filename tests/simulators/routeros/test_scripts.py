"""Console text: what the driver writes is read as it was meant, and what isn't known is an error."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.routeros.console import quoted
from opendesk.simulators.routeros import Answer, Refused, Request, Router
from opendesk.simulators.routeros.script import run


def requests(text: str, *refused: str) -> list[tuple[str, dict[str, str]]]:
    """What is run; the refused ones fail."""
    ran = []

    def execute(request: Request) -> Answer:
        ran.append((request.command, dict(request.attributes)))
        if request.command in refused:
            raise Refused(0, "no such item")
        return Answer()

    run(text, execute)
    return ran


@given(st.binary(max_size=60))
def test_a_quoted_text_is_that_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert requests(f"/system scheduler remove {quoted(text)}") == [("/system/scheduler/remove", {"numbers": text})]


@given(st.binary(max_size=60))
def test_a_quoted_text_ends_no_block(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    ran = requests(f":do {{/system scheduler remove {quoted(text)}}} on-error={{}}; /system identity set name=x")
    assert ran == [("/system/scheduler/remove", {"numbers": text}), ("/system/identity/set", {"name": "x"})]


REMOVE = ("/ip/hotspot/ip-binding/remove", {"numbers": "*1A"})
NAMED = ("/system/identity/set", {"name": "a b"})


@pytest.mark.parametrize(
    ("text", "ran"),
    [
        ("", []),
        (" ;\n; ", []),
        ("/ip hotspot ip-binding remove *1A", [REMOVE]),
        ("/ip/hotspot/ip-binding/remove *1A", [REMOVE]),
        ("/ip hotspot ip-binding remove numbers=*1A;", [REMOVE]),
        ('/system identity set name="a b"\n/ip hotspot ip-binding remove *1A', [NAMED, REMOVE]),
        (":do {/ip hotspot ip-binding remove *1A; } on-error={}", [REMOVE]),
        (":do {:do {/ip hotspot ip-binding remove *1A}}", [REMOVE]),
        ("/user remove ann bob", [("/user/remove", {"numbers": "ann,bob"})]),
    ],
)
def test_what_is_understood(text: str, ran: list[tuple[str, dict[str, str]]]) -> None:
    assert requests(text) == ran


def test_what_fails_within_a_do_is_answered_by_its_on_error() -> None:
    text = ":do {/ip hotspot ip-binding remove *1A; /user remove ann} on-error={/user remove bob}; /user remove eve"
    assert requests(text, REMOVE[0]) == [
        REMOVE,
        ("/user/remove", {"numbers": "bob"}),
        ("/user/remove", {"numbers": "eve"}),
    ]


@pytest.mark.parametrize("text", ["/user remove ann; /ip hotspot ip-binding remove *1A", ":do {/user remove ann}"])
def test_what_fails_elsewhere_stops_the_script(text: str) -> None:
    with pytest.raises(Refused, match="no such item"):
        requests(text, "/user/remove")


@pytest.mark.parametrize(
    "text",
    [
        ":foreach i in={1} do={}",
        "/user remove [find nobody=ann]",
        "/user remove [find name>ann]",
        "/user remove [print]x]",
        "/user remove [find name=ann",
        "find name=ann",
        ":put ann",
        ":put [find]",
        ":if (1 = 1) do={}",
        ":if ([:len [/user find]] < 1) do={}",
        ":if ([:len [/user find]] > many) do={}",
        ":if ([:len [/user find]] = 1)",
        ":if ([:len [/user find]] = 1) do={} on-error={}",
        "/user remove $name",
        '/user remove "$name"',
        '/user remove "a',
        '/user remove "\\q"',
        ":do {/user remove a",
        ":do /user",
        ":do {} on-error={} more",
        "/no such menu",
        "remove",
        "}",
        "(1)",
        ":do {" * 20 + "}" * 20,
    ],
)
def test_what_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(Refused):
        requests(text)


# Of pieces, so that something is put together of them now and then.
PIECES = (
    *'/:{}[]()"\\$=!;# \n', ":do", ":if", ":put", ":len", "do={", "else={", "/user", "remove", "find", "get", "*1A", "name=", "ann",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_is_run_or_refused(text: str) -> None:
    with suppress(Refused):
        requests(text)


def pasted(*lines: str) -> tuple[Router, list[str]]:
    router = Router("bus", users={"ann": ("a", "full"), "bob": ("b", "read"), "eve": ("e", "read")})
    return router, router.paste(lines)


def names(router: Router) -> list[str]:
    return [row["name"] for row in router.rows("/user")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('/user remove [find name="ann"]', ["bob", "eve"]),
        ("/user remove [/user find group=read]", ["ann"]),
        ("/user remove [find group=read name!=bob]", ["ann", "bob"]),
        ("/user remove [find name!=bob name!=eve]", ["bob", "eve"]),
        ("/user remove [find]", []),
        ("/user remove [find name=nobody]", ["ann", "bob", "eve"]),
        (":if ([:len [/user find group=read]] = 2) do={ /user remove ann }", ["bob", "eve"]),
        (":if ([:len [/user find group=read]] = 1) do={/user remove ann} else={/user remove bob}", ["ann", "eve"]),
        (":if ([:len [/user find group=read]] = 1) do={ /user remove ann }", ["ann", "bob", "eve"]),
        ('# /user remove ann; /user remove "bob"', ["ann", "bob", "eve"]),
        ("# nothing\n/user remove ann", ["bob", "eve"]),
    ],
)
def test_what_is_looked_for_is_what_is_changed(text: str, left: list[str]) -> None:
    router, _ = pasted(text)
    assert names(router) == left
    assert list(router.script_errors) == []


def test_what_is_put_is_shown() -> None:
    router, shown = pasted(
        ":put [/user get [find name=bob] group]", ":put [:len [/user find]]", ":put [/system identity get name]"
    )
    assert shown == ["read", "3", "bus"]
    assert list(router.script_errors) == []


def test_a_pasted_line_that_fails_keeps_none_of_the_others_back() -> None:
    router, _ = pasted("/user remove nobody", ":put [/user get [find name=nobody] group]", "/user remove ann")
    assert names(router) == ["bob", "eve"]
    assert len(router.script_errors) == 2
