"""Preshared keys are sealed anew with the first key of RELAY_MASTER_KEY, as routers' passwords are."""

import pytest

from opendesk.network import rekeying
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.device import Login, preshared_key_of
from opendesk.network.tunnels.registry.devices import NewDevice
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from tests.network.tunnels.test_devices import key

OLD, NEW, OTHER = (Secret(bytes(range(start, start + 32))) for start in (0, 32, 64))


async def put(conn: TrioConnection, name: str, number: int, *, by: Secret[bytes], dry_run: bool = False) -> None:
    new = NewDevice(id=name, public_key=key(number), preshared_key=Secret(f"psk {number}"))
    await devices.put(conn, new, Sealer((by,)), dry_run=dry_run)


async def test_present_and_next_ones_in_both_worlds(conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "BATCH", 2)
    for dry_run in (False, True):
        for number in range(5):
            await put(conn, f"d{number}", number, by=OLD, dry_run=dry_run)
        await put(conn, "d0", 10, by=OLD, dry_run=dry_run)
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(12, (), ())
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(0, (), ())
    for dry_run in (False, True):
        for device in await devices.portion(conn, 0, 10, dry_run=dry_run):
            for sealed, number in (
                (device.preshared_key_sealed, int(device.id[1:])),
                (device.next_preshared_key_sealed, 10),
            ):
                if sealed is not None:
                    opened = Sealer((NEW,)).open(sealed, about=preshared_key_of(device.id))
                    assert opened == Secret(f"psk {number}")


async def test_a_password_that_waits_with_a_next_key(conn: TrioConnection) -> None:
    await put(conn, "a", 1, by=OLD)
    login = Login("u", Secret("hush"), None)
    await devices.put(conn, NewDevice(id="a", public_key=key(2), login=login), Sealer((OLD,)), dry_run=False)
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(2, (), ())
    [device] = await devices.some(conn, ["a"], dry_run=False)
    assert device.next_password_sealed is not None
    assert Sealer((NEW,)).open(device.next_password_sealed, about=password_of("a")) == Secret("hush")


async def test_what_no_key_opens_is_named(conn: TrioConnection) -> None:
    await put(conn, "lost", 1, by=OTHER)
    await put(conn, "lost", 2, by=OTHER)
    await put(conn, "old", 3, by=OLD)
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(1, (), ("lost",))
