import base64

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.wireguard.keys import ZERO, preshared_key, public_key

KEY = base64.b64encode(bytes(range(32))).decode()


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_32_bytes_in_base64_are_a_key(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert public_key(text) == preshared_key(text) == text


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()))
def test_a_text_that_is_taken_is_the_only_spelling_of_32_bytes(text: str) -> None:
    try:
        public_key(text)
    except ValueError:
        return
    data = base64.b64decode(text, validate=True)
    assert len(data) == 32
    assert base64.b64encode(data).decode() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY[:-1],
        f"{KEY[:-2]}9=",  # the same bytes, with bits after them
        f" {KEY}",
        f"{KEY}\n",
        KEY.replace("=", ""),
        f"-{KEY[1:]}",
        f"é{KEY[1:]}",
        f"{KEY}{KEY}",
        ZERO,
    ],
)
def test_another_spelling_and_the_zero_key_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is ") as caught:
        public_key(text)
    assert not text or text not in str(caught.value)
    with pytest.raises(ValueError, match=r"^is "):
        preshared_key(text)
