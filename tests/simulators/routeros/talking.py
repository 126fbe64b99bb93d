"""A connection to a simulated router without a socket."""

from attrs import define, field

from opendesk.simulators.routeros import PASSWORD, USER, Router, Session

Words = tuple[str, ...]


@define
class Line:
    """What is said is answered at once, in words."""

    router: Router
    session: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.session = Session(self.router)

    def say(self, *words: str) -> list[Words]:
        answers = self.session.answer(tuple(word.encode("utf-8", "surrogateescape") for word in words))
        return [tuple(word.decode("utf-8", "surrogateescape") for word in answer) for answer in answers]

    def heard(self) -> list[Words]:
        return [tuple(word.decode() for word in sentence) for sentence in self.session.news()]


def logged_in(router: Router, user: str = USER, password: str = PASSWORD) -> Line:
    line = Line(router)
    assert line.say("/login", f"=name={user}", f"=password={password}") == [("!done",)]
    return line


def trapped(message: str, category: int | None = None) -> list[Words]:
    told = () if category is None else (f"=category={category}",)
    return [("!trap", *told, f"=message={message}"), ("!done",)]
