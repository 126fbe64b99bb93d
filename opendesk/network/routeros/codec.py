"""Words and sentences of the RouterOS API as bytes, and back."""

from collections.abc import Iterable
from typing import Final

from opendesk.network.routeros.errors import ProtocolError

__all__ = ("Decoder", "ProtocolError", "Sentence", "encode", "encode_length")

Sentence = tuple[bytes, ...]

# The largest values are scripts and files that are read (60 KiB). Some room, yet no peer can make us hold gigabytes by telling a length.
MAX_WORD_BYTES: Final = 1 << 18
# A row of a menu has some dozens of words. Bytes count as well, or that many of the longest would be 256 MiB.
MAX_SENTENCE_WORDS: Final = 1024
MAX_SENTENCE_BYTES: Final = 1 << 20
# Empty sentences in a row, which say nothing: a router sends none.
MAX_EMPTY: Final = 1024

# Of a length, by its number of bytes: what it can't exceed, and the bits that tell its first byte.
_FORMS: Final = ((1, 1 << 7, 0x00), (2, 1 << 14, 0x80), (3, 1 << 21, 0xC0), (4, 1 << 28, 0xE0), (5, 1 << 32, 0xF0))
# Most words are of these.
_SHORT: Final = tuple(bytes([size]) for size in range(_FORMS[0][1]))
_FOLLOWED_BY_LENGTH: Final = 0xF0
_RESERVED: Final = 0xF8


def encode(words: Iterable[bytes]) -> bytes:
    """One sentence, with the empty word that ends it."""
    parts = bytearray()
    for word in words:
        if not word:
            raise ValueError("An empty word would end the sentence.")
        size = len(word)
        parts += _SHORT[size] if size < _FORMS[0][1] else encode_length(size)
        parts += word
    parts.append(0)
    return bytes(parts)


def encode_length(size: int) -> bytes:
    for count, end, mark in _FORMS:
        if size < end:
            return (size | mark << 8 * (count - 1)).to_bytes(count, "big")
    raise ValueError(f"A word of {size} bytes can't be told.")


class Decoder:
    """Sentences of bytes that come in pieces of any size."""

    def __init__(
        self,
        max_word: int = MAX_WORD_BYTES,
        max_sentence: int = MAX_SENTENCE_BYTES,
        max_words: int = MAX_SENTENCE_WORDS,
    ) -> None:
        self._max_word = max_word
        self._max_sentence = max_sentence
        self._max_words = max_words
        self._buffer = bytearray()
        self._needed = 0  # bytes in it before there is anything to do
        self._words: list[bytes] = []
        self._room = max_sentence  # of the sentence that has begun
        self._empty = 0
        self._broken: ProtocolError | None = None

    @property
    def is_inside(self) -> bool:
        """A sentence has begun that hasn't ended."""
        return bool(self._buffer or self._words)

    def feed(self, data: bytes | bytearray) -> list[Sentence]:
        """The sentences that `data` ends, without empty ones. What came before an error is returned first: the next call raises it."""
        sentences: list[Sentence] = []
        if self._broken is None:
            self._buffer += data
            try:
                self._take(sentences)
            except ProtocolError as error:
                self._broken = error
                self._buffer.clear()
        if self._broken is not None and not sentences:
            raise self._broken
        return sentences

    def _take(self, sentences: list[Sentence]) -> None:
        """One loop for all words, without a call for each: this is most of what reading takes."""
        if len(self._buffer) < self._needed:
            return  # so that a long word isn't copied with each piece of it that comes
        data, at, self._needed = bytes(self._buffer), 0, 0
        long_from, here, words, room, longest = _FORMS[0][1], len(data), self._words, self._room, self._max_word
        while at < here:
            start, size = at + 1, data[at]
            if size >= long_from:
                start, size = _read_length(data, at)
                if start < 0:
                    break
            if size > room or size > longest or (size and len(words) >= self._max_words):
                raise self._excess(size, room)
            if (end := start + size) > here:
                self._needed = end - at
                break
            at = end
            if size:
                words.append(data[start:end])
                room -= size
            else:
                self._end_sentence(sentences)
                room = self._max_sentence
        self._room = room
        del self._buffer[:at]

    def _excess(self, size: int, room: int) -> ProtocolError:
        """Before the word is here: what is too long isn't waited for."""
        if size > self._max_word:
            return ProtocolError(f"A word of {size} bytes: more than {self._max_word}.")
        if size > room:
            return ProtocolError(f"A sentence of more than {self._max_sentence} bytes.")
        return ProtocolError(f"A sentence of more than {self._max_words} words.")

    def _end_sentence(self, sentences: list[Sentence]) -> None:
        if self._words:
            sentences.append(tuple(self._words))
            self._words.clear()
            self._empty = 0
            return
        self._empty += 1
        if self._empty > MAX_EMPTY:
            raise ProtocolError(f"More than {MAX_EMPTY} empty sentences.")


def _read_length(buffer: bytes, at: int) -> tuple[int, int]:
    """Where the word starts and its size; a negative start if the length isn't whole yet."""
    first = buffer[at]
    if first >= _RESERVED:
        raise ProtocolError(f"No word begins with the byte 0x{first:02X}.")
    count = next(count for count, _, mark in reversed(_FORMS) if first >= mark)
    start = at + count
    if start > len(buffer):
        return -1, 0
    told = int.from_bytes(buffer[at:start], "big")
    bits = 32 if first >= _FOLLOWED_BY_LENGTH else 7 * count
    return start, told & ((1 << bits) - 1)
