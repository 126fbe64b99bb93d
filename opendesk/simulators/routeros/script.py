"""As much of the router's console language as scheduler entries and scripts to paste are written in here.

Statements after one another; `:do {…} on-error={…}`, `:if ([…] = …) do={…} else={…}` (or `>`), `:put […]` or of a text, comments; a menu's command with ids, names or
`argument=value`, quoted or not, where `[find argument=value argument!=value …]`, `[:len […]]` and `[:pick […] number]` may stand for what they give, also after `argument=`. Whatever else
stands there is an error, also where a real console would know what to do with it.
"""

from collections.abc import Callable
import re
from typing import Final

from attrs import define, frozen

from opendesk.simulators.routeros.commands import Answer, Request
from opendesk.simulators.routeros.menus import MENUS
from opendesk.simulators.routeros.refusals import MISSING, SCRIPT, Refused, no_such_command
from opendesk.simulators.routeros.values import boolean

Execute = Callable[[Request], Answer]
Say = Callable[[str], None]

_BARE: Final = re.compile(r"[A-Za-z0-9_*/.:,@!+-]+")
_ENDS: Final = ";\n"
_ESCAPES: Final = {"n": b"\n", "r": b"\r", "t": b"\t", "_": b" ", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v"}
_PLAIN: Final = '"\\$?'
_HEX: Final = re.compile(r"[0-9A-F]{2}")
# Blocks within blocks.
_DEEPEST: Final = 8
_FIND: Final = "find"


def run(text: str, execute: Execute, depth: int = 0, say: Say = lambda _text: None) -> None:
    """Stops at the first statement that fails, unless it is within a `:do` that says what to do then. `say` is told what is put."""
    _Console(execute, say, depth).run(text)


@frozen
class _Console:
    execute: Execute
    say: Say
    depth: int = 0

    def run(self, text: str) -> None:
        if self.depth > _DEEPEST:
            raise _wrong("nested too deeply")
        reader = _Reader(text)
        while reader.skip(" \t\r" + _ENDS):
            if reader.take("#"):
                reader.skip_line()
            elif reader.take(":do"):
                self._do(reader)
            elif reader.take(":if"):
                self._if(reader)
            elif reader.take(":put"):
                self._put(reader)
            elif (request := self._command(reader)) is not None:
                self.execute(request)

    def _within(self, text: str) -> None:
        _Console(self.execute, self.say, self.depth + 1).run(text)

    def _do(self, reader: "_Reader") -> None:
        body = reader.block()
        otherwise = reader.block() if reader.take_after_blanks("on-error=") else None
        reader.end()
        try:
            self._within(body)
        except Refused:
            if otherwise is None:
                raise
            self._within(otherwise)

    def _if(self, reader: "_Reader") -> None:
        condition = reader.block("(", ")")
        if not reader.take_after_blanks("do="):
            raise _wrong("if without do")
        then = reader.block()
        otherwise = reader.block() if reader.take_after_blanks("else=") else ""
        reader.end()
        self._within(then if self._holds(condition) else otherwise)

    def _holds(self, condition: str) -> bool:
        reader = _Reader(condition)
        values = self._values(reader.block("[", "]"))
        is_more = reader.take_after_blanks(">")
        if not (is_more or reader.take_after_blanks("=")):
            raise _wrong(condition)
        reader.skip(" ")
        other, _ = reader.word()
        reader.end()
        return _number(*values) > _number(other) if is_more else values == [other]

    def _put(self, reader: "_Reader") -> None:
        reader.skip(" ")
        values = [reader.word()[0]] if reader.is_at('"') else self._values(reader.block("[", "]"))
        reader.end()
        self.say(";".join(values))

    def _values(self, text: str, menu: str | None = None) -> list[str]:
        """What a command in brackets gives: ids, or one text."""
        reader = _Reader(text)
        if reader.take_after_blanks(":len"):
            inner = reader.block("[", "]")
            reader.end()
            return [str(len(self._values(inner, menu)))]
        if reader.take_after_blanks(":pick"):
            return self._picked(reader, menu)
        request = self._command(reader, menu, is_inside=True)
        if request is None:
            raise Refused(MISSING, "no such item")
        answer = self.execute(request)
        return [row[".id"] for row in answer.rows] if answer.is_print else [answer.ret or ""]

    def _picked(self, reader: "_Reader", menu: str | None) -> list[str]:
        found = self._values(reader.block("[", "]"), menu)
        reader.skip(" ")
        at = _number(reader.word()[0])
        reader.end()
        return found[at : at + 1]

    def _value(self, reader: "_Reader", menu: str) -> str:
        if reader.is_at("["):
            return ",".join(self._values(reader.block("[", "]"), menu))
        return "" if reader.is_at_end() else reader.word()[0]

    def _command(self, reader: "_Reader", menu: str | None = None, *, is_inside: bool = False) -> Request | None:
        """None if what it should be done to was looked for and isn't there."""
        parts: list[str] = []
        while not reader.is_at_end():
            parts += reader.word()[0].strip("/").split("/")
            path, verb = "/" + "/".join(parts[:-1]), parts[-1]
            if verb == _FIND and is_inside and (path in MENUS or (menu is not None and parts == [_FIND])):
                return _search(reader, path if path in MENUS else menu or path)
            if path in MENUS and verb in MENUS[path].verbs:
                return self._with_arguments(reader, path, verb)
        raise no_such_command()

    def _with_arguments(self, reader: "_Reader", path: str, verb: str) -> Request | None:
        given: dict[str, str] = {}
        bare: list[str] = []
        is_about_none = False
        while not reader.is_at_end():
            if reader.is_at("["):
                found = self._values(reader.block("[", "]"), path)
                is_about_none = is_about_none or not found
                bare.append(",".join(found))
                continue
            text, is_quoted = reader.word()
            if not is_quoted and reader.take("="):
                given[text] = self._value(reader, path)
            else:
                bare.append(text)
        return None if is_about_none else Request(path, verb, {**given, **_numbers(verb, bare)})


def _numbers(verb: str, bare: list[str]) -> dict[str, str]:
    """What stands without a name is which rows; of `get` also which value."""
    if verb == "get":
        return dict(zip(("number", "value-name")[-len(bare) :], bare, strict=False)) if bare else {}
    return {"numbers": ",".join(bare)} if bare else {}


def _search(reader: "_Reader", path: str) -> Request:
    """As a print: an argument is as it should be, or (`!=`) isn't."""
    queries: list[str] = []
    while not reader.is_at_end():
        name, is_quoted = reader.word()
        if is_quoted or name.removesuffix("!") not in MENUS[path].arguments or not reader.take("="):
            raise _wrong(name)
        text, kind = reader.word()[0], MENUS[path].arguments[name.removesuffix("!")].kind
        queries.append(f"?{name.removesuffix('!')}={boolean(name, text) if kind is boolean else text}")
        queries += ["?#!"] if name.endswith("!") else []
    return Request(path, "print", {}, tuple(queries))


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

    def take_after_blanks(self, word: str) -> bool:
        self.skip(" ")
        return self.take(word)

    def skip_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def is_at(self, sign: str) -> bool:
        return self.text.startswith(sign, self.at)

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

    def block(self, opening: str = "{", closing: str = "}") -> str:
        """What is between braces, perhaps after blanks. Those within quotes don't count."""
        if not self.take_after_blanks(opening):
            raise _wrong(self.text[self.at : self.at + 1])
        start, open_ = self.at, 1
        while open_:
            sign = self._next()
            if sign == '"':
                self._quoted()
            open_ += {opening: 1, closing: -1}.get(sign, 0)
        return self.text[start : self.at - 1]

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise _wrong("end of script")
        self.at += 1
        return self.text[self.at - 1]


def _number(*texts: str) -> int:
    if len(texts) != 1 or not texts[0].isdecimal():
        raise _wrong(";".join(texts))
    return int(texts[0])


def _wrong(what: str) -> Refused:
    return Refused(SCRIPT, f"syntax error ({what!a})")
