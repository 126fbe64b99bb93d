"""A router that rebooted has forgotten what had a time-out: it is noticed, and what is granted is put back at once."""

from opendesk.simulators.routeros import Trapped
from tests.network.behind import BINDINGS, HERE, IP, LISTS, MAC, SCHEDULERS, aged_router, behind, good, held, until

OTHER = {"ipAtual": "10.5.50.8", "macAtual": "AA:BB:CC:DD:EE:02"}


async def test_what_a_reboot_took_is_put_back(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        for place in (HERE, OTHER):
            router.phone(place["macAtual"], place["ipAtual"])
        good(await net.authorize("timed", **HERE, minutes=60))
        good(await net.authorize("forever", **OTHER))
        before = held(router)
        schedulers = [row["name"] for row in router.rows(SCHEDULERS)]
        router.reboot()
        assert len(router.rows(LISTS)) == 1
        await until(lambda: held(router) == before)
        assert [row["name"] for row in router.rows(SCHEDULERS)] == schedulers
        assert router.is_online(MAC, IP)
        assert router.is_online(OTHER["macAtual"], OTHER["ipAtual"])
        [line] = net.lines("router.rebooted")
        assert line["router"] == "r1"
        await until(lambda: net.lines("audit", action="RESTORE_GRANTS", outcome="success"))


async def test_what_ended_meanwhile_is_not_put_back(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", **HERE, minutes=60))
        good(await net.authorize("2", **OTHER, minutes=60))
        await net.sql("UPDATE hotspot_grants SET ended_at = now(), end_reason = 'revoked' WHERE pedido_id = '1'")
        router.reboot()
        await until(lambda: len(net.lines("audit", action="RESTORE_GRANTS", outcome="success")) == 2)
        assert held(router)["lists"] == ["10.5.50.8 pedido:2"]


async def test_a_reboot_is_noticed_that_happened_while_nobody_looked(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", **HERE, minutes=60))
    before = held(router)
    router.reboot()
    assert held(router) != before
    async with behind(conninfo, router) as net:
        await until(lambda: held(router) == before)


async def test_a_conflict_of_one_does_not_keep_the_others_out(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", **HERE, minutes=60))
        good(await net.authorize("2", **OTHER, minutes=60))
        router.run(f"{BINDINGS}/add", {"mac-address": MAC, "type": "blocked", "place-before": "*1"})
        router.reboot()
        await until(lambda: "10.5.50.8 pedido:2" in held(router)["lists"])
        await until(lambda: net.lines("audit", action="RESTORE_GRANTS", outcome="failure"))
        [line] = net.lines("audit", action="RESTORE_GRANTS", outcome="failure")
        assert line["error"].startswith("ROUTER_CONFLICT: ")


async def test_many_grants_are_put_back(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        for number in range(60):
            place = {"ipAtual": f"10.5.51.{number}", "macAtual": f"AA:BB:CC:DD:EF:{number:02}"}
            good(await net.authorize(str(number), **place, minutes=60))
        before = held(router)
        router.reboot()
        await until(lambda: held(router) == before)


async def test_what_a_router_refuses_keeps_nothing_else_from_it(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        for number in range(60):
            place = {"ipAtual": f"10.5.51.{number}", "macAtual": f"AA:BB:CC:DD:EF:{number:02}"}
            good(await net.authorize(str(number), **place, minutes=60))
        router.faults.decide = lambda request: (
            Trapped(None, "failure: no")
            if request.verb == "add" and request.attributes.get("address") == "10.5.51.7"
            else None
        )
        router.reboot()
        await until(lambda: len(held(router)["lists"]) == 59)
