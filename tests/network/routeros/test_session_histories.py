"""Whatever is sent, cancelled and answered in whatever order and pieces, each command gets its own answer: against a simple model."""

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from opendesk.network.routeros.session import Command, Session
from tests.network.routeros.scripting import said
from tests.network.routeros.test_session import shape

NAMES = st.sampled_from(["name", ".id", "ret", "message", "tag", "a b"])
VALUES = st.text(max_size=5) | st.just("=.tag=1") | st.just("\n.tag=1")
ROWS = st.dictionaries(NAMES, VALUES, max_size=3)


@define
class Sent:
    """What a person with pencil and paper would note of a command."""

    tag: int
    listens: bool
    rows: list[dict[str, str]] = field(factory=list)
    traps: list[str] = field(factory=list)
    canceller: int | None = None
    answer: str | None = None
    done: set[int] = field(factory=set)

    @property
    def over(self) -> bool:
        return self.done == {self.tag, self.canceller} - {None}


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.sent: list[Sent] = []
        self.tags = 0
        self.wire = b""
        self.expected: list[tuple[object, ...]] = []
        self.told: list[tuple[object, ...]] = []

    commands = Bundle("commands")

    @rule(target=commands, listens=st.booleans())
    def send(self, *, listens: bool) -> Sent:
        self.tags += 1
        tag, wire = self.session.send(Command("/x/print"), is_listening=listens)
        assert (tag, wire) == (self.tags, said("/x/print", f".tag={self.tags}"))
        self.sent.append(Sent(tag, listens))
        return self.sent[-1]

    @rule(sent=commands)
    def cancel(self, sent: Sent) -> None:
        self.everything_arrives()  # or the session couldn't know what the model knows
        wire = self.session.cancel(sent.tag)
        if sent.over or sent.canceller is not None:
            assert wire == b""
            return
        self.tags += 1
        assert wire == said("/cancel", f"=tag={sent.tag}", f".tag={self.tags}")
        sent.canceller = self.tags

    @rule(sent=commands, row=ROWS)
    def row(self, sent: Sent, row: dict[str, str]) -> None:
        self.says("!re", *(f"={name}={value}" for name, value in row.items()), f".tag={sent.tag}")
        if sent.tag in sent.done or sent.canceller is not None:
            return
        if sent.listens:
            self.expected.append((sent.tag, "row", row))
        else:
            sent.rows.append(row)

    @rule(sent=commands, text=st.sampled_from(["interrupted", "no such item", "a=b"]))
    def trap(self, sent: Sent, text: str) -> None:
        self.says("!trap", "=category=2", f"=message={text}", f".tag={sent.tag}")
        if sent.tag not in sent.done and len(sent.traps) < 16:
            sent.traps.append(text)

    @rule(sent=commands)
    def nothing(self, sent: Sent) -> None:
        self.says("!empty", f".tag={sent.tag}")

    @rule(sent=commands, ret=st.none() | VALUES)
    def done(self, sent: Sent, ret: str | None) -> None:
        self.says("!done", *([] if ret is None else [f"=ret={ret}"]), f".tag={sent.tag}")
        if sent.tag not in sent.done:
            sent.answer = ret
            self.finish(sent, sent.tag)

    @rule(sent=commands, traps=st.booleans())
    def cancellation_done(self, sent: Sent, *, traps: bool) -> None:
        if sent.canceller is None:
            return
        if traps:
            self.says("!trap", "=message=no such item", f".tag={sent.canceller}")
        self.says("!done", f".tag={sent.canceller}")
        if sent.canceller not in sent.done:
            self.finish(sent, sent.canceller)

    @rule(sent=consumes(commands))
    def forget(self, sent: Sent) -> None:
        """Others get their turn."""

    @rule(size=st.integers(1, 40))
    def some_arrives(self, size: int) -> None:
        self.told += map(shape, self.session.receive(self.wire[:size]))
        self.wire = self.wire[size:]

    @rule()
    def everything_arrives(self) -> None:
        self.some_arrives(max(1, len(self.wire)))
        assert self.told == self.expected
        assert self.session.in_flight == sum(1 + (sent.canceller is not None) for sent in self.sent if not sent.over)

    @invariant()
    def what_was_told_was_said(self) -> None:
        assert self.told == self.expected[: len(self.told)]

    def teardown(self) -> None:
        self.everything_arrives()

    def says(self, *words: str) -> None:
        self.wire += said(*words)

    def finish(self, sent: Sent, tag: int) -> None:
        sent.done.add(tag)
        if not sent.over:
            return
        if sent.traps:
            self.expected.append((sent.tag, "trap", 2, "; ".join(sent.traps)))
        else:
            self.expected.append((sent.tag, "done", Outcome(sent.rows, sent.answer)))


class Outcome:
    """Equal to a Result with these, without being made by one."""

    def __init__(self, rows: list[dict[str, str]], ret: str | None) -> None:
        self.rows, self.ret = list(rows), ret

    def __eq__(self, other: object) -> bool:
        return (list(getattr(other, "rows", ())), getattr(other, "ret", None)) == (self.rows, self.ret)

    __hash__ = None  # type: ignore[assignment]  # nothing is to be looked up by it


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
