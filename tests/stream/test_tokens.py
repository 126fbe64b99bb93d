import base64
import hashlib
import hmac
import string
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.stream.tokens import Role, StreamToken, own_token, read_token, same_stream, shared_token, stream_id

KEY = bytes(range(32))
SESSION = UUID("7d4b5b5e-6b1c-4a53-9a35-0f2f0b1b7c11")
USER = UUID("c0ffee00-1234-4abc-8def-001122334455")
ALPHABET = string.ascii_letters + string.digits + "-_"
ALL = [shared_token(KEY, SESSION), own_token(KEY, SESSION, Role.HOST, USER), own_token(KEY, SESSION, Role.CLIENT, USER)]

keys = st.binary(min_size=32, max_size=32)


@given(keys, st.uuids())
def test_a_shared_token_says_its_session(key: bytes, session: UUID) -> None:
    assert read_token(key, shared_token(key, session)) == StreamToken(session, None, None)


@given(keys, st.uuids(), st.sampled_from(Role), st.uuids())
def test_an_own_token_says_session_role_and_user(key: bytes, session: UUID, role: Role, user: UUID) -> None:
    assert read_token(key, own_token(key, session, role, user)) == StreamToken(session, role, user)


def test_the_three_tokens_of_a_session_differ() -> None:
    assert len(set(ALL)) == 3


@pytest.mark.parametrize("token", ALL)
def test_a_token_is_url_safe_and_of_the_contracts_length(token: str) -> None:
    assert 16 <= len(token) <= 256
    assert set(token) <= set(ALPHABET)


@given(keys.filter(lambda key: key != KEY), st.sampled_from(ALL))
def test_another_key_takes_no_token(key: bytes, token: str) -> None:
    assert read_token(key, token) is None


@pytest.mark.parametrize("token", ALL)
def test_no_other_character_anywhere_makes_a_genuine_token(token: str) -> None:
    """The last one has unused bits: four characters of the alphabet stand for the same bytes."""
    for at, character in enumerate(token):
        for other in f"{ALPHABET}+/=. \0\né":
            if other != character:
                assert read_token(KEY, token[:at] + other + token[at + 1 :]) is None


@pytest.mark.parametrize("token", ALL)
def test_no_second_spelling_is_taken(token: str) -> None:
    spellings = [
        token + "=",
        token + "==",
        f" {token}",
        f"{token}\n",
        token + "\0",
        token.swapcase(),
        token[:-1],
        token + "A",
    ]
    standard = token.replace("-", "+").replace("_", "/")
    assert [s for s in [*spellings, standard] if s != token and read_token(KEY, s) is not None] == []


def test_base64_that_skips_characters_is_not_taken() -> None:
    """Python's decoder leaves out what is not of the alphabet: a shared token with 21 more characters has an own one's length."""
    shared = ALL[0]
    assert read_token(KEY, shared[:10] + "!" * (len(ALL[1]) - len(shared)) + shared[10:]) is None


@given(st.text() | st.text(min_size=66, max_size=66) | st.text(alphabet=ALPHABET + "=", min_size=87, max_size=87))
def test_any_text_has_an_answer(text: str) -> None:
    assert read_token(KEY, text) is None


@pytest.mark.parametrize("text", ["", "\0" * 66, "é" * 66, "\ud800" * 87, "=" * 66, "A" * 66, "A" * 87, "A" * 100_000])
def test_odd_texts_are_not_genuine(text: str) -> None:
    assert read_token(KEY, text) is None


def signed(claim: bytes, purpose: bytes = b"opendesk stream token 1\0") -> str:
    mac = hmac.digest(KEY, purpose + claim, "sha256")
    return base64.urlsafe_b64encode(claim + mac).rstrip(b"=").decode()


def test_a_genuine_signature_of_something_else_is_no_token() -> None:
    assert read_token(KEY, signed(b"s" + SESSION.bytes)) is not None
    for claim in [b"h" + SESSION.bytes, b"c" + SESSION.bytes, b"x" + SESSION.bytes, b"s" + SESSION.bytes + USER.bytes]:
        assert read_token(KEY, signed(claim)) is None
    assert read_token(KEY, signed(b"s" + SESSION.bytes, purpose=b"")) is None


def test_a_token_is_the_same_every_time_and_on_every_daemon() -> None:
    assert shared_token(KEY, SESSION) == signed(b"s" + SESSION.bytes)
    assert own_token(KEY, SESSION, Role.HOST, USER) == signed(b"h" + SESSION.bytes + USER.bytes)
    assert own_token(KEY, SESSION, Role.CLIENT, USER) == signed(b"c" + SESSION.bytes + USER.bytes)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_a_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        shared_token(bytes(length), SESSION)
    with pytest.raises(ValueError, match="32 bytes"):
        read_token(bytes(length), ALL[0])


# Stream ids


@given(st.text(alphabet=ALPHABET, min_size=16, max_size=256))
def test_a_stream_id_is_the_start_of_a_hash_with_dashes(token: str) -> None:
    digits = hashlib.sha256(b"stream:" + token.encode()).hexdigest()
    assert stream_id(token) == f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"


def test_a_stream_id_known_from_elsewhere() -> None:
    """`printf stream:0123456789abcdef | sha256sum`."""
    assert stream_id("0123456789abcdef") == "28385c18-24f5-e22e-6e4c-0dfb15c7f66d"


def test_stream_ids_are_compared_without_case_or_dashes() -> None:
    own = stream_id(ALL[0])
    for other in (own, own.upper(), own.replace("-", ""), own.replace("-", "").upper(), f"-{own}-"):
        assert same_stream(own, other)
        assert same_stream(other, own)
    for other in ("", "-", own[:-1], own + "0", stream_id(ALL[1]), f" {own}"):
        assert not same_stream(own, other)
