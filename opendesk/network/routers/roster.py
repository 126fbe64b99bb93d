"""The workers that run: one for each router that is ours, replaced when it is to be reached in another way."""

from collections.abc import Collection, Iterator, Mapping

from attrs import define, field, frozen
import trio

from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.health import Health
from opendesk.network.routers.hooks import Hooks
from opendesk.network.routers.link import Connect
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.routers.states import Lease
from opendesk.network.routers.worker import Worker


@define(eq=False)
class _Driven:
    """`done` is set when the worker, and each before it, has ended."""

    worker: Worker
    resets: int
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    done: trio.Event = field(factory=trio.Event)

    def stop(self) -> None:
        self.worker.stop()
        self.scope.cancel()


@frozen(eq=False)
class _Rooms(Mapping[str, int]):
    """Of those that have any, as they are when one looks: of a thousand, mostly one or two are looked at."""

    _driven: Mapping[str, _Driven]

    def __getitem__(self, router_id: str) -> int:
        if room := self._driven[router_id].worker.room:
            return room
        raise KeyError(router_id)

    def __iter__(self) -> Iterator[str]:
        return (router_id for router_id, driven in self._driven.items() if driven.worker.room)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@define(eq=False)
class Roster:
    """`fresh` is how a circuit begins. Where it doesn't dial (a dry run), workers only keep the lanes open."""

    _fresh: Breaker
    _connect: Connect
    _hooks: Hooks
    _dials: bool
    _driven: dict[str, _Driven] = field(init=False, factory=dict)
    _workers: trio.Nursery | None = field(init=False, default=None)

    def get(self, router_id: str) -> Worker | None:
        driven = self._driven.get(router_id)
        return None if driven is None else driven.worker

    def wake(self, hosts: Collection[str]) -> None:
        """Those that are reached there."""
        for driven in self._driven.values():
            if driven.worker.spec.host in hosts:
                driven.worker.wake()

    def rooms(self) -> Mapping[str, int]:
        return _Rooms(self._driven)

    async def run(self, specs: Mapping[str, RouterSpec], leases: Mapping[str, Lease], *, until_s: float) -> None:
        """Until `until_s`, or later if `arrange` said so: at its end nobody is left who sends anything."""
        try:
            async with trio.open_nursery() as self._workers:
                self.arrange(specs, leases, until_s=until_s)
                try:
                    await trio.sleep_forever()
                finally:  # before their connections end, or that would be a failure of routers
                    for driven in self._driven.values():
                        driven.worker.stop()
        finally:
            self._workers = None

    def arrange(self, specs: Mapping[str, RouterSpec], leases: Mapping[str, Lease], *, until_s: float) -> None:
        """Have a worker for each router that is ours, as it is to be reached now, and no other."""
        if self._workers is None:
            return
        self._workers.cancel_scope.deadline = until_s
        ours = {router_id: lease for router_id, lease in leases.items() if router_id in specs}
        for router_id in self._driven.keys() - ours.keys():
            self._driven[router_id].stop()
        for router_id, lease in ours.items():
            driven = self._driven.get(router_id)
            if driven is None or driven.worker.spec != specs[router_id] or driven.scope.cancel_called:
                self._start(self._workers, specs[router_id], lease, driven)
            elif driven.resets != lease.resets:
                driven.resets = lease.resets
                driven.worker.close_circuit()

    def _start(self, workers: trio.Nursery, spec: RouterSpec, lease: Lease, old: _Driven | None) -> None:
        worker = self._new(spec, lease) if old is None else self._instead_of(old, spec)
        self._driven[spec.id] = driven = _Driven(worker, lease.resets)
        workers.start_soon(self._run, driven, old)
        if worker.room:
            self._hooks.lane_opened(spec.id)

    def _new(self, spec: RouterSpec, lease: Lease) -> Worker:
        health = lease.health(self._fresh, trio.current_time()).at(_target(spec))
        return Worker(spec, health, self._connect, self._hooks, dials=self._dials)

    def _instead_of(self, old: _Driven, spec: RouterSpec) -> Worker:
        """It starts afresh: what failed may have been mended by the change, and another router's uptime says nothing."""
        old.stop()
        before = old.worker.health
        fresh = Health(breaker=self._fresh, target=before.target, moved=before.moved).at(_target(spec))
        self._hooks.changed(spec.id, fresh)
        return Worker(spec, fresh, self._connect, self._hooks, places=old.worker.places, dials=self._dials)

    async def _run(self, driven: _Driven, old: _Driven | None) -> None:
        try:
            if old is not None:
                await old.done.wait()  # two connections to one router at a time are two that drive it
            with driven.scope:
                await driven.worker.run()
        finally:
            driven.stop()
            driven.done.set()
            if self._driven.get(driven.worker.spec.id) is driven:
                del self._driven[driven.worker.spec.id]


def _target(spec: RouterSpec) -> str:
    return f"{spec.host}:{spec.port}"
