"""What the network's part of a daemon is made of, put together; nothing runs yet."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import uuid4

from attrs import frozen
import trio

from opendesk.network import overview_api, relay_api, upkeep
from opendesk.network.events.acks import ACK_EVENT, PATIENCE_S
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.parts import events
from opendesk.network.figures import NetworkFigures
from opendesk.network.gathering import Gathering
from opendesk.network.hotspots import api as hotspots
from opendesk.network.hotspots.actions import Actions
from opendesk.network.hotspots.executor import Executor
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import Retries, add_many
from opendesk.network.jobs.runner import Runner, Terms
from opendesk.network.jobs.waiting import Waiters
from opendesk.network.routeros.client import connect as connect_router
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.link import Connect
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.api import devices_api, peers_api, scripts_api, setup_api
from opendesk.network.tunnels.api.registering import Registering
from opendesk.network.tunnels.api.setting_up import SettingUp
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.reconcile import Terms as TunnelTerms
from opendesk.network.tunnels.keeping.reconcile import Tunnels
from opendesk.network.wireguard.wg import Run, Wg
from opendesk.ops.audit import Audit
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.web.endpoint import Endpoint, WebRequest

Service = Callable[[], Awaitable[None]]

# Where the power comes back, it does for all routers at once.
RESTORED_TOGETHER: Final = 500
# Of a stop's last second (daemon.ENDING_S): what is nearly done is done in a round trip or two, the rest is given back.
FINISH_S: Final = 0.25


@frozen
class Network:
    """`fleet` outlives `services`: jobs that are nearly done still need their routers."""

    fleet: Fleet
    tunnels: Tunnels
    services: Mapping[str, Service]
    endpoints: tuple[Endpoint, ...]


def network(
    settings: Settings,
    *,
    pool: Pool,
    jobs: Pool,
    listen: Callable[[], Awaitable[TrioConnection]],
    figures: NetworkFigures,
    tunnel_figures: TunnelFigures,
    event_figures: EventFigures,
    check_may_see: Callable[[WebRequest], None],
    connect: Connect = connect_router,
    run_process: Run = trio.run_process,
) -> Network:
    """Calls take their connections from `pool`, jobs and routers theirs from `jobs`: neither waits for a crowd of the other's.

    `connect` dials routers, and `run_process` runs `wg`.
    """
    audit, waiters = Audit(figures.audited), Waiters(jobs)
    fleet = Fleet(jobs, listen, settings, uuid4(), connect)
    tunnels = _tunnels(settings, jobs, listen, tunnel_figures, run_process)
    executor = Executor(jobs, fleet, audit, figures, tunnels.peer_silent_for)
    taking = events(
        settings,
        pool=jobs,
        fleet=fleet,
        node=fleet.node,
        audit=audit,
        figures=event_figures,
        peer_silent_for=tunnels.peer_silent_for,
    )
    runner = Runner(jobs, listen, fleet.node, _terms(settings), executor, waiters, taking.handlers)
    fleet.lane_opened, fleet.gone = runner.wake, figures.forget_router
    restoring: Gathering[str, None] = Gathering(partial(_restore, jobs), RESTORED_TOGETHER)
    fleet.on_reboot = restoring.ask  # of a dry run none reboots
    actions = Actions(pool, fleet, waiters, audit, settings.relay_action_timeout_ms / 1000)
    fleet.silent_for, tunnels.came_back = tunnels.offline_for, fleet.tunnels_came_back
    registering = Registering(pool, settings, tunnels)
    setting_up = SettingUp(pool, listen, settings, connect, tunnels.forget_endpoint)
    services: dict[str, Service] = {
        "tunnels": tunnels.run,
        "jobs": runner.run,
        **taking.services,
        "job_figures": partial(upkeep.keep_figures, jobs, figures, event_figures),
        "network_retention": partial(upkeep.retention, jobs, settings.events_retention_days),
    }
    endpoints = (
        *hotspots.endpoints(actions),
        *overview_api.endpoints(fleet),
        *devices_api.endpoints(devices_api.Devices(pool, registering, fleet, audit, settings)),
        *scripts_api.endpoints(scripts_api.Scripts(registering, audit, settings)),
        *setup_api.endpoints(setup_api.Setup(pool, registering, setting_up, audit, settings)),
        *peers_api.endpoints(peers_api.Peers(pool, registering, audit, settings)),
        *relay_api.endpoints(relay_api.RelayPages(figures, check_may_see)),
    )
    return Network(fleet, tunnels, services, endpoints)


def _tunnels(
    settings: Settings,
    pool: Pool,
    listen: Callable[[], Awaitable[TrioConnection]],
    figures: TunnelFigures,
    run_process: Run,
) -> Tunnels:
    wg = None if settings.wg_interface is None else Wg(settings.wg_interface, run_process)
    return Tunnels(pool, listen, wg, TunnelTerms.of(settings), Sealer(settings.relay_master_key), figures)


async def _restore(pool: Pool, routers: Sequence[str]) -> list[None]:
    """Routers that rebooted have forgotten what had a time-out. It joins no such job: one that runs may have been before the reboot."""
    async with pool.connection() as conn:
        await add_many(conn, [Work(Kind.RESTORE, router).job(f"reboot:{router}") for router in routers])
    return [None] * len(routers)


def _terms(settings: Settings) -> Terms:
    base_s = settings.relay_job_backoff_base_ms / 1000
    retries = Retries(settings.relay_job_max_attempts, base_s, patience_s={ACK_EVENT: PATIENCE_S})
    return Terms(settings.relay_lock_ttl_ms / 1000, retries, finish_s=FINISH_S)
