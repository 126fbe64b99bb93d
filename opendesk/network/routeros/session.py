"""The RouterOS API without its I/O: commands out, answers in, matched by tag."""

from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

from opendesk.network.routeros.codec import MAX_WORD_BYTES, Decoder, Sentence, encode
from opendesk.network.routeros.errors import Fatal, ProtocolError, RouterOsError, TooMuch, Trap
from opendesk.network.routeros.words import MASK, Words

# Of one answer. An address list of a busy router has some thousands; who wants more asks with a query or for fewer properties.
MAX_ROWS: Final = 100_000
MAX_ANSWER_BYTES: Final = 1 << 26
# In memory the shortest word takes about this much more: without it, 64 MiB of them would be gigabytes here.
WORD_COSTS_BYTES: Final = 128
# Of one command; whoever sends more is up to no good.
MAX_TRAPS: Final = 16
# What may come that nobody asked for, between two commands that finish: a router sends nothing of the kind, and one that does would keep
# us from all others. Counted as above.
MAX_UNASKED_BYTES: Final = 1 << 16

# What is never shown, wherever a command is.
_SECRETS: Final = frozenset({"password", "response", "private-key", "preshared-key", "secret", "passphrase"})

# Our tags are decimal numbers. One of more digits was never ours.
_MAX_TAG_DIGITS: Final = 18

Row = dict[str, str]


def _shown(attributes: Mapping[str, str]) -> str:
    return repr({name: MASK if name in _SECRETS else value for name, value in attributes.items()})


def _copied(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return dict(attributes)


@frozen
class Command:
    """One command in words, of which none is ever pasted into another.

    Text is UTF-8; bytes that aren't (comments of WinBox) are the surrogates that `surrogateescape` makes of them, both ways.
    """

    path: str
    attributes: Mapping[str, str] = field(factory=dict, converter=_copied, repr=_shown)
    queries: tuple[str, ...] = ()
    proplist: tuple[str, ...] = ()
    words: Sentence = field(init=False, repr=False, eq=False)

    @words.default
    def _words(self) -> Sentence:
        if not self.path.startswith("/"):
            raise ValueError("A path begins with a slash.")
        texts = [self.path]
        for name, value in self.attributes.items():
            if not name or "=" in name:
                raise ValueError("An attribute's name isn't empty and has no equals sign.")
            texts.append(f"={name}={value}")
        if self.proplist:
            properties = ",".join(self.proplist)
            if properties.count(",") >= len(self.proplist):
                raise ValueError("A property's name has no comma.")
            texts.append(f"=.proplist={properties}")
        for query in self.queries:
            if query[:1] != "?":
                raise ValueError("A query begins with a question mark.")
        words = tuple([text.encode("utf-8", "surrogateescape") for text in (*texts, *self.queries)])
        if len(max(words, key=len)) > MAX_WORD_BYTES:
            raise ValueError(f"A word is longer than {MAX_WORD_BYTES} bytes.")
        return words


@frozen
class Result:
    """The rows of an answer, and what `!done` returns: the id of a row that was added, or a count."""

    rows: tuple[Row, ...] = ()
    ret: str | None = None


@frozen
class Came:
    """A row of a command that listens."""

    tag: int
    row: Row


@frozen
class Finished:
    """The command is over, and so is its cancellation if there was one."""

    tag: int
    outcome: Result | Trap


@frozen
class Overflowed:
    """More came than is kept. What follows is thrown away: the command had better be cancelled."""

    tag: int
    error: TooMuch


@frozen
class Ended:
    """Nothing can be sent or received any more."""

    error: Fatal | ProtocolError


Event = Came | Finished | Overflowed | Ended


@define(eq=False)
class _Pending:
    """A command that hasn't finished. A cancellation is one with a `target`."""

    is_listening: bool = False
    target: int | None = None
    cancelled_by: int | None = None
    is_done: bool = False
    is_discarded: bool = False
    rows: list[Row] = field(factory=list)
    size: int = 0
    traps: list[Trap] = field(factory=list)
    ret: str | None = None

    def outcome(self) -> Result | Trap:
        if not self.traps:
            return Result(tuple(self.rows), self.ret)
        category = next((trap.category for trap in self.traps if trap.category is not None), None)
        return Trap(category, "; ".join(trap.message for trap in self.traps if trap.message))


class Session:
    """Feed it bytes; it never waits, and `receive` never raises: what ends the session is an event."""

    def __init__(
        self, words: Words | None = None, *, max_rows: int = MAX_ROWS, max_answer_bytes: int = MAX_ANSWER_BYTES
    ) -> None:
        self.words = words or Words()
        self._decoder = Decoder()
        self._unasked = 0
        self._max_rows = max_rows
        self._max_answer_bytes = max_answer_bytes
        self._pending: dict[int, _Pending] = {}
        self._last_tag = 0
        self._ended: RouterOsError | None = None

    @property
    def in_flight(self) -> int:
        """Commands and cancellations that the router hasn't finished."""
        return len(self._pending)

    @property
    def is_inside(self) -> bool:
        """Half a sentence has come."""
        return self._decoder.is_inside

    def send(self, command: Command, *, is_listening: bool = False) -> tuple[int, bytes]:
        """The command's tag, and the bytes for the router. Rows of one that listens come one by one."""
        return self._send(command.words, _Pending(is_listening))

    def cancel(self, tag: int) -> bytes:
        """The bytes that cancel a command; none if it has finished or is being cancelled."""
        pending = self._pending.get(tag)
        if pending is None or pending.target is not None or pending.cancelled_by is not None:
            return b""
        pending.is_discarded = True
        pending.cancelled_by, wire = self._send((b"/cancel", b"=tag=%d" % tag), _Pending(target=tag))
        return wire

    def receive(self, data: bytes | bytearray) -> list[Event]:
        """What the bytes tell, in the order in which it came. Nothing more comes after Ended."""
        events: list[Event] = []
        if self._ended is None:
            try:
                while sentences := self._decoder.feed(data):
                    data = b""
                    for sentence in sentences:
                        self._take(sentence, events)
            except (Fatal, ProtocolError) as error:
                self._ended = error
                self._pending.clear()
                events.append(Ended(error))
        return events

    def _send(self, words: Sentence, pending: _Pending) -> tuple[int, bytes]:
        tag = self._last_tag + 1
        wire = encode((*words, b".tag=%d" % tag))
        self._last_tag = tag
        self._pending[tag] = pending
        return tag, wire

    def _take(self, sentence: Sentence, events: list[Event]) -> None:
        kind, words = sentence[0], sentence[1:]
        if kind == b"!fatal":
            raise Fatal(self.words.shown(b" ".join(word for word in words if not word.startswith(b".tag="))))
        if not kind.startswith(b"!"):
            raise ProtocolError("An answer that doesn't begin with an exclamation mark.")
        tag = self._tag(words)
        pending = self._pending.get(tag)
        if pending is None or pending.is_done:
            self._ignore(words)  # of a command that is over
        elif kind == b"!re":
            self._take_row(tag, pending, words, events)
        elif kind == b"!trap" and len(pending.traps) < MAX_TRAPS:
            pending.traps.append(self._trap(words))
        elif kind == b"!done":
            pending.ret = _row(words).get("ret")
            self._finish(tag, pending, events)
        else:
            # Others tell nothing that is missed: `!empty` came with 7.18, and the next will come with another.
            self._ignore(words)

    def _ignore(self, words: Sentence) -> None:
        self._unasked += _cost(words)
        if self._unasked > MAX_UNASKED_BYTES:
            raise ProtocolError(f"More than {MAX_UNASKED_BYTES} bytes that nobody asked for.")

    def _trap(self, words: Sentence) -> Trap:
        category = _value(words, b"category")
        told = int(category) if category.isdigit() and len(category) == 1 else None
        return Trap(told, self.words.shown(_value(words, b"message")))

    def _tag(self, words: Sentence) -> int:
        for word in words:
            if word[:5] == b".tag=":
                text = word[5:]
                break
        else:
            raise ProtocolError("An answer without a tag, to nobody knows what.")
        if not text.isdigit() or len(text) > _MAX_TAG_DIGITS or not 0 < int(text) <= self._last_tag:
            raise ProtocolError("An answer with a tag that was never given.")
        return int(text)

    def _take_row(self, tag: int, pending: _Pending, words: Sentence, events: list[Event]) -> None:
        if pending.is_discarded or pending.target is not None:
            return
        if pending.is_listening:
            events.append(Came(tag, _row(words)))
            return
        pending.size += _cost(words)
        pending.rows.append(_row(words))
        if len(pending.rows) > self._max_rows or pending.size > self._max_answer_bytes:
            pending.is_discarded = True
            pending.rows.clear()
            limit = f"{self._max_rows} rows or {self._max_answer_bytes} bytes"
            events.append(Overflowed(tag, TooMuch(f"An answer of more than {limit}.")))

    def _finish(self, tag: int, pending: _Pending, events: list[Event]) -> None:
        """A cancelled command is over when its cancellation is as well: they come in either order."""
        pending.is_done = True
        self._unasked = 0
        target = tag if pending.target is None else pending.target
        command = self._pending[target]
        if command.cancelled_by is not None:
            if not (command.is_done and self._pending[command.cancelled_by].is_done):
                return
            del self._pending[command.cancelled_by]
        del self._pending[target]
        events.append(Finished(target, command.outcome()))


def _cost(words: Sentence) -> int:
    return sum(map(len, words)) + len(words) * WORD_COSTS_BYTES


def _value(words: Sentence, name: bytes) -> bytes:
    """Of the attribute, as it came; the last counts."""
    start = b"=%b=" % name
    return next((word[len(start) :] for word in reversed(words) if word.startswith(start)), b"")


def _row(words: Sentence) -> Row:
    """Of `=name=value`: a value may have equals signs of its own."""
    row: Row = {}
    for word in words:
        if word[:1] == b"=":
            name, _, value = word.decode("utf-8", "surrogateescape")[1:].partition("=")
            row[name] = value
    return row
