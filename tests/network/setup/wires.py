"""A router and the way to it, without a socket: commands arrive as long as it isn't cut off, and we may fall dead between any two."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import define, field
import trio

from opendesk.network.routeros.errors import LoginRefused, TimedOut, Trap, Unreachable
from opendesk.network.routeros.session import Command, Result
from opendesk.network.setup.apply import Applied, apply
from opendesk.network.setup.redialling import SCHEDULERS
from opendesk.network.setup.script import ADDRESSES, PEERS, ROUTES, WIREGUARD, Tunnel
from opendesk.network.setup.user import GROUPS, USERS
from opendesk.simulators.routeros import PASSWORD, USER, Router, Session
from opendesk.simulators.routeros.tables import Row

TIMEOUT_S = 8.0
BEGAN_S = 1_790_000_000.0
KEY = "VlBTLWtleS1WUFMta2V5LVZQUy1rZXktVlBTLWtleS0="
OTHER_KEY = "b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXktb3Q="
POOL = "10.200.0.0/16"
MENUS = (WIREGUARD, PEERS, ADDRESSES, ROUTES, USERS, GROUPS)


class Dead(BaseException):
    """This daemon is gone."""


def tunnel_of(**said: Any) -> Tunnel:
    known = {"device_id": "bus-7", "address": "10.200.0.7/32", "vps_public_key": KEY, "vps_host": "vps.test"}
    return Tunnel(**{**known, "vps_port": 51820, "allowed_ips": (POOL,), **said})


def router() -> Router:
    """Its time is the test's."""
    return Router(clock=lambda: BEGAN_S + trio.current_time())


def held(it: Router) -> dict[str, list[dict[str, str]]]:
    """All that lasts, but for the numbers of rows: one that was removed and put back has another."""
    return {menu: sorted((_lasting(row) for row in it.rows(menu)), key=repr) for menu in MENUS}


def undos(it: Router) -> list[dict[str, str]]:
    return it.rows(SCHEDULERS)


def _lasting(row: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in row.items() if name not in {".id", "name"} or row.get("comment") != "opendesk"}


def through_the_tunnel(host: str, *, ip: str = "10.200.0.7/32") -> Any:
    """What cuts a router off whose VPS is at that host alone."""

    def is_cut(it: Router) -> bool:
        peers = [row for row in it.rows(PEERS) if _is_on(row) and row.get("endpoint-address") == host]
        addresses = [row for row in it.rows(ADDRESSES) if _is_on(row) and row["address"] == ip]
        routes = [row for row in it.rows(ROUTES) if _is_on(row) and row["dst-address"] == POOL]
        interfaces = [row for row in it.rows(WIREGUARD) if _is_on(row)]
        reaches = any(POOL in row.get("allowed-address", "") and row["public-key"] == KEY for row in peers)
        return not (reaches and addresses and routes and interfaces)

    return is_cut


@define(eq=False)
class Roaming:
    """The tunnel of a router that is set up, as WireGuard has it: each end sends to where it last heard the other from, whatever it was told, until it
    forgets. A router whose session is none any more at the VPS says nothing for minutes, unless its peer is made anew.
    """

    router: Router
    at: frozenset[str] = frozenset({"vps.test"})  # the VPS' names
    ip: str = "10.200.0.7/32"
    vps_knows: bool = True
    sends_to: str | None = "vps.test"
    has_session: bool = True

    def __attrs_post_init__(self) -> None:
        self.router.state.watchers.append(self._changed)
        self.router.cut_when = self._is_cut

    async def forget(self) -> None:
        await trio.lowlevel.checkpoint()
        self.vps_knows = False

    def _changed(self, path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        if path == PEERS and (gone or not row.is_enabled):
            self.sends_to, self.has_session = None, False
        elif path == PEERS:
            self.sends_to = row.values["endpoint-address"]

    def _is_cut(self, it: Router) -> bool:
        peers = [row for row in it.rows(PEERS) if _is_on(row)]
        if not peers or through_the_tunnel(peers[0]["endpoint-address"], ip=self.ip)(it):
            return True
        if not self.vps_knows and self.sends_to in self.at and not self.has_session:
            self.vps_knows = True
        if self.vps_knows:
            self.sends_to, self.has_session = min(self.at), True
        return not self.vps_knows


def _is_on(row: dict[str, str]) -> bool:
    return row.get("disabled") != "true"


@define(eq=False)
class Wire:
    """`lives` is how many commands are sent before we are dead. With `burst`, what is sent together arrives, though the first of it cuts."""

    router: Router
    user: str = USER
    password: str = PASSWORD
    lives: int | None = None
    burst: bool = False
    only_at: str | None = None  # nobody else has the address that is dialled
    sent: list[str] = field(factory=list)
    dialled: int = 0
    forgot: int = 0

    async def forget(self) -> None:
        """As the VPS does."""
        await trio.lowlevel.checkpoint()
        self.forgot += 1

    @asynccontextmanager
    async def dial(self) -> AsyncIterator["WireApi"]:
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if self.only_at and self.only_at not in {row["address"] for row in self.router.rows(ADDRESSES) if _is_on(row)}:
            raise Unreachable("nobody is there")
        session = Session(self.router)
        login = (b"/login", f"=name={self.user}".encode(), f"=password={self.password}".encode())
        answer = session.answer(login)
        if not answer:
            await trio.sleep(TIMEOUT_S)
            raise TimedOut("nobody let us in")
        if answer[0][0] != b"!done":
            raise LoginRefused("invalid user name or password")
        try:
            yield WireApi(self, session)
        finally:
            session.close()

    def changes(self) -> list[str]:
        return [path for path in self.sent if not path.endswith("/print")]


@define(eq=False)
class WireApi:
    wire: Wire
    session: Session

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Result:
        [outcome] = await self.run_all((command,), timeout_s=timeout_s)
        if isinstance(outcome, Trap):
            raise outcome
        return outcome

    async def run_all(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Result | Trap]:
        await trio.lowlevel.checkpoint()
        answers = [self._said(command) for command in commands]
        if any(answer is None for answer in answers):
            await trio.sleep(TIMEOUT_S if timeout_s is None else timeout_s)
            raise TimedOut("no answer")
        return [answer for answer in answers if answer is not None]

    async def wait_closed(self) -> None:
        await trio.sleep_forever()

    def _said(self, command: Command) -> Result | Trap | None:
        if self.wire.lives is not None:
            if not self.wire.lives:
                raise Dead
            self.wire.lives -= 1
        self.wire.sent.append(command.path)
        was_cut = self.wire.router.is_cut_off()
        with self._arriving(does=self.wire.burst and not command.path.endswith("/print")):
            sentences = self.session.answer(command.words)
        return None if was_cut or self.wire.router.is_cut_off() else _outcome(sentences)

    @contextmanager
    def _arriving(self, *, does: bool) -> Iterator[None]:
        cut_when = self.wire.router.cut_when
        if does:
            self.wire.router.cut_when = None
        try:
            yield
        finally:
            self.wire.router.cut_when = cut_when


def _outcome(sentences: Sequence[Sequence[bytes]]) -> Result | Trap | None:
    if not sentences:
        return None
    rows = [_attributes(words) for words in sentences if words[0] == b"!re"]
    if trap := next((_attributes(words) for words in sentences if words[0] == b"!trap"), None):
        return Trap(int(trap["category"]) if "category" in trap else None, trap["message"])
    return Result(tuple(rows), _attributes(sentences[-1]).get("ret"))


def _attributes(words: Sequence[bytes]) -> dict[str, str]:
    texts = [word.decode() for word in words if word.startswith(b"=")]
    return dict(text[1:].split("=", 1) for text in texts)


async def set_up(wire: Wire, config: Tunnel | None = None, **more: Any) -> Applied:
    known = {"user": None, "dry_run": False, "forget": wire.forget}
    return await apply(wire.dial, config=config or tunnel_of(), **{**known, **more})
