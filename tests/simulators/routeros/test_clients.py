"""Clients that others wrote log in to the simulated router, and read and write as on a router.

They block, so each runs in a thread. Of an old router they answer the challenge.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
import socket
from typing import Any

import librouteros
from librouteros.exceptions import MultiTrapError, TrapError
from librouteros.login import plain, token
from librouteros.query import And, Key, Or
import pytest
import routeros
import routeros_api
from routeros_api.exceptions import RouterOsApiCommunicationError
import trio

from opendesk.simulators.routeros import PASSWORD, USER, Refused, Router, simulated

MAC, IP = "AA:BB:CC:DD:EE:FF", "10.5.50.7"
COMMENT = 'pedido: "a" = b\n$x'
ROW = {"address": IP, "list": "paid_clients", "comment": COMMENT}

# What a client that hangs is given; nothing is measured by it.
PATIENCE_S = 10

versions = pytest.mark.parametrize("version", ["7.12.2", "7.17", "7.18", "7.24"])


async def talked(router: Router, talk: Callable[[str, int], None]) -> None:
    async with simulated(router) as (host, port):
        await trio.to_thread.run_sync(talk, host, port)


def librouteros_api(host: str, port: int, **options: Any) -> Any:
    return closing(librouteros.connect(host, USER, PASSWORD, port=port, encoding="utf-8", **options))


@versions
async def test_librouteros_reads_and_writes(version: str) -> None:
    router = Router("cafe", version=version)

    def talk(host: str, port: int) -> None:
        with librouteros_api(host, port) as api:
            assert list(api("/system/identity/print")) == [{"name": "cafe"}]
            lists = api.path("ip", "firewall", "address-list")
            assert lists.add(**ROW) == "*1"
            address, of = Key("address"), Key("list")
            assert list(lists.select(Key(".id"), address).where(And(address == IP, of == "paid_clients"))) == [
                {".id": "*1", "address": IP}
            ]
            assert [
                row["comment"] for row in lists.select().where(Or(address == "10.0.0.0", of.In("x", "paid_clients")))
            ] == [COMMENT]
            assert list(lists.select(address).where(address != IP)) == []
            lists.update(**{".id": "*1", "comment": "ü", "disabled": True})
            with pytest.raises(TrapError, match="already have such entry"):
                lists.add(**ROW)
            with pytest.raises(TrapError, match="no such item"):
                lists.remove("*1", "*7")
            lists.add(address="10.5.50.8", list="paid_clients", timeout="1h")

    await talked(router, talk)
    first, second = router.rows("/ip/firewall/address-list")
    assert (first["comment"], first["disabled"], second["dynamic"]) == ("ü", "true", "true")


async def test_librouteros_answers_an_old_router_and_is_refused_with_a_wrong_password() -> None:
    def talk(method: Any, host: str, port: int) -> None:
        with librouteros_api(host, port, login_method=method) as api:
            assert next(iter(api("/user/print")))["name"] == USER
        with pytest.raises((TrapError, MultiTrapError), match="invalid user name or password"):
            librouteros.connect(host, USER, "wrong", port=port, login_method=method)

    await talked(Router(asks_challenge=True), partial(talk, token))
    await talked(Router(), partial(talk, plain))


def pool(host: str, port: int, **options: Any) -> Any:
    return routeros_api.RouterOsApiPool(host, USER, PASSWORD, port, **options)


@versions
async def test_routeros_api_reads_and_writes(version: str) -> None:
    router = Router(version=version)

    def talk(host: str, port: int) -> None:
        connection = pool(host, port, plaintext_login=True)
        try:
            bindings = connection.get_api().get_resource("/ip/hotspot/ip-binding")
            added = bindings.add(mac_address=MAC, address=IP, type="bypassed", comment=COMMENT)
            assert added.done_message == {"ret": "*1"}
            assert [row["comment"] for row in bindings.get(address=IP)] == [COMMENT]
            assert bindings.get(address="10.0.0.0") == []
            assert [row["type"] for row in bindings.detailed_get()] == ["bypassed"]
            bindings.set(id="*1", disabled="yes")
            bindings.call("enable", {"numbers": "*1"})
            with pytest.raises(RouterOsApiCommunicationError, match="such client already exists"):
                bindings.add(mac_address=MAC, address=IP)
            with pytest.raises(RouterOsApiCommunicationError, match="unknown parameter"):
                bindings.add(colour="red")
            # Several under way at once, by tag.
            asked = [bindings.get_async(address=address) for address in (IP, "10.0.0.0", IP)]
            assert [len(answer.get()) for answer in asked] == [1, 0, 1]
            bindings.remove(id="*1")
        finally:
            connection.disconnect()

    await talked(router, talk)
    assert router.rows("/ip/hotspot/ip-binding") == []


async def test_routeros_api_answers_an_old_router_and_is_refused_with_a_wrong_password() -> None:
    def talk(host: str, port: int, *, plaintext: bool) -> None:
        connection = pool(host, port, plaintext_login=plaintext)
        try:
            assert connection.get_api().get_resource("/system/identity").get() == [{"name": "router"}]
        finally:
            connection.disconnect()
        wrong = routeros_api.RouterOsApiPool(host, USER, "wrong", port, plaintext_login=plaintext)
        try:
            with pytest.raises(RouterOsApiCommunicationError, match="invalid user name or password"):
                wrong.get_api()
        finally:
            wrong.disconnect()

    await talked(Router(asks_challenge=True), partial(talk, plaintext=False))
    await talked(Router(), partial(talk, plaintext=True))


@versions
async def test_routeros_py_reads_writes_and_listens(version: str) -> None:
    router = Router(version=version)

    def talk(host: str, port: int) -> None:
        with routeros.dial(f"{host}:{port}", USER, PASSWORD) as client:
            added = client.run("/ip/firewall/address-list/add", *(f"={name}={value}" for name, value in ROW.items()))
            assert added.done is not None
            assert added.done.map == {"ret": "*1"}
            with pytest.raises(routeros.DeviceError, match="no such item"):
                client.run("/ip/firewall/address-list/remove", "=.id=*7")
            printed = client.run("/ip/firewall/address-list/print", "?list=paid_clients", "=.proplist=comment")
            assert [row.map for row in printed.re] == [{"comment": COMMENT}]
            heard = client.listen("/ip/firewall/address-list/listen")
            client.run("/ip/firewall/address-list/set", "=.id=*1", "=comment=later")
            told = heard.chan().get(timeout=PATIENCE_S)
            assert told is not None
            assert told.map["comment"] == "later"
            heard.cancel()

    await talked(router, talk)
    assert router.rows("/ip/firewall/address-list")[0]["comment"] == "later"


async def test_routeros_py_answers_an_old_router_and_is_refused_with_a_wrong_password() -> None:
    def talk(host: str, port: int) -> None:
        with routeros.dial(f"{host}:{port}", USER, PASSWORD) as client:
            assert client.run("/system/resource/print").re[0].map["version"] == "7.24 (stable)"
        # `dial` would leave the socket open.
        refused = pytest.raises(routeros.DeviceError, match="invalid user name or password")
        with socket.create_connection((host, port), timeout=PATIENCE_S) as sock, refused:
            routeros.Client(sock)._login(USER, "wrong")

    await talked(Router(asks_challenge=True), talk)
    await talked(Router(), talk)


async def test_a_client_that_holds_a_reader_too_few_rights_is_told() -> None:
    def talk(host: str, port: int) -> None:
        with (
            closing(librouteros.connect(host, "ann", "secret", port=port)) as api,
            pytest.raises(TrapError, match="not enough"),
        ):
            api.path("ip", "firewall", "address-list").add(address=IP, list="a")

    router = Router(users={"ann": ("secret", "read")})
    await talked(router, talk)
    with pytest.raises(Refused):
        router.run("/ip/firewall/address-list/remove", {".id": "*1"})
