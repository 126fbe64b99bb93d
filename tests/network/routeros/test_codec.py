"""Words and sentences, wherever reads cut them, and whatever comes instead."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.routeros.codec import (
    MAX_EMPTY,
    MAX_SENTENCE_BYTES,
    MAX_SENTENCE_WORDS,
    MAX_WORD_BYTES,
    Decoder,
    ProtocolError,
    Sentence,
    encode,
    encode_length,
)
from tests.network.routeros.scripting import said, told

EDGES = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000, 0xFFFFFFF, 0x10000000, 0xFFFFFFFF]
WORDS = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5).map(tuple)


@pytest.mark.parametrize("size", EDGES)
def test_a_length_is_as_documented(size: int) -> None:
    assert encode_length(size) == told(size)


def test_the_documented_lengths_are_the_documentations() -> None:
    assert [told(size).hex() for size in EDGES] == [
        "00", "01", "7f", "8080", "bfff", "c04000", "dfffff", "e0200000", "efffffff", "f010000000", "f0ffffffff",
    ]  # fmt: skip


def test_a_word_of_four_gigabytes_cant_be_told() -> None:
    with pytest.raises(ValueError, match="4294967296 bytes"):
        encode_length(1 << 32)


def test_empty_sentences_without_end_are_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(bytes(MAX_EMPTY)) == []
    assert decoder.feed(said("!done")) == [(b"!done",)]
    assert decoder.feed(bytes(MAX_EMPTY)) == []
    with pytest.raises(ProtocolError, match="empty sentences"):
        decoder.feed(b"\0")


def test_an_empty_word_isnt_sent() -> None:
    with pytest.raises(ValueError, match="would end the sentence"):
        encode([b"/login", b""])


@given(st.lists(WORDS, max_size=5))
def test_what_is_encoded_is_decoded(sentences: list[tuple[bytes, ...]]) -> None:
    wire = b"".join(map(encode, sentences))
    assert wire == b"".join(said(*sentence) for sentence in sentences)
    assert Decoder().feed(wire) == sentences


@pytest.mark.parametrize("size", [1, 0x7F, 0x80, 0x3FFF, 0x4000, MAX_WORD_BYTES])
def test_words_of_all_forms_of_length_come_through(size: int) -> None:
    sentence = (b"!re", b"=" + b"x" * (size - 1), b".tag=1")
    decoder = Decoder()
    assert decoder.feed(encode(sentence)) == [sentence]
    assert not decoder.is_inside


def test_longer_forms_than_needed_are_read_too() -> None:
    for form in (b"\x80\x03", b"\xc0\x00\x03", b"\xe0\x00\x00\x03", b"\xf0\x00\x00\x00\x03"):
        assert Decoder().feed(form + b"!re\0") == [(b"!re",)]


def test_a_stream_may_be_cut_anywhere() -> None:
    sentences = [(b"!re", b"=comment=" + b"y" * 200, b".tag=1"), (b"!done",), (b"!trap", b"z" * 0x4001)]
    wire = b"\0" + said(*sentences[0]) + b"\0\0" + said(*sentences[1]) + said(*sentences[2])
    for at in range(len(wire) + 1):
        decoder = Decoder()
        assert decoder.feed(wire[:at]) + decoder.feed(wire[at:]) == sentences
        assert not decoder.is_inside
    decoder = Decoder()
    assert [sentence for at in range(len(wire)) for sentence in decoder.feed(wire[at : at + 1])] == sentences


@given(st.lists(WORDS, max_size=4), st.data())
def test_a_stream_may_be_cut_into_any_pieces(sentences: list[tuple[bytes, ...]], data: st.DataObject) -> None:
    wire = b"".join(map(encode, sentences))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)))))
    decoder = Decoder()
    pieces = [wire[start:end] for start, end in pairwise([0, *cuts, len(wire)])]
    assert [sentence for piece in pieces for sentence in decoder.feed(piece)] == sentences


@pytest.mark.parametrize("cut", range(1, 12))
def test_half_a_sentence_is_known_to_be_half(cut: int) -> None:
    wire = said("!re", ".tag=12")
    decoder = Decoder()
    assert decoder.feed(wire[:cut]) == []
    assert decoder.is_inside


@pytest.mark.parametrize("first", range(0xF8, 0x100))
def test_reserved_first_bytes_are_an_error(first: int) -> None:
    with pytest.raises(ProtocolError, match=f"0x{first:02X}"):
        Decoder().feed(bytes([first]))


def test_what_came_before_an_error_is_told_first_and_the_error_ever_after() -> None:
    decoder = Decoder()
    assert decoder.feed(said("!done") + b"\xff" + said("!done")) == [(b"!done",)]
    for data in (b"", said("!done")):
        with pytest.raises(ProtocolError, match="0xFF"):
            decoder.feed(data)


@pytest.mark.parametrize("size", [MAX_WORD_BYTES + 1, 0xFFFFFFF, 0xFFFFFFFF])
def test_a_word_too_long_is_refused_before_it_comes(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"{size} bytes"):
        Decoder().feed(told(size))


def test_a_sentence_has_an_end_in_words_and_in_bytes() -> None:
    decoder = Decoder()
    assert decoder.feed(said(*["x"] * MAX_SENTENCE_WORDS)) == [(b"x",) * MAX_SENTENCE_WORDS]
    with pytest.raises(ProtocolError, match=f"{MAX_SENTENCE_WORDS} words"):
        decoder.feed(said(*["x"] * (MAX_SENTENCE_WORDS + 1)))
    word, decoder = told(MAX_WORD_BYTES) + b"x" * MAX_WORD_BYTES, Decoder()
    assert len(decoder.feed(word * (MAX_SENTENCE_BYTES // MAX_WORD_BYTES) + b"\0" + word)) == 1
    with pytest.raises(ProtocolError, match=f"{MAX_SENTENCE_BYTES} bytes"):
        decoder.feed(word * (MAX_SENTENCE_BYTES // MAX_WORD_BYTES))


def told_of(pieces: list[bytes]) -> tuple[list[Sentence], str | None]:
    """All sentences, and the error at the end if there was one."""
    decoder = Decoder()
    sentences: list[Sentence] = []
    try:
        for piece in [*pieces, b""]:
            sentences += decoder.feed(piece)
    except ProtocolError as error:
        return sentences, str(error)
    return sentences, None


@given(st.lists(st.binary(max_size=50)))
def test_noise_is_the_same_sentences_and_the_same_error_however_it_is_cut(pieces: list[bytes]) -> None:
    assert told_of(pieces) == told_of([b"".join(pieces)])
