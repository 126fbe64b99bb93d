from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
import json
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.ops.redaction import DEPTH_MAX, ITEMS_MAX, MASK, TEXT_MAX_CHARS, is_secret, plain, redacted, scrub
from opendesk.settings import Secret


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "user_password",
        "apiPassword",
        "pass",
        "PASS",
        "passwd",
        "token",
        "relay_token",
        "accessToken",
        "Authorization",
        "X-Relay-Token",
        "set-cookie",
        "secret",
        "jwtSecret",
        "RELAY_API_SECRET",
        "api_key",
        "apiKey",
        "privateKey",
        "psk",
        "query",
        "query_string",
        "x-relay-signature",
        "x-relay-hmac",
        "idempotency_key",
        "credentials",
        "dsn",
    ],  # words read better than quotes
)
def test_a_key_that_looks_secret_is_masked(key: str) -> None:
    assert is_secret(key)
    assert redacted({key: "hunter2", "more": [{key: ["hunter2"]}]}) == {key: MASK, "more": [{key: MASK}]}


@pytest.mark.parametrize(
    "key", ["public_key", "publicKey", "passed", "monkey", "keyboard", "author", "compass", "path", "event"]
)
def test_a_key_that_only_contains_such_a_word_is_not_masked(key: str) -> None:
    assert redacted({key: "seen"}) == {key: "seen"}


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("GET /stream/relay?role=host&token=abc HTTP/1.1", "GET /stream/relay?… HTTP/1.1"),
        ('HTTP Request: GET https://h/e?key=abc "200 OK"', 'HTTP Request: GET https://h/e?… "200 OK"'),
        ("https://h?token=abc", "https://h?…"),
        ("see (/a?b) and '/c?d'", "see (/a?… and '/c?…'"),
        ("postgres://u:p@ss@h:5432/d?x=1", f"postgres://{MASK}@h:5432/d?…"),
        ("Authorization: Bearer abcdefgh.ijk", f"Authorization: Bearer {MASK}"),
        ("basic dXNlcjpwYXNz", f"basic {MASK}"),
        ("is it so? yes", "is it so? yes"),
        ("ana@example.com", "ana@example.com"),
        ("what?", "what?"),
    ],
)
def test_text_loses_queries_and_passwords(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


def test_values_become_plain() -> None:
    values = {
        "uuid": UUID(int=1),
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "rate": Decimal("0.1"),
        "path": PurePosixPath("/a"),
        "error": ValueError("no"),
        "raw": b"\x00",
        "hidden": Secret("hunter2"),
        "nothing": float("nan"),
        "huge": 10**5000,
        "many": set(range(1000)),
        "yes": True,
    }
    shown = redacted(values)
    assert shown["uuid"] == "00000000-0000-0000-0000-000000000001"
    assert shown["error"] == "ValueError('no')"
    assert (shown["rate"], shown["path"], shown["raw"]) == ("0.1", "/a", "b'\\x00'")
    assert (shown["hidden"], shown["nothing"], shown["yes"]) == (MASK, "nan", True)
    assert shown["huge"].startswith("0x")
    assert len(shown["many"]) == ITEMS_MAX


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("hunter2")


class BrokenMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


def test_an_object_that_can_not_be_shown_does_no_harm() -> None:
    assert redacted({"a": Broken(), "b": [Broken()], "c": BrokenMapping(), "d": {Broken(): 1}}) == {
        "a": "<Broken that can't be shown: RuntimeError>",
        "b": ["<Broken that can't be shown: RuntimeError>"],
        "c": "<BrokenMapping that can't be shown: RuntimeError>",
        "d": {"<Broken>": 1},
    }


def test_everything_has_a_limit() -> None:
    knot: list[object] = []
    knot.append(knot)
    shown: Any = plain(knot)
    for _ in range(DEPTH_MAX):
        (shown,) = shown
    assert shown == "<list of 1>"
    assert len(redacted({str(n): n for n in range(1000)})) == ITEMS_MAX
    long = redacted({"text": "a" * TEXT_MAX_CHARS + "b" * TEXT_MAX_CHARS})["text"]
    assert len(long) < TEXT_MAX_CHARS + 50
    assert long.startswith("aaa")
    assert long.endswith("bbb")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers()),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), anything))
def test_whatever_is_logged_json_can_hold_it(event: dict[str, Any]) -> None:
    json.dumps(redacted(event), allow_nan=False)
