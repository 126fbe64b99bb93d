"""Many small pieces of work on the database made one: whoever comes while one is under way is in the next, and who comes alone waits for nobody."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from attrs import define, field
import psycopg
import trio

from opendesk.errors import Overloaded
from opendesk.postgres.errors import AWAY

A = TypeVar("A")
B = TypeVar("B")

# For one round, waiting for a connection included: others are in it, so that it goes on when its leader hangs up.
ROUND_S: Final = 8.0
# Who asks has a connection to the front door or is one of the jobs under way, so that more than these never come.
MOST_WAITING: Final = 5_000


@define(eq=False)
class _Asked(Generic[A, B]):
    item: A
    answer: list[B | Exception] = field(factory=list)  # none yet, or one
    is_alone: bool = False  # what was done together failed: it does its own
    called: trio.Event = field(factory=trio.Event)  # answered, or to lead the next round

    @property
    def is_over(self) -> bool:
        return bool(self.answer) or self.is_alone


@define(eq=False)
class Gathering(Generic[A, B]):
    """`act` does what was asked, at most so many at a time, and answers each in that order: an exception is raised for that one only."""

    _act: Callable[[Sequence[A]], Awaitable[Sequence[B | Exception]]]
    _most: int
    _waiting: deque[_Asked[A, B]] = field(factory=deque)
    _is_led: bool = False

    async def ask(self, item: A) -> B:
        """Raise what became of it, or Overloaded."""
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(retry_after_s=5)
        asked = _Asked[A, B](item)
        self._waiting.append(asked)
        if self._is_led:
            await self._until_called(asked)
        if not asked.is_over:
            self._is_led = True
            await self._lead()
        if asked.is_alone:
            asked.answer += await self._act([item])
        [answer] = asked.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _until_called(self, asked: _Asked[A, B]) -> None:
        try:
            await asked.called.wait()
        except trio.Cancelled:
            if asked in self._waiting:
                self._waiting.remove(asked)
            if asked.called.is_set() and not asked.is_over:
                self._call_next()
            raise

    async def _lead(self) -> None:
        """The leader's own is the first of the round."""
        together = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        try:
            answers = await self._act_in_time([asked.item for asked in together])
            for asked, answer in zip(together, answers, strict=True):
                asked.answer.append(answer)
        except (*AWAY, trio.TooSlowError) as error:
            for asked in together:  # another for each: an exception gathers where it came by
                asked.answer.append(psycopg.OperationalError(str(error) or repr(error)))
        except Exception:  # noqa: BLE001  # what one of them brings about isn't the others' fault: each is told its own
            for asked in together:
                asked.is_alone = True
        finally:
            for asked in together:
                asked.called.set()
            self._call_next()

    async def _act_in_time(self, items: Sequence[A]) -> Sequence[B | Exception]:
        with trio.move_on_after(ROUND_S, shield=True):
            return await self._act(items)
        raise trio.TooSlowError

    def _call_next(self) -> None:
        self._is_led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].called.set()
