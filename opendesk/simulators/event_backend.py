"""A backend that has events for the daemon and takes its ACKs, over real HTTP, and misbehaves where it is told to.

What it signs and checks is written here from the description alone (docs/backend-contract.md), so that the daemon doesn't agree with itself
only. HTTP is h11's, so that an answer can be cut off, dripped and contradicted at any byte.
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
import gzip
import hashlib
import hmac
import itertools
import json
from typing import Any, Final

from attrs import define, field, frozen
import trio

EVENTS_PATH: Final = "/events"
ACKS_PATH: Final = "/acks"
QUEUE_PATH: Final = "/queue"

# Of one router in one answer: not of all, or those of one that is dead would keep out those of all others.
EACH: Final = 20
# What is remembered of ACKs and fetches: of a long day only the end.
REMEMBERED: Final = 100_000
# A request's body: events put by hand.
MOST_BODY: Final = 16 * 2**20
HUGE: Final = 10 * 2**20
# A byte each, so that nobody finds it dead.
DRIP_S: Final = 0.01


class Fault(StrEnum):
    """What is done to one answer."""

    DUPLICATED = "each member twice"
    REORDERED = "the last member first"
    BROKEN_MEMBERS = "members that are no events between those that are"
    BROKEN_BODY = "the last byte is lost, and signed so"
    NOT_JSON = "a page for people"
    NO_ARRAY = "an object where an array should be"
    SIGNED_WRONGLY = "signed with nobody's secret"
    SIGNED_BEFORE = "the body is changed after it was signed"
    UNSIGNED = "not signed"
    SIGNED_WITH_LAST = "signed with the last secret instead of the first"
    FAILING = "500"
    REDIRECTED = "302 to where the same events are"
    SILENT = "no answer"
    DRIPPED = "a byte now and then"
    CUT_OFF = "the connection ends in the midst of the body"
    HUNG_UP = "the connection ends before the answer"
    COMPRESSED = "gzip, unasked"
    HUGE = "10 MiB"


# The backend has taken an ACK, and the daemon may never hear of it.
_TOLD_LATE: Final = {None, Fault.CUT_OFF, Fault.HUNG_UP, Fault.DRIPPED}


@frozen
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    signed: bool  # rightly


@frozen
class Ack:
    """As it came. `taken`: it was answered with 2xx, or would have been, had the connection not been cut."""

    event_id: str
    ok: bool
    payload: dict[str, Any]
    asked: Asked
    taken: bool


@frozen
class Reply:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None


class Redelivery(StrEnum):
    UNTIL_ACKED = "until-acked"
    NEVER = "never"
    ALWAYS = "always"


def _queued(faults: Iterable[Fault | None]) -> deque[Fault | None]:
    return deque(faults)


@define(eq=False)
class EventBackend:
    """`fetch_faults` and `ack_faults` are used up, one a request; then `every_fetch` and `every_ack` hold. `ack_status` is what ACKs are answered with."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    redelivery: Redelivery = Redelivery.UNTIL_ACKED
    fetch_faults: deque[Fault | None] = field(converter=_queued, factory=deque)
    ack_faults: deque[Fault | None] = field(converter=_queued, factory=deque)
    every_fetch: Fault | None = None
    every_ack: Fault | None = None
    ack_status: int = 200
    fetches: deque[Asked] = field(factory=lambda: deque(maxlen=REMEMBERED))
    acks: deque[Ack] = field(factory=lambda: deque(maxlen=REMEMBERED))
    _queues: dict[str | None, dict[int, bytes]] = field(factory=dict)  # by mikId
    _places: dict[str, list[tuple[str | None, int]]] = field(factory=dict)  # by eventId
    _numbers: Iterable[int] = field(factory=itertools.count)
    _changed: trio.Event = field(factory=trio.Event)

    def put(self, *events: dict[str, Any] | bytes) -> None:
        """Have them fetched, in this order. Bytes are given as they are."""
        for number, event in zip(self._numbers, events, strict=False):
            raw = event if isinstance(event, bytes) else json.dumps(event).encode()
            event_id, router = _names_in(raw)
            self._queues.setdefault(router, {})[number] = raw
            if event_id is not None:
                self._places.setdefault(event_id, []).append((router, number))

    def put_batch(self, body: bytes) -> None:
        """An array of events, or one. Raise ValueError."""
        try:
            events = json.loads(body)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(events, list | dict):
            raise ValueError("it is neither an array nor an event")
        self.put(*(events if isinstance(events, list) else [events]))

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def acks_of(self, event_id: str) -> list[Ack]:
        return [ack for ack in self.acks if ack.event_id == event_id and ack.taken]

    async def until(self, happened: Callable[[], object]) -> None:
        """Looked at after each request."""
        while not happened():
            await self._changed.wait()

    def answer(self, asked: Asked) -> Reply:
        try:
            return self._routed(asked)
        finally:
            self._changed.set()
            self._changed = trio.Event()

    def _routed(self, asked: Asked) -> Reply:
        match asked.method, asked.path.partition("?")[0]:
            case "GET", path if path == EVENTS_PATH:
                return self._events(asked)
            case "POST", path if path == ACKS_PATH:
                return self._ack(asked)
            case "POST", path if path == QUEUE_PATH:
                return self._put_by_hand(asked)
            case "GET", path if path == ACKS_PATH:
                told = [{"eventId": ack.event_id, "ok": ack.ok, "payload": ack.payload} for ack in self.acks]
                return Reply(body=json.dumps(told).encode())
            case _:
                return Reply(404)

    def _events(self, asked: Asked) -> Reply:
        self.fetches.append(asked)
        fault = self.fetch_faults.popleft() if self.fetch_faults else self.every_fetch
        if not asked.signed:
            return Reply(401)
        if fault in {Fault.FAILING, Fault.REDIRECTED, Fault.SILENT, Fault.HUNG_UP}:
            return _refusal(fault)
        given = sorted(
            (number, router) for router, queue in self._queues.items() for number in itertools.islice(queue, EACH)
        )
        members = [self._queues[router][number] for number, router in given]
        if self.redelivery is Redelivery.NEVER:
            for number, router in given:
                self._forget(router, number)
        return self._signed(_spoiled(_batch(members, fault), fault), fault)

    def _signed(self, body: bytes, fault: Fault | None) -> Reply:
        keys = {Fault.SIGNED_WRONGLY: "nobody's", Fault.SIGNED_WITH_LAST: self.secrets[-1] if self.secrets else ""}
        key = keys[fault] if fault in keys else "".join(self.secrets[:1])
        headers = [("content-type", "application/json")]
        if self.secrets and fault is not Fault.UNSIGNED:
            headers.append(("x-backend-hmac", _hmac(key, body)))
        if fault is Fault.COMPRESSED:
            headers.append(("content-encoding", "gzip"))
        return Reply(200, body + b" " if fault is Fault.SIGNED_BEFORE else body, tuple(headers), fault)

    def _ack(self, asked: Asked) -> Reply:
        fault = self.ack_faults.popleft() if self.ack_faults else self.every_ack
        if not asked.signed:
            return Reply(401)
        try:
            told = json.loads(asked.body)
            taken = fault in _TOLD_LATE and 200 <= self.ack_status < 300  # noqa: PLR2004 - 2xx
            ack = Ack(told["eventId"], told["ok"], told["payload"], asked, taken)
        except (ValueError, KeyError, TypeError):
            return Reply(400)
        self.acks.append(ack)
        if taken and self.redelivery is Redelivery.UNTIL_ACKED:
            for router, number in self._places.pop(ack.event_id, ()):
                self._forget(router, number)
        return Reply(self.ack_status, b"{}") if fault is None else _refusal(fault)

    def _forget(self, router: str | None, number: int) -> None:
        queue = self._queues.get(router, {})
        queue.pop(number, None)
        if not queue:
            self._queues.pop(router, None)

    def _put_by_hand(self, asked: Asked) -> Reply:
        try:
            self.put_batch(asked.body)
        except ValueError as error:
            return Reply(400, str(error).encode())
        return Reply(202)

    def is_signed(self, headers: dict[str, str], method: str, body: bytes) -> bool:
        """A fetch is signed over its time, an ACK over its body."""
        text = headers.get("x-relay-ts", "").encode() if method == "GET" else body
        sent = headers.get("x-relay-hmac")
        if not self.secrets:
            return sent is None
        return sent in {_hmac(secret, text) for secret in self.secrets}


def _refusal(fault: Fault) -> Reply:
    if fault is Fault.REDIRECTED:
        return Reply(302, headers=(("location", EVENTS_PATH),))
    return Reply(500 if fault is Fault.FAILING else 200, b"{}", fault=fault)


def _batch(members: list[bytes], fault: Fault | None) -> bytes:
    if fault is Fault.DUPLICATED:
        members = [member for member in members for _ in range(2)]
    elif fault is Fault.REORDERED:
        members = members[::-1]
    elif fault is Fault.BROKEN_MEMBERS:
        members = [each for member in members for each in (b'{"eventId": 5}', member, b"null")]
    return b"[" + b",".join(members) + b"]"


def _spoiled(body: bytes, fault: Fault | None) -> bytes:
    match fault:
        case Fault.BROKEN_BODY:
            return body[:-1]
        case Fault.NOT_JSON:
            return b"<html>Sorry, we are being updated"
        case Fault.NO_ARRAY:
            return b'{"events": ' + body + b"}"
        case Fault.COMPRESSED:
            return gzip.compress(body)
        case Fault.HUGE:
            return body[:-1] + b" " * HUGE + b"]"
        case _:
            return body


def _names_in(raw: bytes) -> tuple[str | None, str | None]:
    """The eventId and the mikId, where they are strings."""
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError):
        return None, None
    payload = event.get("payload") if isinstance(event, dict) else None
    found = (
        event.get("eventId") if isinstance(event, dict) else None,
        payload.get("mikId") if isinstance(payload, dict) else None,
    )
    event_id, router = (each if isinstance(each, str) else None for each in found)
    return event_id, router


def _hmac(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
