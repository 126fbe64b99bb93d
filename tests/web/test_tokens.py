"""Tokens that were found good are remembered: for as long as they are good, and so many."""

from datetime import timedelta
import time
from uuid import uuid4

import jwt
import pytest

from opendesk.errors import Unauthenticated
from opendesk.web import auth
from opendesk.web.auth import Tokens, utc_now

SECRET = b"a secret of thirty-two bytes, and more"
HOUR_S = 3600


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(SECRET, timedelta(seconds=HOUR_S), clock)


def test_a_remembered_token_says_the_same(tokens: Tokens) -> None:
    user = uuid4()
    token = tokens.issue(user, "HOST", 3, now=utc_now())
    assert tokens.verify(token) == tokens.verify(token)
    assert (tokens.verify(token).user_id, tokens.verify(token).version) == (user, 3)


def test_a_remembered_token_ends_when_it_expires(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(uuid4(), "HOST", 1, now=utc_now())
    clock.ahead_s = HOUR_S - 60
    tokens.verify(token)
    clock.ahead_s = HOUR_S + 60
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            tokens.verify(token)


def test_a_token_that_differs_in_one_character_is_not_the_remembered_one(tokens: Tokens) -> None:
    token = tokens.issue(uuid4(), "HOST", 1, now=utc_now())
    tokens.verify(token)
    head, payload, signature = token.split(".")
    forged = ".".join([head, payload, ("A" if signature[0] != "A" else "B") + signature[1:]])
    with pytest.raises(Unauthenticated):
        tokens.verify(forged)


def test_what_was_refused_is_not_remembered(tokens: Tokens) -> None:
    now = int(time.time())
    claims = {"sub": str(uuid4()), "iat": now, "exp": now + HOUR_S, "ver": "1"}
    for wrong in (claims, claims | {"ver": True}, claims | {"ver": 1, "sub": "nobody"}, {"sub": str(uuid4())}):
        token = jwt.encode(wrong, SECRET, algorithm="HS256")
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                tokens.verify(token)


def test_only_so_many_are_remembered(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED", 3)
    issued = [tokens.issue(uuid4(), "HOST", 1, now=utc_now()) for _ in range(10)]
    assert len({tokens.verify(token).user_id for token in issued * 2}) == len(issued)
    assert len(tokens._good) <= 3
