"""What one user of the API does: requests out, answers in."""

from collections.abc import Callable, Generator, Mapping, Sequence
import json
from typing import Final

# A status and a body.
Answer = tuple[int, bytes]
Job = Generator[bytes, Answer, None]
Person = Mapping[str, str]
# From the number of the job, and of the connection that does it.
MakeJob = Callable[[int, int], Job]

# In the mix, one job of so many is a whole rental; the others look.
_RENTS_ONE_IN: Final = 10


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
    )
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def wallets(people: Sequence[Person]) -> MakeJob:
    """A small GET with a token."""
    asked = [request("GET", f"/wallets/{person['user']}", person["token"]) for person in people]

    def make(_: int, slot: int) -> Job:
        yield asked[slot % len(asked)]

    return make


def cycles(people: Sequence[Person]) -> MakeJob:
    """A rental: create, start, end. Each connection is one client with a PC of its own."""
    return lambda _, slot: _rent(people[slot])


def _rent(person: Person) -> Job:
    wanted = json.dumps({"pcId": person["pc"], "minutesPurchased": 60}).encode()
    _, body = yield request("POST", "/sessions", person["token"], wanted)
    session = json.loads(body)["session"]["id"]
    yield request("POST", f"/sessions/{session}/start", person["token"])
    yield request("POST", f"/sessions/{session}/end", person["token"])


def beats(people: Sequence[Person]) -> MakeJob:
    """Host after host says that it is alive; whichever connection is free carries it."""
    asked = [request("POST", f"/hosts/{person['host']}/heartbeat", person["token"]) for person in people]

    def make(number: int, _: int) -> Job:
        yield asked[number % len(asked)]

    return make


def mixed(people: Sequence[Person]) -> MakeJob:
    """What people do: mostly looking, now and then a rental."""

    def make(number: int, slot: int) -> Job:
        person = people[slot]
        if number % _RENTS_ONE_IN == 0:
            return _rent(person)
        paths = (f"/wallets/{person['user']}", "/auth/me", f"/pcs/{person['pc']}", "/sessions?limit=5")
        return _look(request("GET", paths[number % len(paths)], person["token"]))

    return make


def _look(asked: bytes) -> Job:
    yield asked


JOBS: Final[Mapping[str, Callable[[Sequence[Person]], MakeJob]]] = {
    "wallets": wallets,
    "cycles": cycles,
    "beats": beats,
    "mixed": mixed,
}
