"""Routers and the interface that they dial."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
import time
from typing import Final

from attrs import evolve
import trio

from opendesk.doctor.judging.routers import Router, moment_of
from opendesk.doctor.judging.tunnels import Tunnels
from opendesk.doctor.looking.system import interface_is_up
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.errors import LoginRefused, RouterOsError, Trap
from opendesk.network.routeros.session import Command
from opendesk.network.routers.link import Api, Connect, target_of
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.tunnels.keeping import presence
from opendesk.network.wireguard.wg import ProgramMissing, Run, Wg, WgError
from opendesk.settings import Settings

# At a time: a thousand routers of which a third are dead are through within 20 s, and no router has two of us.
AT_ONCE: Final = 100
# Of one router, whatever its own timeout is; a doctor isn't waited for as a job is.
_ROUTER_S: Final = 5.0
_ERROR_CHARS: Final = 200
_CLOCK: Final = Command("/system/clock/print", proplist=("date", "time", "gmt-offset"))


async def routers(
    specs: Mapping[str, RouterSpec],
    circuits: Mapping[str, bool],
    *,
    within_s: float,
    connect_to: Connect = connect,
    on_done: Callable[[int], None] = lambda _count: None,
) -> list[Router]:
    """All of them, as far as time allows."""
    found: dict[str, Router] = {}
    places = trio.CapacityLimiter(AT_ONCE)

    async def one(spec: RouterSpec) -> None:
        async with places:
            found[spec.id] = await _router(spec, connect_to, is_open=circuits.get(spec.id, False))
            on_done(len(found))

    with trio.move_on_after(within_s):
        async with trio.open_nursery() as nursery:
            for spec in specs.values():
                nursery.start_soon(one, spec)
    late = Router(id="", outcome="not looked at", error=f"there was no time left for it within {within_s:.0f} s")
    return [found.get(name) or evolve(late, id=name) for name in sorted(specs)]


async def _router(spec: RouterSpec, connect_to: Connect, *, is_open: bool) -> Router:
    router = Router(id=spec.id, outcome="well", is_open=is_open)
    if spec.fault is not None:
        return evolve(router, outcome="fault", error=spec.fault)
    try:
        with trio.fail_after(_ROUTER_S):
            async with connect_to(evolve(target_of(spec), timeout_s=min(spec.timeout_s, _ROUTER_S))) as api:
                return evolve(router, ahead_s=await _ahead(api))
    except LoginRefused:
        return evolve(router, outcome="refused", error="it lets this user and password not in")
    except trio.TooSlowError:
        return evolve(router, outcome="unreachable", error=f"no answer within {_ROUTER_S:.0f} s")
    except (RouterOsError, OSError) as error:
        return evolve(router, outcome="unreachable", error=str(error)[:_ERROR_CHARS])


async def _ahead(api: Api) -> float | None:
    try:
        rows = (await api.run(_CLOCK)).rows
    except Trap:
        return None  # it won't tell this user; it is well all the same
    told = rows[0] if rows else {}
    moment = moment_of(told.get("date", ""), told.get("time", ""), told.get("gmt-offset", ""))
    return None if moment is None else (moment - datetime.now(UTC)).total_seconds()


async def tunnels(settings: Settings, *, has_net_admin: bool | None, run: Run = trio.run_process) -> Tunnels:
    assert settings.wg_interface is not None
    found = Tunnels(
        interface=settings.wg_interface,
        told_key=settings.wg_vps_public_key,
        told_port=_port_of(settings.wg_vps_endpoint),
        has_net_admin=has_net_admin,
        is_up=interface_is_up(settings.wg_interface),
    )
    try:
        interface = await Wg(settings.wg_interface, run).read()
    except ProgramMissing:
        return evolve(found, is_installed=False)
    except WgError as error:
        return evolve(found, fault=str(error))
    counts = presence.count(interface.peers.values(), time.time(), settings.relay_handshake_online_seconds)
    return evolve(
        found,
        public_key=interface.public_key,
        listen_port=interface.listen_port,
        online=counts["ONLINE"],
        offline=counts["OFFLINE"],
        never=counts["NEVER_CONNECTED"],
    )


def _port_of(endpoint: str | None) -> int | None:
    return None if endpoint is None else int(endpoint.rpartition(":")[2])
