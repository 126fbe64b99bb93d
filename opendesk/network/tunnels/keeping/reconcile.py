"""Tunnels, for the rest of the daemon: the interface follows the registry, and nothing else changes it.

A call commits to the registry and waits here until it was seen on the interface. In a dry run there is no interface, and all else is the same.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
import math
import time

from attrs import define, field, frozen
import trio

from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.errors import TunnelsOff, WireguardUnavailable
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.drifts import Drifts
from opendesk.network.tunnels.keeping.keeper import Keeper
from opendesk.network.tunnels.keeping.known import Known
from opendesk.network.tunnels.keeping.passing import How, Passes, Report
from opendesk.network.tunnels.keeping.plan import plan
from opendesk.network.tunnels.keeping.sight import Sight
from opendesk.network.tunnels.keeping.terms import Terms
from opendesk.network.tunnels.keeping.wanted import Registry
from opendesk.network.tunnels.keeping.watching import Watch
from opendesk.network.wireguard.dump import Interface
from opendesk.network.wireguard.endpoints import LookUp, Names, in_threads
from opendesk.network.wireguard.wg import Wg, WgError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive

__all__ = ["Glance", "Report", "Terms", "Tunnels"]


@frozen
class Glance:
    """An interface as it was at `read_unix`, if it was ever read, and the devices by their ids. Not to be changed."""

    interface: Interface | None
    read_unix: float
    devices: Mapping[str, Known]
    online_s: float


def _ignore(_hosts: frozenset[str]) -> None:
    pass


@define(eq=False)
class Tunnels:
    """`run` is a service of the daemon; all else works without it, too. `came_back` is given tunnel IPs, and may be set until then.

    Without `wg` tunnels are off here, and in a dry run it isn't called.
    """

    _pool: Pool
    _listen: Callable[[], Awaitable[TrioConnection]]
    _wg: Wg | None
    _terms: Terms
    _sealer: Sealer
    _figures: TunnelFigures
    _now: Callable[[], float] = time.time
    _look_up: LookUp = field(factory=in_threads)
    came_back: Callable[[frozenset[str]], None] = _ignore
    registry: Registry = field(init=False)
    _names: Names = field(init=False)
    _watch: Watch = field(init=False)
    _keeper: Keeper | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        terms, figures = self._terms, self._figures
        keeps = self._wg is not None and not terms.dry_run
        self._names = Names(self._look_up)
        names = self._names if keeps else None
        self.registry = Registry(self._pool, self._sealer, terms.dry_run, self._now, names)
        self._watch = Watch(figures, terms.online_s, terms.offline_max_age_s, self._tell_back)
        if self._wg is not None and keeps:
            sight = Sight(self._wg, self._now, figures, terms.public_key)
            drifts = Drifts(figures)
            passes = Passes(self._pool, self.registry, sight, drifts, self._now, terms.removals_apart_s)
            self._keeper = Keeper(terms, self.registry, sight, passes, self._watch, figures, self._names, self._now)

    def _tell_back(self, hosts: frozenset[str]) -> None:
        self.came_back(hosts)

    def require_on(self) -> None:
        """Raise TunnelsOff where nothing can come of a change."""
        if self._keeper is None and not self._terms.dry_run:
            raise TunnelsOff

    @property
    def own_key(self) -> str | None:
        """The interface's public key, as far as it is known."""
        seen = None if self._keeper is None else self._keeper.sight.interface
        return None if seen is None else seen.public_key

    async def run(self) -> None:
        if self._keeper is None:
            alive(wait_s=math.inf)
            await trio.sleep_forever()
        else:
            await self._keeper.run(self._listen)

    async def settle(self, ids: Collection[str], keys: Collection[str] = ()) -> None:
        """After a commit, until the interface was seen to hold what these devices ask for, and without these keys if they were removed.

        Raise WireguardUnavailable, TunnelsOff.
        """
        self.require_on()
        if self._keeper is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._keeper.settle(ids, keys)

    async def forget_endpoint(self, device_id: str) -> None:
        """From now on only the device's router can dial: its peer is made anew, in one step, without where it was heard from.

        The session that there was is gone with it. Where the registry has an endpoint, it is dialled again after some minutes without
        the router. Raise DeviceNotFound, WireguardUnavailable, TunnelsOff.
        """
        self.require_on()
        if self._keeper is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._keeper.forget_endpoint(device_id)

    async def find_names(self, limit_s: float) -> Sequence[str]:
        """For a pass on an operator's word, where no service does it: the names of endpoints that nobody knew the address of by then."""
        if self._keeper is None:
            return ()
        await self.registry.refresh()
        await self._names.once(limit_s)
        return self._names.unknown

    def glance(self) -> "Glance | None":
        """What was last seen, without looking; None where there is no interface to see."""
        if self._keeper is None:
            return None
        sight = self._keeper.sight
        return Glance(sight.interface, sight.read_unix, self.registry.known, self._terms.online_s)

    async def look(self, max_age_s: float = 1.0) -> Interface | None:
        """The interface as it is, or was so short a time ago; None where there is none to look at. Raise WireguardUnavailable."""
        if self._keeper is None:
            await trio.lowlevel.checkpoint()
            return None
        try:
            return await self._keeper.sight.look(max_age_s)
        except WgError as error:
            raise WireguardUnavailable(str(error)) from error

    def offline_for(self, host: str) -> float | None:
        """For how many seconds the device of this tunnel IP has been silent, if that is too long to send it anything."""
        return self._watch.offline_for(host)

    def peer_silent_for(self, public_key: str) -> float | None:
        """The same of whichever peer of the interface has this key; infinite if nothing was ever heard of it."""
        return self._watch.peer_silent_for(public_key)

    async def pass_once(self, *, remove_unknown: bool, most: int | None = None, apply: bool = True) -> Report:
        """A pass on an operator's word. Without `apply` it only shows; in a dry run, what would be put on an interface that holds nothing.

        Raise TunnelsOff, WireguardUnavailable, or what the database does.
        """
        self.require_on()
        if not self.registry.is_told:
            self.registry.tell_all()
        if self._keeper is None:
            return await self._pretended()
        how = How(remove_unknown=remove_unknown, most=most, applies=apply)
        try:
            return await self._keeper.one(how)
        except WgError as error:
            raise WireguardUnavailable(str(error)) from error

    async def _pretended(self) -> Report:
        await self.registry.refresh()
        nothing = Interface(None, 0, {})
        found = plan(self.registry.desired(), nothing.peers, remove_unknown=False)
        return Report(nothing, found, (), found)
