"""Keys bound to routers, by hand or because a device has a tunnel IP; and what listeners are told of all this."""

import psycopg
import pytest
import trio

from opendesk.network.tunnels.errors import BindingNotFound
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.postgres.driver import TrioConnection
from tests.network.tunnels.test_devices import get, key, put


async def bind(conn: TrioConnection, number: int, ip: str = "10.200.0.9", name: str = "a") -> bindings.Binding:
    return await bindings.bind(conn, key(number), name, ip, dry_run=False)


async def all_of(conn: TrioConnection, *, dry_run: bool = False) -> dict[str, str]:
    return {bound.public_key: bound.mikrotik_ip for bound in await bindings.list_all(conn, dry_run=dry_run)}


async def test_one_is_bound_found_changed_and_let_go(conn: TrioConnection) -> None:
    bound = await bind(conn, 1)
    assert (bound.public_key, bound.device_id, bound.mikrotik_ip) == (key(1), "a", "10.200.0.9")
    assert await bind(conn, 1) == bound
    assert (await bind(conn, 1, "fd00::9", "b")).mikrotik_ip == "fd00::9"
    assert (await bindings.find(conn, key(1), dry_run=False)).device_id == "b"
    assert await bindings.keys(conn, dry_run=False) == {key(1)}
    assert await bindings.unbind(conn, key(1), dry_run=False)
    assert not await bindings.unbind(conn, key(1), dry_run=False)
    with pytest.raises(BindingNotFound):
        await bindings.find(conn, key(1), dry_run=False)


async def test_a_device_is_bound_where_it_is_registered_unless_somebody_bound_its_key(conn: TrioConnection) -> None:
    for dry_run in (False, True):
        await bindings.bind(conn, key(2), "by-hand", "10.5.5.5", dry_run=dry_run)
        await put(conn, "a", 1, tunnel_ip="10.200.0.7", dry_run=dry_run)
        await put(conn, "b", 2, tunnel_ip="10.200.0.8", dry_run=dry_run)
        await put(conn, "c", 3, allowed_ips=("10.1.0.0/24",), dry_run=dry_run)
        assert await all_of(conn, dry_run=dry_run) == {key(1): "10.200.0.7", key(2): "10.5.5.5"}
        await put(conn, "c", 3, tunnel_ip="10.200.0.9", dry_run=dry_run)
        assert (await bindings.find(conn, key(3), dry_run=dry_run)).device_id == "c"
        assert await bindings.make_missing(conn, dry_run=dry_run) == []


async def test_missing_ones_are_made_once_and_those_by_hand_stay(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await put(conn, "b", 2, tunnel_ip="10.200.0.8")
    await put(conn, "c", 3, allowed_ips=("10.1.0.0/24",))
    await put(conn, "a", 4, tunnel_ip="10.200.0.7", dry_run=True)
    await conn.run("DELETE FROM tunnel_bindings")  # as with what was registered before they were made at once
    await bind(conn, 2, "10.5.5.5")
    made = await bindings.make_missing(conn, dry_run=False)
    assert [(one.public_key, one.device_id, one.mikrotik_ip) for one in made] == [(key(1), "a", "10.200.0.7")]
    assert await bindings.make_missing(conn, dry_run=False) == []
    assert await all_of(conn) == {key(1): "10.200.0.7", key(2): "10.5.5.5"}
    assert await all_of(conn, dry_run=True) == {}


async def test_a_binding_goes_along_when_the_tunnel_ip_does_unless_it_is_another(conn: TrioConnection) -> None:
    await put(conn, "a", 1, tunnel_ip="10.200.0.7")
    await put(conn, "b", 2, tunnel_ip="10.200.0.8")
    await bindings.make_missing(conn, dry_run=False)
    await bind(conn, 2, "10.5.5.5", "b")
    await put(conn, "a", 1, tunnel_ip="10.200.0.17")
    await put(conn, "b", 2, tunnel_ip="10.200.0.18")
    assert await all_of(conn) == {key(1): "10.200.0.17", key(2): "10.5.5.5"}


async def test_a_device_keeps_its_id(conn: TrioConnection) -> None:
    await put(conn, "a", 1)
    with pytest.raises(psycopg.errors.RestrictViolation, match="keeps its id"):
        await conn.run("UPDATE tunnel_devices SET id = 'b'")
    assert (await get(conn, "a")).id == "a"


async def test_listeners_are_told_which_device_and_nothing_where_nothing_changed(
    conn: TrioConnection, conninfo: str
) -> None:
    heard: list[str] = []
    async with await TrioConnection.connect(conninfo, autocommit=True) as listener:
        listener.add_notify_handler(lambda notify: heard.append(notify.payload))
        await listener.execute(f"LISTEN {devices.CHANNEL}")

        async def told() -> list[str]:
            await conn.run("SELECT pg_notify(%(channel)s, 'end')", {"channel": devices.CHANNEL})
            with trio.fail_after(10):
                while "end" not in heard:
                    await listener.fetch("SELECT")
            said = heard[: heard.index("end")]
            heard.clear()
            return said

        await put(conn, "a", 1, tunnel_ip="10.200.0.7")
        assert await told() == ["a"]
        await put(conn, "a", 1, tunnel_ip="10.200.0.7")
        assert await told() == []
        await bind(conn, 1, "10.5.5.5")
        await bindings.unbind(conn, key(1), dry_run=False)
        assert len(await bindings.make_missing(conn, dry_run=False)) == 1
        await devices.bury(conn, [key(1)], 0, dry_run=False)
        assert await told() == []
        await bind(conn, 2)
        assert await told() == [""]
        await bind(conn, 2)
        assert await told() == []
        await bindings.unbind(conn, key(2), dry_run=False)
        assert await told() == [""]
        await devices.remove_key(conn, key(5), dry_run=False)
        assert await told() == [""]
        await devices.remove(conn, "a", dry_run=False)
        assert sorted(await told()) == ["", "a"]


async def test_whoever_binds_a_key_spares_it_from_going(conn: TrioConnection) -> None:
    """It was taken off a moment ago, and somebody put it there again by hand."""
    await devices.remove_key(conn, key(7), dry_run=False)
    assert key(7) in await devices.tombstones(conn, dry_run=False)
    await bind(conn, 7)
    assert key(7) not in await devices.tombstones(conn, dry_run=False)
