"""One connection to a router: log-in, tags, what is still running. Sentences in, sentences out."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5
import hmac
import secrets
from typing import Final

from attrs import define, field, frozen

from opendesk.simulators.routeros import refusals
from opendesk.simulators.routeros.commands import Answer, Request, check_print, execute, permit, picked
from opendesk.simulators.routeros.faults import Act, Slow, Trapped
from opendesk.simulators.routeros.menus import GROUP, MENUS, USER
from opendesk.simulators.routeros.query import matching
from opendesk.simulators.routeros.refusals import INTERRUPTED, Refused
from opendesk.simulators.routeros.router import Router
from opendesk.simulators.routeros.shows import shown
from opendesk.simulators.routeros.tables import Row

Sentence = tuple[bytes, ...]

# What a connection that nobody reads from may be told of changes before it is cut.
MOST_NEWS: Final = 10_000
# Commands that run on, of one connection.
MOST_RUNNING: Final = 1_000

_LOGIN: Final = "/login"
_CHALLENGE_BYTES: Final = 16


@frozen
class _Running:
    """A command that ends only when it is cancelled. Without a path it is one that will never answer."""

    path: str | None = None
    queries: tuple[str, ...] = ()
    attributes: Mapping[str, str] = {}


@define(eq=False)
class Session:
    router: Router
    on_news: Callable[[], None] = lambda: None
    is_over: bool = False  # the connection is closed once what was answered is sent
    is_cut: bool = False  # … or in the midst of it
    pause_s: float = 0.0  # before what was answered last
    _user: str | None = None
    _policies: frozenset[str] = frozenset()
    _challenge: bytes = b""
    _running: dict[bytes | None, _Running] = field(factory=dict)
    _news: deque[Sentence] = field(factory=deque)

    def close(self) -> None:
        self._running.clear()
        if self._noted in self.router.state.watchers:
            self.router.state.watchers.remove(self._noted)

    def answer(self, sentence: Sentence) -> list[Sentence]:
        """In the order of the sentences. Empty if nothing is to be said, now or ever."""
        tag = next((word for word in sentence if word.startswith(b".tag=")), None)
        if self.is_over or self.router.faults.black_hole or self.router.is_cut_off():
            return []
        self.router.settle()
        try:
            command, attributes, queries = _read(sentence)
            replies = self._dispatch(command, attributes, queries, tag)
        except Refused as exc:
            replies = _tagged(_trap(exc), tag)
        return [] if self.router.is_cut_off() else [*replies, *self.news()]

    def news(self) -> list[Sentence]:
        """What those are told who listen."""
        told = list(self._news)
        self._news.clear()
        return told

    def _dispatch(
        self, command: str, attributes: dict[str, str], queries: tuple[str, ...], tag: bytes | None
    ) -> list[Sentence]:
        if command == _LOGIN:
            return _tagged(self._login(attributes), tag)
        if self._user is None:
            self.is_over = True
            return [(b"!fatal", b"not logged in")]
        path, _, verb = command.rpartition("/")
        request = Request(path, verb, attributes, queries, self._policies)
        self.router.counts.commands += 1
        self.router.log.append(request)
        if command == "/cancel":
            return self._cancel(attributes, tag)
        if command == "/quit":
            self.is_over = True
            return [(b"!fatal", b"session terminated on request")]
        return _tagged(self._with_fault(request, tag), tag)

    def _with_fault(self, request: Request, tag: bytes | None) -> list[Sentence]:
        fault = self.router.faults.of(request)
        if isinstance(fault, Trapped):
            raise Refused(fault.category, fault.message)
        if isinstance(fault, Slow):
            self.pause_s += fault.seconds
        if fault is Act.LIE:
            return _done(self.router.pretend(request), says_empty=self.router.state.version.says_empty)
        if fault is Act.DROP_BEFORE:
            self.is_over = self.is_cut = True
            return []
        if fault is Act.IGNORED:
            return self._run_on(tag, _Running())
        replies = self._perform(request, tag)
        if fault is Act.SILENT:
            return self._run_on(tag, _Running())
        if fault in {Act.DROP_AFTER, Act.DROP_MIDWAY}:
            self.is_over = self.is_cut = True
        return [] if fault is Act.DROP_AFTER else replies

    def _perform(self, request: Request, tag: bytes | None) -> list[Sentence]:
        if request.command == "/system/reboot":
            if "reboot" not in self._policies:
                raise refusals.not_permitted()
            self.is_over = True
            self.router.reboot()
            return [(b"!done",)]
        if request.verb == "listen" and request.path in MENUS:
            permit(MENUS[request.path], request)
            check_print(self.router.state, request.attributes)
            return self._run_on(tag, _Running(request.path, request.queries, request.attributes))
        answer = execute(self.router.state, request)
        if answer.is_print and {"follow", "follow-only", "interval"} & request.attributes.keys():
            rows = () if "follow-only" in request.attributes else answer.rows
            return [*_rows(rows), *self._run_on(tag, _Running(request.path, request.queries, request.attributes))]
        return _done(answer, says_empty=self.router.state.version.says_empty)

    def _run_on(self, tag: bytes | None, running: _Running) -> list[Sentence]:
        if len(self._running) >= MOST_RUNNING:
            raise refusals.failure("too many commands")
        if running.path is not None:
            matching(running.queries)  # refused now if it is none
        self._running[tag] = running
        if self._noted not in self.router.state.watchers:
            self.router.state.watchers.append(self._noted)
        return []

    def _cancel(self, attributes: Mapping[str, str], tag: bytes | None) -> list[Sentence]:
        """Ends one, or all. One that has ended by itself is no error."""
        name = attributes.get("tag")
        asked = list(self._running) if name is None else [b".tag=" + name.encode("utf-8", "surrogateescape")]
        ended: list[Sentence] = []
        for other in asked:
            if self._running.pop(other, None) is not None:
                ended += _tagged(_trap(Refused(INTERRUPTED, "interrupted")), other)
        done = _tagged([(b"!done",)], tag)
        return [*done, *ended] if self.router.cancel_first else [*ended, *done]

    def _noted(self, path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        for tag, running in self._running.items():
            if running.path == path:
                self._tell(path, row, running, tag, gone=gone)

    def _tell(self, path: str, row: Row, running: _Running, tag: bytes | None, *, gone: bool) -> None:
        seen = shown(self.router.state, path, row, sensitive="sensitive" in self._policies)
        if gone:
            told = {".id": row.id, ".dead": "yes"}
        elif matching(running.queries).fits(seen):
            told = picked(seen, running.attributes)
        else:
            return
        self._news.extend(_tagged(_rows([told]), tag))
        self.is_over = self.is_over or len(self._news) > MOST_NEWS
        self.on_news()

    def _login(self, attributes: Mapping[str, str]) -> list[Sentence]:
        if self.router.asks_challenge and "response" not in attributes:
            self._challenge = secrets.token_bytes(_CHALLENGE_BYTES)
            return [(b"!done", b"=ret=" + self._challenge.hex().encode())]
        user = self._checked_user(attributes)
        if user is None or self.router.faults.refuses_login:
            self.router.counts.refused_logins += 1
            raise refusals.login_refused()
        policies = frozenset(word for word in self._policy_of(user).split(",") if not word.startswith("!"))
        if "api" not in policies:
            raise refusals.login_refused()
        self._user, self._policies = user.values["name"], policies
        self.router.counts.logins += 1
        return [(b"!done",)]

    def _checked_user(self, attributes: Mapping[str, str]) -> Row | None:
        row = next(
            (row for row in self.router.state.tables[USER] if row.values["name"] == attributes.get("name")), None
        )
        if row is None or not row.is_enabled:
            return None
        password = row.values.get("password", "").encode("utf-8", "surrogateescape")
        if self.router.asks_challenge:
            asked = md5(b"\0" + password + self._challenge, usedforsecurity=False).hexdigest().encode()
            given = attributes["response"].removeprefix("00")
        else:
            asked, given = password, attributes.get("password", "")
        return row if hmac.compare_digest(asked, given.encode("utf-8", "surrogateescape")) else None

    def _policy_of(self, user: Row) -> str:
        groups = self.router.state.tables[GROUP]
        return next((row.values["policy"] for row in groups if row.values["name"] == user.values["group"]), "")


def _read(sentence: Sentence) -> tuple[str, dict[str, str], tuple[str, ...]]:
    command, *words = (word.decode("utf-8", "surrogateescape") for word in sentence if not word.startswith(b".tag="))
    attributes: dict[str, str] = {}
    queries: list[str] = []
    for word in words:
        if word.startswith("="):
            name, _, value = word[1:].partition("=")
            attributes[name] = value
        elif word.startswith("?"):
            queries.append(word)
        else:
            raise refusals.unknown_parameter(word)
    return command, attributes, tuple(queries)


def _rows(rows: Iterable[Mapping[str, str]]) -> list[Sentence]:
    return [
        (b"!re", *(f"={name}={value}".encode("utf-8", "surrogateescape") for name, value in row.items()))
        for row in rows
    ]


def _done(answer: Answer, *, says_empty: bool) -> list[Sentence]:
    empty = [(b"!empty",)] if says_empty and answer.is_print and not answer.rows else []
    ret = () if answer.ret is None else (f"=ret={answer.ret}".encode("utf-8", "surrogateescape"),)
    return [*_rows(answer.rows), *empty, (b"!done", *ret)]


def _trap(refused: Refused) -> list[Sentence]:
    category = () if refused.category is None else (f"=category={refused.category}".encode(),)
    return [(b"!trap", *category, b"=message=" + refused.message.encode("utf-8", "surrogateescape")), (b"!done",)]


def _tagged(sentences: Iterable[Sentence], tag: bytes | None) -> list[Sentence]:
    """`!fatal` bears no tag."""
    return [sentence if tag is None or sentence[0] == b"!fatal" else (*sentence, tag) for sentence in sentences]
