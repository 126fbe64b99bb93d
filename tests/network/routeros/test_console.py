"""Quoted text is the text again, and nothing of it acts."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from opendesk.network.routeros.console import identifier, quoted

# What MikroTik's documentation says of strings, the other way round.
ESCAPES = {'"': '"', "\\": "\\", "$": "$", "?": "?", "n": "\n", "r": "\r", "t": "\t", "_": " "}


def unquoted(literal: str) -> str:
    """What the console makes of a string literal; a ValueError where text would end it or act."""
    found, inside = bytearray(), literal[1:-1]
    if len(literal) < 2 or literal[0] + literal[-1] != '""':
        raise ValueError(literal)
    at = 0
    while at < len(inside):
        char = inside[at]
        if char in '"$?' or not " " <= char <= "~":
            raise ValueError(literal)
        if char != "\\":
            found += char.encode()
            at += 1
        elif re.fullmatch("[0-9A-F]{2}", inside[at + 1 : at + 3]):
            found.append(int(inside[at + 1 : at + 3], 16))
            at += 3
        else:
            found += ESCAPES[inside[at + 1]].encode()
            at += 2
    return found.decode("utf-8", "surrogateescape")


@given(st.text())
@example('"; /system reset-configuration; :put "')
@example("$[/system reboot]")
@example("\\")
@example("\\22")
@example("a\nb\r\t\0")
@example("João – ação")
def test_what_is_quoted_is_the_same_text(text: str) -> None:
    assert unquoted(quoted(text)) == text


@given(st.binary())
def test_bytes_that_are_no_text_go_through(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert unquoted(quoted(text)).encode("utf-8", "surrogateescape") == data


def test_plain_names_stay_readable() -> None:
    assert quoted("opendesk-1A-1790000000") == '"opendesk-1A-1790000000"'
    assert quoted('é"$?\\') == '"\\C3\\A9\\"\\$\\?\\\\"'


@pytest.mark.parametrize("row_id", ["*0", "*1A", "*FFFFFFFF"])
def test_an_id_is_what_it_was(row_id: str) -> None:
    assert identifier(row_id) == row_id


@pytest.mark.parametrize("row_id", ["", "*", "1A", "*1a", "*1A ", "*1A\n", "*1A;", "[find]", "*123456789", "*¼"])
def test_what_is_no_id_is_refused(row_id: str) -> None:
    with pytest.raises(ValueError, match="isn't the id"):
        identifier(row_id)
