"""Every call that is somebody's, asked by everybody else: the document is walked, so that none is forgotten.

Who may call the network API, tests/network/access tell.
"""

from collections.abc import Mapping

from attrs import frozen
import pytest

from tests.web.site import PC, Json, Person, Site, problem

CREDIT: Json = {"type": "CREDIT", "amount": 500, "reason": "TOP_UP"}


@frozen
class Scene:
    """A session of Ana's on the host's PC, and those who have nothing to do with it."""

    host: Person
    ana: Person
    other_host: Person
    stranger: Person
    admin: Person
    pc: str
    session: str

    @property
    def people(self) -> dict[str, Person]:
        return {
            "host": self.host,
            "client": self.ana,
            "other_host": self.other_host,
            "stranger": self.stranger,
            "admin": self.admin,
        }


async def scene(site: Site, *, active: bool) -> Scene:
    host, ana = await site.host(), await site.user(money=10_000)
    pc = await site.pc(host, connectionHost="203.0.113.7")
    session = await (site.running if active else site.reserved)(ana, pc)
    other = await site.host()
    await site.pc(other)
    return Scene(host, ana, other, await site.user(money=10_000), await site.admin(), pc, session)


@frozen
class Guarded:
    """A call with what it is made with, and who may make it."""

    method: str
    path: str
    may: frozenset[str]
    body: Json | None = None
    active: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    async def by(self, person: Person, on: Scene) -> tuple[int, str | None]:
        owner = {"userId": on.ana.id, "id": self.id_of(on)}
        answer = await person.call(self.method, self.path.format(**owner), json=self.body)
        return problem(answer) if answer.is_error else (answer.status_code, None)

    def id_of(self, on: Scene) -> str:
        return {"hosts": str(on.host.host_id), "pcs": on.pc}.get(self.path.split("/")[1], on.session)


def g(call: str, may: str, body: Json | None = None, *, active: bool = False) -> Guarded:
    method, path = call.split()
    return Guarded(method, path, frozenset(may.split()), body, active)


GUARDED = [
    g("POST /hosts/{id}/heartbeat", "host admin", {}),
    g("PUT /pcs/{id}", "host admin", PC),
    g("POST /pcs/{id}/network", "host admin", {"networkProvider": "DIRECT"}),
    g("DELETE /pcs/{id}", "host admin"),
    g("GET /wallets/{userId}", "client admin"),
    g("GET /wallets/{userId}/transactions", "client admin"),
    g("POST /wallets/{userId}/tx", "admin", CREDIT),
    g("GET /sessions/{id}", "client host admin"),
    g("POST /sessions/{id}/start", "client admin"),
    g("POST /sessions/{id}/end", "client host admin", {}, active=True),
    g("POST /sessions/{id}/cancel", "client admin"),
    g("POST /sessions/{id}/stream/start", "client host"),
    g("GET /stream/rooms", "admin"),
    g("POST /sessions/{id}/refund", "admin", {"amount": 1, "reason": "GOODWILL"}),
]
# What a permitted caller is told where the scene itself doesn't allow it.
REFUSED: Mapping[str, tuple[int, str]] = {
    "DELETE /pcs/{id}": (409, "PC_BUSY"),
    "POST /sessions/{id}/refund": (409, "INVALID_STATUS"),
}
# For any user, about themselves.
OWN = {
    "GET /auth/me",
    "POST /auth/password",
    "POST /auth/logout",
    "POST /hosts",
    "POST /pcs",
    "POST /sessions",
    "GET /sessions",
}


def secured(site: Site) -> set[str]:
    """Those for people."""
    operations = site.conformance.operations()
    return {f"{method} {path}" for method, path, operation in operations if {"bearer": []} in operation["security"]}


async def test_no_call_is_forgotten_here(site: Site) -> None:
    assert secured(site) == OWN | {str(call) for call in GUARDED}


@pytest.mark.parametrize("call", GUARDED, ids=str)
async def test_those_who_may_not_are_refused_before_anything_happens(site: Site, call: Guarded) -> None:
    on = await scene(site, active=call.active)
    before = (await on.admin.get(f"/sessions/{on.session}")).json(), (await on.admin.get(f"/pcs/{on.pc}")).json()
    for name, person in on.people.items():
        if name not in call.may:
            assert await call.by(person, on) == (403, "FORBIDDEN"), name
    assert before == (
        (await on.admin.get(f"/sessions/{on.session}")).json(),
        (await on.admin.get(f"/pcs/{on.pc}")).json(),
    )
    assert await on.ana.balance() == 7_600


@pytest.mark.parametrize(("call", "name"), [(call, name) for call in GUARDED for name in sorted(call.may)], ids=str)
async def test_those_who_may_and_an_admin_do(site: Site, call: Guarded, name: str) -> None:
    on = await scene(site, active=call.active)
    status, code = await call.by(on.people[name], on)
    if str(call) in REFUSED:
        assert (status, code) == REFUSED[str(call)]
    else:
        assert code is None


async def test_every_secured_call_wants_a_token(site: Site) -> None:
    on = await scene(site, active=False)
    for call in sorted(secured(site)):
        method, path = call.split()
        answer = await site.client.request(method, path.format(id=on.session, userId=on.ana.id))
        assert problem(answer) == (401, "UNAUTHENTICATED"), call
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_other_call_wants_none_and_minds_no_bad_one(site: Site) -> None:
    on = await scene(site, active=False)
    ids = {"hosts": on.host.host_id, "pcs": on.pc}
    for method, path, operation in site.conformance.operations():
        if operation["security"] or method != "GET":
            continue
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await site.client.get(path.format(id=ids.get(path.split("/")[1])), headers=headers)
            assert answer.status_code == 200, path


async def test_lists_show_own_sessions_only(site: Site) -> None:
    on = await scene(site, active=True)
    seen = {name: len((await person.get("/sessions")).json()["items"]) for name, person in on.people.items()}
    assert seen == {"host": 1, "client": 1, "admin": 1, "stranger": 0, "other_host": 0}
    found = (await on.stranger.get("/sessions", params={"pcId": on.pc})).json()["items"]
    assert found == []


async def test_a_host_is_a_client_like_any_other_elsewhere(site: Site) -> None:
    on = await scene(site, active=False)
    await on.admin.post(f"/wallets/{on.host.id}/tx", json={**CREDIT, "amount": 10_000})
    session = await site.running(on.host, await site.pc(on.other_host))
    assert problem(await on.ana.get(f"/sessions/{session}")) == (403, "FORBIDDEN")
    assert len((await on.host.get("/sessions")).json()["items"]) == 2


async def test_the_host_cancels_no_reservation_and_starts_none(site: Site) -> None:
    on = await scene(site, active=False)
    for step in ("start", "cancel"):
        assert problem(await on.host.post(f"/sessions/{on.session}/{step}")) == (403, "FORBIDDEN")
    assert (await on.ana.get(f"/sessions/{on.session}")).json()["session"]["status"] == "PENDING"
