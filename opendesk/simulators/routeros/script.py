"""As much of the router's console language as scheduler entries here are written in.

Statements after one another; `:do {…} on-error={…}`; a menu's command with ids, names or `argument=value`, quoted or not. Whatever else stands
there is an error, also where a real console would know what to do with it.
"""

from collections.abc import Callable
import re
from typing import Final

from attrs import define

from opendesk.simulators.routeros.commands import Answer, Request
from opendesk.simulators.routeros.menus import MENUS
from opendesk.simulators.routeros.refusals import SCRIPT, Refused, no_such_command

Execute = Callable[[Request], Answer]

_BARE: Final = re.compile(r"[A-Za-z0-9_*/.:,@!+-]+")
_ENDS: Final = ";\n"
_ESCAPES: Final = {"n": b"\n", "r": b"\r", "t": b"\t", "_": b" ", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v"}
_PLAIN: Final = '"\\$?'
_HEX: Final = re.compile(r"[0-9A-F]{2}")
# Blocks within blocks.
_DEEPEST: Final = 8


def run(text: str, execute: Execute, depth: int = 0) -> None:
    """Stops at the first statement that fails, unless it is within a `:do` that says what to do then."""
    if depth > _DEEPEST:
        raise _wrong("nested too deeply")
    reader = _Reader(text)
    while reader.skip(" \t\r" + _ENDS):
        if reader.take(":do"):
            _do(reader, execute, depth)
        else:
            execute(_command(reader))


def _do(reader: "_Reader", execute: Execute, depth: int) -> None:
    reader.skip(" ")
    body = reader.block()
    reader.skip(" ")
    otherwise = reader.block() if reader.take("on-error=") else None
    reader.end()
    try:
        run(body, execute, depth + 1)
    except Refused:
        if otherwise is None:
            raise
        run(otherwise, execute, depth + 1)


def _command(reader: "_Reader") -> Request:
    parts: list[str] = []
    while not reader.is_at_end():
        parts += reader.word()[0].strip("/").split("/")
        path, verb = "/" + "/".join(parts[:-1]), parts[-1]
        if path in MENUS and verb in MENUS[path].verbs:
            return Request(path, verb, _arguments(reader))
    raise no_such_command()


def _arguments(reader: "_Reader") -> dict[str, str]:
    given: dict[str, str] = {}
    while not reader.is_at_end():
        text, is_quoted = reader.word()
        if not is_quoted and reader.take("="):
            given[text] = "" if reader.is_at_end() else reader.word()[0]
        else:
            given["numbers"] = f"{given['numbers']},{text}" if "numbers" in given else text
    return given


@define
class _Reader:
    text: str
    at: int = 0

    def skip(self, signs: str) -> bool:
        """Whether there is more."""
        while self.at < len(self.text) and self.text[self.at] in signs:
            self.at += 1
        return self.at < len(self.text)

    def take(self, word: str) -> bool:
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def is_at_end(self) -> bool:
        return not self.skip(" \t\r") or self.text[self.at] in _ENDS

    def end(self) -> None:
        if not self.is_at_end():
            raise _wrong(self.text[self.at])

    def word(self) -> tuple[str, bool]:
        """And whether it is quoted."""
        if self.take('"'):
            return self._quoted(), True
        bare = _BARE.match(self.text, self.at)
        if bare is None:
            raise _wrong(self.text[self.at])
        self.at = bare.end()
        return bare[0], False

    def _quoted(self) -> str:
        said = bytearray()
        while not self.take('"'):
            sign = self._next()
            if sign == "$":  # a variable's value would stand here
                raise _wrong(sign)
            said += self._escaped() if sign == "\\" else sign.encode("utf-8", "surrogateescape")
        return said.decode("utf-8", "surrogateescape")

    def _escaped(self) -> bytes:
        if code := _HEX.match(self.text, self.at):
            self.at = code.end()
            return bytes.fromhex(code[0])
        sign = self._next()
        if sign in _PLAIN:
            return sign.encode()
        if sign not in _ESCAPES:
            raise _wrong(sign)
        return _ESCAPES[sign]

    def block(self) -> str:
        """What is between braces. Those within quotes don't count."""
        if not self.take("{"):
            raise _wrong(self.text[self.at : self.at + 1])
        start, open_ = self.at, 1
        while open_:
            sign = self._next()
            if sign == '"':
                self._quoted()
            open_ += {"{": 1, "}": -1}.get(sign, 0)
        return self.text[start : self.at - 1]

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise _wrong("end of script")
        self.at += 1
        return self.text[self.at - 1]


def _wrong(what: str) -> Refused:
    return Refused(SCRIPT, f"syntax error ({what!a})")
