"""A next key in the registry: it waits, takes over, or goes, and nothing else of the device changes."""

from typing import Any

from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.devices import Outcome
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from tests.network.tunnels.test_devices import PSK, SEALER, get, key, put, tombstones


async def complete(conn: TrioConnection, number: int) -> bool:
    return await devices.complete_rotation(conn, "a", key(number), dry_run=False)


async def test_another_key_waits_beside_the_present_one(conn: TrioConnection) -> None:
    before = (await put(conn, "a", 1, tunnel_ip="10.200.0.7", preshared_key=PSK)).device
    rotating = await put(conn, "a", 2)
    assert rotating.outcome is Outcome.ROTATING
    assert (rotating.device.public_key, rotating.device.next_public_key) == (key(1), key(2))
    assert rotating.device.next_since is not None
    assert rotating.device.preshared_key_sealed == before.preshared_key_sealed
    assert rotating.device.allowed_ips == before.allowed_ips
    assert await tombstones(conn) == frozenset()


async def test_the_same_next_key_again_changes_nothing(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    first = await put(conn, "a", 2)
    again = await put(conn, "a", 2)
    assert again == first


async def test_the_present_key_again_leaves_the_next_one_waiting(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    waiting = (await put(conn, "a", 2)).device
    again = await put(conn, "a", 1, keepalive=7)
    assert again.outcome is Outcome.CHANGED
    assert (again.device.next_public_key, again.device.next_since) == (key(2), waiting.next_since)


async def test_a_third_key_takes_the_place_of_the_one_that_waits(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    second = (await put(conn, "a", 2, preshared_key=PSK)).device
    third = (await put(conn, "a", 3)).device
    assert (third.public_key, third.next_public_key) == (key(1), key(3))
    assert third.next_preshared_key_sealed is None
    assert third.next_since is not None
    assert second.next_since is not None
    assert third.next_since > second.next_since
    assert await tombstones(conn) == {key(2)}
    assert not await complete(conn, 2)


async def test_the_next_key_takes_over_with_the_binding(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7", preshared_key=PSK)
    await bindings.make_missing(conn, dry_run=False)
    await put(conn, "a", 2)
    assert await complete(conn, 2)
    device = await get(conn, "a")
    assert (device.public_key, device.next_public_key, device.next_since) == (key(2), None, None)
    assert device.preshared_key_sealed is not None
    assert await tombstones(conn) == {key(1)}
    assert [bound.public_key for bound in await bindings.list_all(conn, dry_run=False)] == [key(2)]
    assert not await complete(conn, 2)


async def test_a_binding_that_the_next_key_has_is_kept(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await bindings.make_missing(conn, dry_run=False)
    await bindings.bind(conn, key(2), "a", "10.5.5.5", dry_run=False)
    await put(conn, "a", 2)
    assert await complete(conn, 2)
    [bound] = await bindings.list_all(conn, dry_run=False)
    assert (bound.public_key, bound.mikrotik_ip) == (key(2), "10.5.5.5")


async def test_a_next_key_may_bring_a_preshared_key_of_its_own(conn: TrioConnection) -> None:
    await put(conn, "a", 1, preshared_key=PSK)
    waiting = (await put(conn, "a", 2, preshared_key=Secret("other"))).device
    assert (await put(conn, "a", 2, preshared_key=Secret("other"))).device == waiting
    assert await complete(conn, 2)
    device = await get(conn, "a")
    assert device.preshared_key_sealed == waiting.next_preshared_key_sealed
    assert device.next_preshared_key_sealed is None


async def test_one_that_is_given_up_or_too_late_changes_nothing_else(conn: TrioConnection) -> None:
    before = (await put(conn, "a", 1, tunnel_ip="10.200.0.7", preshared_key=PSK)).device
    await put(conn, "a", 2)
    assert await devices.cancel_rotation(conn, "a", dry_run=False)
    assert not await devices.cancel_rotation(conn, "a", dry_run=False)
    assert _without_time(await get(conn, "a")) == _without_time(before)
    await put(conn, "a", 3)
    assert await devices.expire_rotations(conn, 3600, dry_run=False) == []
    assert await devices.expire_rotations(conn, 0, dry_run=True) == []
    assert await devices.expire_rotations(conn, 0, dry_run=False) == ["a"]
    assert _without_time(await get(conn, "a")) == _without_time(before)
    assert await tombstones(conn) == {key(2), key(3)}


async def test_back_to_a_key_that_was_had_before(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    await put(conn, "a", 2)
    await complete(conn, 2)
    assert await tombstones(conn) == {key(1)}
    assert (await put(conn, "a", 1)).outcome is Outcome.ROTATING
    assert await tombstones(conn) == frozenset()
    await complete(conn, 1)
    assert await tombstones(conn) == {key(2)}


async def test_without_a_master_key_a_rotation_goes_on(conn: TrioConnection) -> None:
    await put(conn, "a", 1, preshared_key=PSK)
    new = devices.NewDevice(id="a", public_key=key(2))
    assert (await devices.put(conn, new, Sealer(()), dry_run=False)).outcome is Outcome.ROTATING
    assert await complete(conn, 2)
    sealed = (await get(conn, "a")).preshared_key_sealed
    assert sealed is not None
    assert SEALER.open(sealed, about="device:a:preshared-key") == PSK


def _without_time(device: devices.Device) -> dict[str, Any]:
    columns = (*devices.Device.__attrs_attrs__,)
    return {column.name: getattr(device, column.name) for column in columns if column.name != "updated_at"}
