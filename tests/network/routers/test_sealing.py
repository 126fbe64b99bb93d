"""Passwords at rest: sealed, told by no repr, opened by the right key in the right place only."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.routers.errors import CannotOpen, SealingUnavailable
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.settings.secret import Secret

OLD, NEW = Secret(bytes(range(32))), Secret(bytes(range(32, 64)))
ABOUT = password_of("r1")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens(text: str, about: str) -> None:
    sealer = Sealer((NEW,))
    assert sealer.open(sealer.seal(Secret(text), about=about), about=about) == Secret(text)


def test_it_holds_nothing_of_the_text() -> None:
    sealed = Sealer((NEW,)).seal(Secret("correct horse"), about=ABOUT)
    assert b"correct" not in sealed
    assert b"r1" not in sealed


def test_no_two_are_alike() -> None:
    sealer = Sealer((NEW,))
    assert len({sealer.seal(Secret("same"), about=ABOUT) for _ in range(100)}) == 100


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CannotOpen, match="not in RELAY_MASTER_KEY"):
        Sealer((NEW,)).open(Sealer((OLD,)).seal(Secret("x"), about=ABOUT), about=ABOUT)


def test_it_does_not_open_as_somebody_elses() -> None:
    sealer = Sealer((NEW,))
    with pytest.raises(CannotOpen):
        sealer.open(sealer.seal(Secret("x"), about=ABOUT), about=password_of("r2"))


@given(st.data())
def test_nothing_that_was_changed_opens(data: st.DataObject) -> None:
    sealer = Sealer((OLD, NEW))
    sealed = bytearray(sealer.seal(Secret("password"), about=ABOUT))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CannotOpen):
        sealer.open(bytes(sealed), about=ABOUT)


@given(st.binary(max_size=60), st.booleans())
def test_rubbish_is_refused(rubbish: bytes, is_like: bool) -> None:  # noqa: FBT001  # Hypothesis'
    sealer = Sealer((NEW,))
    with pytest.raises(CannotOpen):
        sealer.open(sealer.current_head + rubbish if is_like else rubbish, about=ABOUT)


def test_a_rotated_key_opens_and_the_first_seals() -> None:
    before, after = Sealer((OLD,)), Sealer((NEW, OLD))
    sealed = before.seal(Secret("x"), about=ABOUT)
    assert after.open(sealed, about=ABOUT) == Secret("x")
    assert after.needs_rekey(sealed)
    anew = after.seal(Secret("x"), about=ABOUT)
    assert not after.needs_rekey(anew)
    assert Sealer((NEW,)).open(anew, about=ABOUT) == Secret("x")


def test_without_a_key_it_says_which_setting_is_missing() -> None:
    sealed = Sealer((NEW,)).seal(Secret("x"), about=ABOUT)
    none = Sealer(())
    assert not none.available
    for attempt in (lambda: none.seal(Secret("x"), about=ABOUT), lambda: none.open(sealed, about=ABOUT)):
        with pytest.raises(SealingUnavailable, match="RELAY_MASTER_KEY"):
            attempt()


def test_neither_key_nor_text_is_in_a_repr() -> None:
    sealer = Sealer((NEW,))
    assert repr(sealer) == "Sealer()"
    assert "hunter2" not in repr(sealer.open(sealer.seal(Secret("hunter2"), about=ABOUT), about=ABOUT))
