"""Devices behind tunnels as they are registered: what is granted, refused, kept and given back."""

import base64
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest
import trio

from opendesk.errors import Misfit, OpenDeskError
from opendesk.network.routers import registry
from opendesk.network.routers.errors import SealingUnavailable
from opendesk.network.routers.registry import NewRouter
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.errors import (
    AllowedIpsTaken,
    DeviceNotFound,
    PoolExhausted,
    PublicKeyTaken,
    TooManyDevices,
    TunnelIpTaken,
)
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import META_MAX_BYTES, preshared_key_of
from opendesk.network.tunnels.registry.devices import Device, NewDevice, Outcome, Registered
from opendesk.network.tunnels.registry.pool import lowest_free
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings.secret import Secret

SEALER = Sealer((Secret(bytes(range(32))),))
NONE = Sealer(())
POOL = ip_network("10.200.0.0/16")
SMALL = ip_network("10.9.0.0/29")
PSK = Secret(base64.b64encode(b"p" * 32).decode())

Network = IPv4Network | IPv6Network


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


async def put(  # as devices.put
    conn: TrioConnection, name: str | None, number: int, *, dry_run: bool = False, pool: Network | None = None,
    allocate: bool = True, **rest: Any,
) -> Registered:  # fmt: skip
    new = NewDevice(id=name, public_key=key(number), **rest)
    return await devices.put(conn, new, SEALER, dry_run=dry_run, pool=pool, allocate=allocate)


async def get(conn: TrioConnection, name: str) -> Device:
    return await devices.get(conn, name, dry_run=False)


async def tombstones(conn: TrioConnection) -> frozenset[str]:
    return frozenset(await devices.tombstones(conn, dry_run=False))


async def test_one_is_made_and_the_same_again_changes_nothing(conn: TrioConnection) -> None:
    made = await put(conn, "bus-7", 1, allowed_ips=("192.168.7.0/24",), tunnel_ip="10.200.0.7", meta={"name": "Bus 7"})
    assert made.outcome is Outcome.MADE
    assert made.device.allowed_ips == ("10.200.0.7/32", "192.168.7.0/24")
    assert (made.device.keepalive, made.device.endpoint, made.device.meta) == (25, None, {"name": "Bus 7"})
    again = await put(conn, "bus-7", 1, allowed_ips=("192.168.7.0/24",), tunnel_ip="10.200.0.7", meta={"name": "Bus 7"})
    assert again == Registered(made.device, Outcome.SAME)
    assert await put(conn, "bus-7", 1) == Registered(made.device, Outcome.SAME)
    assert await get(conn, "bus-7") == made.device


async def test_what_is_not_said_stays_as_it_is(conn: TrioConnection) -> None:
    await put(
        conn,
        "a",
        1,
        allowed_ips=("192.168.7.0/24",),
        tunnel_ip="10.200.0.7",
        endpoint="192.0.2.1:51820",
        preshared_key=PSK,
    )
    changed = await put(conn, "a", 1, keepalive=0, tunnel_ip="10.200.0.8")
    assert changed.outcome is Outcome.CHANGED
    assert changed.device.allowed_ips == ("10.200.0.8/32", "192.168.7.0/24")
    assert (changed.device.keepalive, changed.device.endpoint) == (0, "192.0.2.1:51820")
    assert changed.device.preshared_key_sealed is not None


async def test_without_an_id_it_is_the_device_that_has_the_key_or_a_new_one(conn: TrioConnection) -> None:
    made = await put(conn, None, 1, allowed_ips=("10.1.0.1/32",))
    assert made.outcome is Outcome.MADE
    assert len(made.device.id) == 36
    assert (await put(conn, None, 1, allowed_ips=("10.1.0.1/32",))).outcome is Outcome.SAME
    await put(conn, made.device.id, 2)
    waiting = await put(conn, None, 2)
    assert (waiting.device.id, waiting.outcome) == (made.device.id, Outcome.ROTATING)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("10.1.0.0/16", "10.1.2.0/24"),
        ("10.1.2.0/24", "10.1.0.0/16"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("fd00::/64", "fd00::1/128"),
    ],
)
async def test_addresses_that_another_has_are_refused_and_it_is_said_whose_they_are(
    conn: TrioConnection, held: str, wanted: str
) -> None:
    await put(conn, "a", 1, allowed_ips=(held,))
    with pytest.raises(AllowedIpsTaken, match=r"device a holds ") as refused:
        await put(conn, "b", 2, allowed_ips=("172.16.0.0/24", wanted))
    assert wanted in refused.value.detail
    assert refused.value.members == {"deviceId": "a"}
    assert (await put(conn, "b", 2, allowed_ips=("172.16.0.0/24",))).outcome is Outcome.MADE
    with pytest.raises(AllowedIpsTaken):
        await put(conn, "b", 2, allowed_ips=(wanted,))
    assert (await get(conn, "b")).allowed_ips == ("172.16.0.0/24",)


async def test_one_device_may_narrow_and_widen_its_own_addresses(conn: TrioConnection) -> None:
    for allowed in ("10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"):
        assert (await put(conn, "a", 1, allowed_ips=(allowed,))).device.allowed_ips == (allowed,)
    with pytest.raises(AllowedIpsTaken):
        await put(conn, "b", 2, allowed_ips=("10.77.0.0/24",))
    await put(conn, "a", 1, allowed_ips=("10.1.0.0/16",))
    assert (await put(conn, "b", 2, allowed_ips=("10.77.0.0/24",))).outcome is Outcome.MADE


async def test_a_tunnel_ip_and_a_key_have_one_device(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await put(conn, "a", 2)
    with pytest.raises(TunnelIpTaken, match=r"device a has the tunnel IP 10\.200\.0\.7"):
        await put(conn, "b", 3, tunnel_ip="10.200.0.7")
    for number in (1, 2):
        with pytest.raises(PublicKeyTaken, match="device a"):
            await put(conn, "b", number, tunnel_ip="10.200.0.8")


async def test_the_pool_gives_the_lowest_free_host_and_the_same_one_again(conn: TrioConnection) -> None:
    gave = [(await put(conn, name, number, pool=POOL)).device.tunnel_ip for number, name in enumerate("abc")]
    assert gave == ["10.200.0.2", "10.200.0.3", "10.200.0.4"]
    assert (await put(conn, "b", 1, pool=POOL)) == Registered(await get(conn, "b"), Outcome.SAME)
    await devices.remove(conn, "b", dry_run=False)
    assert (await put(conn, "d", 4, pool=POOL)).device.tunnel_ip == "10.200.0.3"
    assert (await put(conn, "e", 5, pool=POOL)).device.tunnel_ip == "10.200.0.5"
    assert (await put(conn, "f", 6, pool=POOL, allocate=False)).device.tunnel_ip is None


async def test_the_pool_gives_nothing_that_lies_in_anybodys_addresses(conn: TrioConnection) -> None:
    await put(conn, "a", 1, allowed_ips=("10.200.0.2/31", "10.200.0.5/32", "10.200.0.8/29"))
    gave = [(await put(conn, name, number, pool=POOL)).device.tunnel_ip for number, name in enumerate("bcde", 2)]
    assert gave == ["10.200.0.4", "10.200.0.6", "10.200.0.7", "10.200.0.16"]


async def test_the_pool_gives_nobody_the_address_where_another_router_is_dialled(conn: TrioConnection) -> None:
    """Its device may be gone: its password would be sent to whoever came there next."""
    for name, host in (("gone", "10.200.0.2"), ("away", "10.200.0.4"), ("named", "gw.example"), ("out", "192.0.2.1")):
        await registry.put(conn, NewRouter(id=name, host=host), SEALER)
    gave = [(await put(conn, name, number, pool=POOL)).device.tunnel_ip for number, name in enumerate("abc", 1)]
    assert gave == ["10.200.0.3", "10.200.0.5", "10.200.0.6"]
    assert (await put(conn, "gone", 5, pool=POOL)).device.tunnel_ip == "10.200.0.2"
    await registry.remove(conn, "away")
    assert (await put(conn, "d", 6, pool=POOL)).device.tunnel_ip == "10.200.0.4"


async def test_nor_where_one_of_the_environments_is_dialled(conn: TrioConnection) -> None:
    nodes = {"node": "10.200.0.2", "a": "10.200.0.3", "named": "gw.example"}
    for name, expected in (("b", "10.200.0.4"), ("a", "10.200.0.3"), ("node", "10.200.0.2")):
        new = NewDevice(id=name, public_key=key(ord(name[0])), allowed_ips=None, tunnel_ip=None)
        made = await devices.put(conn, new, SEALER, dry_run=False, pool=POOL, dialled=nodes)
        assert made.device.tunnel_ip == expected


@given(st.lists(st.tuples(st.integers(0, 63), st.sampled_from([28, 30, 31, 32]))))
def test_the_lowest_free_host_is_the_first_that_nothing_covers(held: list[tuple[int, int]]) -> None:
    pool = IPv4Network("10.9.0.0/26")
    networks = [IPv4Network((int(pool.network_address) + at, bits), strict=False) for at, bits in held]
    free = [ip for ip in list(pool.hosts())[1:] if not any(ip in one for one in networks)]
    assert lowest_free(pool, networks) == (str(free[0]) if free else None)


async def test_the_interfaces_own_key_is_nobodys(conn: TrioConnection) -> None:
    new = NewDevice(id="a", public_key=key(1), allowed_ips=("10.200.0.7/32",), tunnel_ip=None)
    with pytest.raises(PublicKeyTaken, match="own public key"):
        await devices.put(conn, new, SEALER, dry_run=False, own_key=key(1))


async def test_a_pool_that_is_used_up_is_told_and_what_is_given_back_is_given_again(conn: TrioConnection) -> None:
    gave = [(await put(conn, f"d{number}", number, pool=SMALL)).device.tunnel_ip for number in range(1, 6)]
    assert gave == ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]
    with pytest.raises(PoolExhausted, match="WG_TUNNEL_POOL"):
        await put(conn, "late", 9, pool=SMALL)
    await devices.remove(conn, "d3", dry_run=False)
    assert (await put(conn, "late", 9, pool=SMALL)).device.tunnel_ip == "10.9.0.4"


async def test_where_routers_without_a_device_hold_the_rest_of_the_pool_they_are_named(conn: TrioConnection) -> None:
    for number in (1, 2):
        await put(conn, f"d{number}", number, pool=SMALL)
    for number in (3, 4, 5, 6):
        await registry.put(conn, NewRouter(id=f"lone-{number}", host=f"10.9.0.{number}"), SEALER)
    with pytest.raises(
        PoolExhausted, match=r", 3 of them by routers that have no device, such as lone-4, lone-5, lone-6"
    ):
        await put(conn, "late", 9, pool=SMALL)
    await registry.remove(conn, "lone-5")
    assert (await put(conn, "late", 9, pool=SMALL)).device.tunnel_ip == "10.9.0.5"
    await registry.remove(conn, "lone-4")
    await registry.remove(conn, "lone-6")
    for number in (7, 8):
        await put(conn, f"d{number}", number, pool=SMALL)
    with pytest.raises(PoolExhausted, match=r"\(WG_TUNNEL_POOL\)$"):
        await put(conn, "later", 10, pool=SMALL)


@pytest.mark.parametrize("tiny", ["10.9.0.0/31", "10.9.0.0/32", "fd00::/127"])
async def test_a_pool_without_a_host_to_spare_gives_none(conn: TrioConnection, tiny: str) -> None:
    with pytest.raises(PoolExhausted):
        await put(conn, "a", 1, pool=ip_network(tiny))


async def test_a_pool_may_be_of_ipv6(conn: TrioConnection) -> None:
    gave = [(await put(conn, f"d{number}", number, pool=ip_network("fd00:7::/64"))).device for number in (1, 2)]
    assert [device.tunnel_ip for device in gave] == ["fd00:7::2", "fd00:7::3"]
    assert gave[0].allowed_ips == ("fd00:7::2/128",)
    assert (await put(conn, "d1", 1)).outcome is Outcome.SAME


async def test_nobody_gets_the_address_of_the_server(conn: TrioConnection) -> None:
    with pytest.raises(TunnelIpTaken, match=r"10\.200\.0\.1 is this server's"):
        await put(conn, "a", 1, tunnel_ip="10.200.0.1", pool=POOL)
    for allowed in ("10.200.0.0/16", "10.0.0.0/8", "10.200.0.1/32"):
        with pytest.raises(AllowedIpsTaken, match=r"10\.200\.0\.1 is among them"):
            await put(conn, "a", 1, tunnel_ip="10.200.0.9", allowed_ips=(allowed,), pool=POOL, allocate=False)
    with pytest.raises(DeviceNotFound):
        await get(conn, "a")


async def test_one_that_is_removed_leaves_its_keys_as_tombstones_and_everything_else_is_free(
    conn: TrioConnection,
) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await put(conn, "a", 2)
    await bindings.make_missing(conn, dry_run=False)
    removed = await devices.remove(conn, "a", dry_run=False)
    assert removed.keys == (key(1), key(2))
    assert await tombstones(conn) == {key(1), key(2)}
    assert await bindings.list_all(conn, dry_run=False) == []
    with pytest.raises(DeviceNotFound):
        await devices.remove(conn, "a", dry_run=False)
    again = await put(conn, "b", 1, tunnel_ip="10.200.0.7")
    assert again.outcome is Outcome.MADE
    assert await tombstones(conn) == {key(2)}


async def test_only_what_is_still_a_tombstone_is_buried(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    await put(conn, "b", 2)
    await devices.remove(conn, "a", dry_run=False)
    await devices.remove(conn, "b", dry_run=False)
    await put(conn, "c", 2)
    assert await devices.bury(conn, [key(1), key(2), key(3)], 0, dry_run=False) == {key(1)}
    assert await tombstones(conn) == frozenset()
    with pytest.raises(PublicKeyTaken):
        await put(conn, "d", 2)


async def test_a_key_that_is_removed_takes_what_it_stands_for(conn: TrioConnection) -> None:
    async def remove(number: int) -> bool:
        return await devices.remove_key(conn, key(number), dry_run=False)

    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await put(conn, "a", 2)
    assert await remove(2)
    assert (await get(conn, "a")).next_public_key is None
    assert await remove(1)
    assert await devices.find_key(conn, key(1), dry_run=False) is None
    assert not await remove(3)
    assert not await remove(3)
    await bindings.bind(conn, key(4), "by-hand", "10.0.0.9", dry_run=False)
    assert await remove(4)
    assert await tombstones(conn) == {key(1), key(2), key(3), key(4)}


async def test_what_is_pretended_is_a_world_of_its_own(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    pretended = await put(conn, "a", 1, tunnel_ip="10.200.0.7", dry_run=True)
    assert pretended.outcome is Outcome.MADE
    with pytest.raises(TunnelIpTaken):
        await put(conn, "b", 2, tunnel_ip="10.200.0.7", dry_run=True)
    assert (await put(conn, "b", 2, pool=POOL, dry_run=True)).device.tunnel_ip == "10.200.0.2"
    await put(conn, "a", 3, dry_run=True)
    await devices.remove_key(conn, key(9), dry_run=True)
    await devices.remove(conn, "a", dry_run=True)
    assert [device.id for device in await devices.page(conn, None, 10, dry_run=False)] == ["a"]
    for dry_run in (False, True):
        assert await devices.tombstones(conn, dry_run=dry_run) == {}


async def test_preshared_keys_are_sealed_and_told_by_no_repr(conn: TrioConnection) -> None:
    made = await put(conn, "a", 1, preshared_key=PSK)
    sealed = made.device.preshared_key_sealed
    assert sealed is not None
    assert SEALER.open(sealed, about=preshared_key_of("a")) == PSK
    assert "sealed" not in repr(made)
    assert (await put(conn, "a", 1, preshared_key=PSK)).outcome is Outcome.SAME
    assert (await put(conn, "a", 1, preshared_key=Secret("other"))).outcome is Outcome.CHANGED
    elsewhere = Sealer((Secret(bytes(32)),))
    new = NewDevice(id="a", public_key=key(1), preshared_key=PSK)
    replaced = await devices.put(conn, new, elsewhere, dry_run=False)
    assert replaced.device.preshared_key_sealed is not None
    assert elsewhere.open(replaced.device.preshared_key_sealed, about=preshared_key_of("a")) == PSK


async def test_without_a_master_key_nothing_is_stored_that_would_need_one(conn: TrioConnection) -> None:
    with pytest.raises(SealingUnavailable):
        await devices.put(conn, NewDevice(id="a", public_key=key(1), preshared_key=PSK), NONE, dry_run=False)
    with pytest.raises(DeviceNotFound):
        await get(conn, "a")
    assert (await devices.put(conn, NewDevice(id="a", public_key=key(1)), NONE, dry_run=False)).outcome is Outcome.MADE


@pytest.mark.parametrize(
    "meta",
    [{"x": "\0"}, {"\0": 1}, {"x": "\\\0"}, {"x": "\ud800"}, {"x": "y" * META_MAX_BYTES}, {"x": {"y": [object()]}}],
    ids=range(6),
)
async def test_notes_that_the_database_does_not_take_are_refused(conn: TrioConnection, meta: dict[str, Any]) -> None:
    with pytest.raises(Misfit):
        await put(conn, "a", 1, meta=meta)


async def test_notes_may_speak_of_escapes(conn: TrioConnection) -> None:
    meta = {"x": "\\u0000", "y": "é \\\\u0000", "z": [1, 2.5, None, {"deep": True}]}
    assert (await put(conn, "a", 1, meta=meta)).device.meta == meta
    assert (await put(conn, "a", 1, meta=meta)).outcome is Outcome.SAME


async def test_there_is_a_most_of_devices_and_of_keys(conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DEVICES_MAX", 2)
    monkeypatch.setattr(devices, "KEYS_MAX", 4)
    await put(conn, "a", 1)
    await put(conn, "b", 2)
    with pytest.raises(TooManyDevices, match="there are 2 devices"):
        await put(conn, "c", 3)
    await put(conn, "a", 3)
    await put(conn, "a", 4)
    with pytest.raises(TooManyDevices, match="wait to be taken off"):
        await put(conn, "b", 5)
    with pytest.raises(TooManyDevices):
        await devices.remove_key(conn, key(6), dry_run=False)
    assert (await put(conn, "b", 2, keepalive=5)).outcome is Outcome.CHANGED


async def test_all_are_read_portion_by_portion_and_page_by_page(conn: TrioConnection) -> None:
    for number in range(7):
        await put(conn, f"d{number}", number)
    oldest, after = [], 0
    while found := await devices.portion(conn, after, 3, dry_run=False):
        oldest += [device.id for device in found]
        after = found[-1].seq
    assert oldest == [f"d{number}" for number in range(7)]
    first = await devices.page(conn, None, 4, dry_run=False)
    rest = await devices.page(conn, first[-1].seq, 4, dry_run=False)
    assert [device.id for device in [*first, *rest]] == oldest[::-1]
    assert {device.id for device in await devices.some(conn, ["d1", "d3", "no"], dry_run=False)} == {"d1", "d3"}


async def test_it_runs_within_the_callers_transaction(conn: TrioConnection) -> None:
    async with conn.transaction(force_rollback=True):
        assert (await put(conn, "a", 1)).outcome is Outcome.MADE
    with pytest.raises(DeviceNotFound):
        await get(conn, "a")


async def at_once(pool: Pool, count: int, one: Callable[[TrioConnection, int], Any]) -> list[Any]:
    """What each of them got, all on connections of their own: a result, or the refusal."""
    results: list[Any] = []

    async def run(number: int) -> None:
        async with pool.connection() as conn:
            try:
                results.append(await one(conn, number))
            except OpenDeskError as refusal:
                results.append(refusal)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(run, number)
    return results


async def test_many_at_once_get_an_address_each(pool: Pool) -> None:
    results = await at_once(pool, 40, lambda conn, number: put(conn, f"d{number}", number, pool=POOL))
    assert {result.device.tunnel_ip for result in results} == {f"10.200.0.{number}" for number in range(2, 42)}


async def test_of_many_at_once_for_the_last_address_one_gets_it(pool: Pool) -> None:
    results = await at_once(
        pool, 8, lambda conn, number: put(conn, f"d{number}", number, pool=ip_network("10.9.0.0/30"))
    )
    assert sorted(type(result).__name__ for result in results) == ["PoolExhausted"] * 7 + ["Registered"]


async def test_the_same_device_many_times_at_once_is_made_once(pool: Pool) -> None:
    results = await at_once(pool, 8, lambda conn, _number: put(conn, "a", 1, pool=POOL))
    assert sorted(result.outcome.value for result in results) == ["made"] + ["same"] * 7
    assert {result.device.tunnel_ip for result in results} == {"10.200.0.2"}


async def test_of_many_at_once_one_gets_the_key_and_one_the_prefix(pool: Pool) -> None:
    results = await at_once(pool, 8, lambda conn, number: put(conn, f"k{number}", 1))
    assert sorted(type(result).__name__ for result in results) == ["PublicKeyTaken"] * 7 + ["Registered"]
    wanted = ["172.16.0.0/24", "172.16.0.0/16", "172.16.0.7/32", "172.16.0.0/29"]
    results = await at_once(
        pool, 4, lambda conn, number: put(conn, f"p{number}", 2 + number, allowed_ips=(wanted[number],))
    )
    made = [result for result in results if isinstance(result, Registered)]
    assert made
    held = [ip_network(prefix) for result in made for prefix in result.device.allowed_ips]
    assert not any(one.overlaps(other) for one in held for other in held if one is not other)
    assert all(isinstance(result, Registered | AllowedIpsTaken) for result in results)


async def test_removing_and_registering_at_once_loses_neither(pool: Pool) -> None:
    async def churn(conn: TrioConnection, number: int) -> str:
        for _ in range(5):
            gave = await put(conn, f"d{number}", number, pool=POOL)
            await devices.remove(conn, f"d{number}", dry_run=False)
        return gave.outcome.value

    assert await at_once(pool, 8, churn) == ["made"] * 8
    async with pool.connection() as conn:
        assert await tombstones(conn) == {key(number) for number in range(8)}
        assert await conn.fetch("SELECT FROM tunnel_prefixes") == []
