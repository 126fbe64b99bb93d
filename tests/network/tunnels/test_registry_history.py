"""Whatever is asked of the registry in whatever order: PostgreSQL comes to the same as the plain model."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
import trio

from opendesk.errors import OpenDeskError
from opendesk.network.tunnels.errors import DeviceNotFound
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import Device, preshared_key_of
from opendesk.network.tunnels.registry.devices import NewDevice
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from tests.network.tunnels.registry_model import POOL, Kept, Model
from tests.network.tunnels.test_devices import SEALER, key

NAMES: Final = st.sampled_from("aaab")
KEYS: Final = st.integers(1, 4).map(key)
# Within the pool and beside it, one in another.
PREFIXES: Final = st.sampled_from(
    ["10.9.0.0/30", "10.9.0.4/31", "10.9.0.3/32", "172.16.0.0/24", "172.16.0.0/16", "172.16.0.9/32"]
)
IPS: Final = st.sampled_from([None, None, "10.9.0.1", "10.9.0.2", "10.9.0.5", "172.16.0.9"])
ALLOWED: Final = st.none() | st.none() | st.lists(PREFIXES, max_size=2, unique=True).map(tuple)
PRESHARED: Final = st.sampled_from([None, Secret("p"), Secret("q")])
NEW: Final = st.builds(
    NewDevice, id=NAMES | st.none(), public_key=KEYS, allowed_ips=ALLOWED, tunnel_ip=IPS, preshared_key=PRESHARED
)

# Most of what is asked is about keys: what they do to each other is what may go wrong.
ROTATING: Final = st.builds(NewDevice, id=NAMES, public_key=KEYS, preshared_key=PRESHARED)
STEPS: Final = st.one_of(
    st.tuples(st.just("put"), NEW, st.booleans()),
    *[st.tuples(st.just("put"), ROTATING, st.just(value=True))] * 4,
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("remove_key"), KEYS),
    st.tuples(st.just("complete"), NAMES, KEYS),
    *[st.tuples(st.just("complete_what_waits"), NAMES)] * 2,
    st.tuples(st.just("cancel"), NAMES),
    st.tuples(st.sampled_from(["expire", "make_missing"])),
    st.tuples(st.just("bury"), st.lists(KEYS, max_size=3)),
    st.tuples(st.just("bind"), KEYS, NAMES),
)
HISTORIES: Final = st.lists(STEPS, min_size=8, max_size=30)


@frozen
class Both:
    """Asks the registry and the model, and compares."""

    conn: TrioConnection
    model: Model

    async def put(self, new: NewDevice, takes_from_pool: bool) -> None:  # noqa: FBT001  # Hypothesis' values
        pool = POOL if takes_from_pool else None
        found = await _told(lambda: devices.put(self.conn, new, SEALER, dry_run=False, pool=pool))
        fresh_id = "" if isinstance(found, type) else found.device.id
        try:
            expected: Any = self.model.put(new, fresh_id, takes_from_pool=takes_from_pool)
        except OpenDeskError as refusal:
            expected = type(refusal)
        assert (found if isinstance(found, type) else found.outcome) == expected

    async def remove(self, name: str) -> None:
        found = await _told(lambda: devices.remove(self.conn, name, dry_run=False))
        assert (found is not DeviceNotFound) == self.model.remove(name)

    async def remove_key(self, public_key: str) -> None:
        assert await devices.remove_key(self.conn, public_key, dry_run=False) == self.model.remove_key(public_key)

    async def complete(self, name: str, public_key: str) -> None:
        found = await devices.complete_rotation(self.conn, name, public_key, dry_run=False)
        assert found == self.model.complete(name, public_key)

    async def complete_what_waits(self, name: str) -> None:
        kept = self.model.devices.get(name)
        if kept is not None and kept.next_key is not None:
            await self.complete(name, kept.next_key)

    async def cancel(self, name: str) -> None:
        assert await devices.cancel_rotation(self.conn, name, dry_run=False) == self.model.cancel(name)

    async def expire(self) -> None:
        assert sorted(await devices.expire_rotations(self.conn, 0, dry_run=False)) == sorted(self.model.expire())

    async def make_missing(self) -> None:
        made = await bindings.make_missing(self.conn, dry_run=False)
        assert {bound.public_key for bound in made} == self.model.make_missing()

    async def bury(self, keys: list[str]) -> None:
        assert len(await devices.bury(self.conn, keys, 0, dry_run=False)) == self.model.bury(keys)

    async def bind(self, public_key: str, name: str) -> None:
        await bindings.bind(self.conn, public_key, name, "10.77.7.7", dry_run=False)
        self.model.bindings[public_key] = (name, "10.77.7.7")
        self.model.tombstones.discard(public_key)

    async def compare(self) -> None:
        found = await devices.portion(self.conn, 0, 100, dry_run=False)
        assert {device.id: _kept(device) for device in found} == self.model.devices
        assert set(await devices.tombstones(self.conn, dry_run=False)) == self.model.tombstones
        bound = await bindings.list_all(self.conn, dry_run=False)
        assert {one.public_key: (one.device_id, one.mikrotik_ip) for one in bound} == self.model.bindings
        held = await self.conn.fetch("SELECT prefix::text, device_id FROM tunnel_prefixes")
        assert set(held) == {(prefix, device.id) for device in self.model.devices.values() for prefix in device.allowed}


def _kept(device: Device) -> Kept:
    psk, next_psk = (
        _opened(device.id, held) for held in (device.preshared_key_sealed, device.next_preshared_key_sealed)
    )
    allowed = frozenset(device.allowed_ips)
    return Kept(device.id, device.public_key, psk, device.next_public_key, next_psk, device.tunnel_ip, allowed)


def _opened(name: str, held: bytes | None) -> str | None:
    return None if held is None else SEALER.open(held, about=preshared_key_of(name)).reveal()


async def _told(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except OpenDeskError as refusal:
        return type(refusal)


async def run(conninfo: str, history: Sequence[tuple[Any, ...]]) -> None:
    async with (
        await TrioConnection.connect(conninfo, autocommit=True) as conn,
        conn.transaction(force_rollback=True),
    ):
        both = Both(conn, Model())
        for name, *values in history:
            await getattr(both, name)(*values)
            await both.compare()


# The database is empty again after each: what a history did is rolled back.
SHARED: Final = [HealthCheck.function_scoped_fixture]


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED)
@given(history=HISTORIES)
def test_postgres_comes_to_the_same_as_the_model(conninfo: str, history: list[tuple[Any, ...]]) -> None:
    trio.run(run, conninfo, history)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, suppress_health_check=SHARED)
@given(history=HISTORIES)
def test_postgres_comes_to_the_same_as_the_model_for_long(conninfo: str, history: list[tuple[Any, ...]]) -> None:
    trio.run(run, conninfo, history)
