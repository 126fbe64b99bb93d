"""All looks at once, each bounded: one that hangs or fails is a finding among others."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
import time
from typing import Final, TypeVar
from urllib.parse import urlsplit

from attrs import evolve, frozen
import trio

from opendesk import database as databases
from opendesk.doctor.finding import Finding, bad, skipped
from opendesk.doctor.judging import (
    beside,
    certificate,
    clock,
    daemon,
    database,
    disk,
    routers,
    secrets,
    settings,
    tunnels,
    work,
)
from opendesk.doctor.looking import callers, files, network, rows, system, units
from opendesk.doctor.patient import Patient, admitted
from opendesk.network.routers import registry, states
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import ledger
from opendesk.settings import Settings

T = TypeVar("T")

# Of one look. Each asks for less by itself; this is for a disk or a name server that hangs.
LOOK_S: Final = 20.0
# A thousand routers, a third of them dead: network.AT_ONCE.
ROUTERS_S: Final = 40.0
# A proof reads every entry; a million of them take some seconds.
LEDGER_S: Final = 300.0
# What is left to a look that is over its time, so that it can tell how far it came.
_SPARE_S: Final = 5.0

_TLS: Final = frozenset({"TLS_CERT", "TLS_KEY"})
_NO_DATABASE: Final = "see what is said of `database`"


class NoDatabase(Exception):
    """The look wants the database, which isn't to be had."""


@frozen(kw_only=True)
class Look:
    """`topic` names it before it has found anything."""

    topic: str
    find: Callable[[], Awaitable[Iterable[Finding]]]
    within_s: float = LOOK_S


@frozen
class Told:
    """Whom to tell what is done and what isn't yet."""

    began: Callable[[Sequence[str]], None] = lambda _topics: None
    ended: Callable[[str], None] = lambda _topic: None


async def examine(
    found: Settings,
    environ: Mapping[str, str],
    *,
    env_file: Path | None,
    quick: bool,
    faults: Sequence[str] = (),
    told: Told | None = None,
) -> list[Finding]:
    """In the order of the topics, whichever was done first. `faults` are those of the settings."""
    async with admitted(found, environ, settings.faulty(faults)) as patient:
        return await run(_looks(patient, env_file, quick=quick), told or Told())


async def run(looks: Sequence[Look], told: Told) -> list[Finding]:
    found: dict[str, list[Finding]] = {}
    told.began([look.topic for look in looks])

    async def one(look: Look) -> None:
        found[look.topic] = await _bounded(look)
        told.ended(look.topic)

    async with trio.open_nursery() as nursery:
        for look in looks:
            nursery.start_soon(one, look)
    return [finding for look in looks for finding in found[look.topic]]


async def _bounded(look: Look) -> list[Finding]:
    try:
        with trio.fail_after(look.within_s):
            return list(await look.find())
    except trio.TooSlowError:
        return [
            bad(
                f"{look.topic}.look", f"no answer within {look.within_s:.0f} s", "see what makes it hang, and try again"
            )
        ]
    except NoDatabase as error:
        return [skipped(f"{look.topic}.look", f"without the database: {error}", _NO_DATABASE)]
    except Exception as error:  # noqa: BLE001  # what nobody thought of is a finding, too, and the others' stay
        return [bad(f"{look.topic}.look", f"it can't be looked at: {_line(error)}", "mend that, and look again")]


def _looks(patient: Patient, env_file: Path | None, *, quick: bool) -> list[Look]:
    of = partial(partial, patient=patient)
    found = patient.settings
    looks = [
        Look(topic="settings", find=of(_settings)),
        Look(topic="secrets", find=of(_secrets, env_file=env_file)),
        Look(topic="clock", find=of(_clock)),
        Look(topic="disk", find=of(_disk)),
        Look(topic="database", find=of(_database)),
        Look(topic="unit", find=of(_unit)),
        Look(topic="daemon", find=of(_daemon)),
        Look(topic="jobs", find=of(_jobs)),
        Look(topic="events", find=of(_events)),
        Look(topic="routers", find=of(_routers), within_s=ROUTERS_S + _SPARE_S),
    ]
    if found.tls_cert is not None and found.tls_key is not None:
        looks.append(Look(topic="certificate", find=of(_certificate)))
    if found.wg_interface is not None and not found.relay_dry_run:
        looks.append(Look(topic="tunnels", find=of(_tunnels)))
    if _backend_urls(found):
        looks.append(Look(topic="backend", find=of(_backend)))
    if not quick:
        looks.append(Look(topic="ledger", find=of(_ledger), within_s=LEDGER_S))
    return looks


@asynccontextmanager
async def _connection(patient: Patient) -> AsyncIterator[TrioConnection]:
    if patient.pool is None:
        raise NoDatabase(patient.no_pool)
    async with patient.pool.connection() as conn:
        yield conn


async def _settings(patient: Patient) -> Iterable[Finding]:
    found = units.listens(await units.units(), patient.settings.listen_address, patient.daemon_pid)
    return settings.judge(patient.settings, patient.unknown, found)


async def _secrets(patient: Patient, env_file: Path | None) -> Iterable[Finding]:
    return secrets.judge(await _in_thread(files.secrets, patient.settings, patient.environ, env_file))


async def _clock(patient: Patient) -> Iterable[Finding]:
    found = clock.Clock(
        is_synchronized=system.clock_is_synchronized(), hmac_window_s=patient.settings.hmac_window_ms / 1000
    )
    if patient.pool is not None:
        async with patient.pool.connection() as conn:
            before = time.time()
            theirs = await rows.now(conn)
        found = evolve(found, database_ahead_s=theirs - (before + time.time()) / 2)
    for url in list(_backend_urls(patient.settings).values())[:1]:
        found = evolve(found, backend_ahead_s=(await callers.backend(url)).ahead_s)
    return clock.judge(found)


async def _disk(patient: Patient) -> Iterable[Finding]:
    found = await _in_thread(system.disks, patient.settings)
    return [*disk.judge(found), *disk.judge_backups(await _in_thread(system.backups))]


async def _database(patient: Patient) -> Iterable[Finding]:
    if patient.is_anywhere:
        return [skipped("database.reachable", patient.no_pool, "set it right, and look again")]
    is_external = databases.external(patient.settings) is not None
    folder = [] if is_external else list(database.judge_folder(_folder(patient.settings)))
    if patient.pool is None:
        return [*folder, database.judge_away(patient.no_pool, is_external=is_external, daemon_pid=patient.daemon_pid)]
    async with patient.pool.connection() as conn:
        return [*folder, *database.judge(await rows.database(conn, is_external=is_external))]


def _folder(found: Settings) -> database.DataFolder:
    path = found.opendesk_data_dir
    try:
        told = path.stat()
    except FileNotFoundError:
        return database.DataFolder(path=str(path), owner=None, mode=None)
    return database.DataFolder(path=str(path), owner=told.st_uid, mode=told.st_mode & 0o777)


async def _unit(patient: Patient) -> Iterable[Finding]:
    del patient  # asked of every look; a unit is the machine's
    return [*daemon.judge_units(await units.units()), *beside.judge(await units.units_beside())]


async def _daemon(patient: Patient) -> Iterable[Finding]:
    wanted = units.targets(await units.units(), patient.settings.listen_address, patient.daemon_pid)
    if not wanted:
        return [skipped("daemon.answers", "a call would only start it: its unit is off", "see what is said of `unit`")]
    by_settings = [target for target in wanted if target.is_by_settings]
    if unclear := patient.unknown & ({"BIND", "PORT", *_TLS} if by_settings else _TLS):
        told = f"{' and '.join(sorted(unclear))} can't be read, so how to call it isn't known"
        return [skipped("daemon.answers", told, "set it right, and look again")]
    found: dict[units.Target, list[Finding]] = {}

    async def one(target: units.Target) -> None:
        found[target] = list(daemon.judge(await _called(patient, target)))

    async with trio.open_nursery() as nursery:
        for target in wanted:
            nursery.start_soon(one, target)
    return [finding for target in wanted for finding in found[target]]


async def _called(patient: Patient, target: units.Target) -> daemon.Daemon:
    found = await callers.daemon(target.address, has_tls=patient.settings.tls_cert is not None)
    since = system.running_since(target.pid)
    return evolve(found, unit=target.unit, running_since=since, installed_at=system.installed_at())


async def _jobs(patient: Patient) -> Iterable[Finding]:
    async with _connection(patient) as conn:
        return work.judge_jobs(await rows.jobs(conn))


async def _events(patient: Patient) -> Iterable[Finding]:
    async with _connection(patient) as conn:
        return work.judge_events(await rows.events(conn))


async def _routers(patient: Patient) -> Iterable[Finding]:
    if patient.pool is None:
        if not patient.settings.mikrotik_nodes:
            raise NoDatabase(patient.no_pool)
        specs = {node.id: registry.spec_of_node(node, patient.settings) for node in patient.settings.mikrotik_nodes}
        stored: Mapping[str, states.StoredState] = {}
    else:
        async with patient.pool.connection() as conn:
            specs = await registry.load(conn, patient.settings)
            stored = await states.read(conn, specs)
    if patient.settings.relay_dry_run and specs:
        return [
            skipped("routers.reachable", "RELAY_DRY_RUN: none is dialled", "take RELAY_DRY_RUN away to have them tried")
        ]
    circuits = {name: state.open_until is not None for name, state in stored.items()}
    return routers.judge(await network.routers(specs, circuits, within_s=ROUTERS_S))


async def _certificate(patient: Patient) -> Iterable[Finding]:
    path, key = patient.settings.tls_cert, patient.settings.tls_key
    assert path is not None
    assert key is not None
    host = urlsplit(patient.settings.public_url or "").hostname
    return certificate.judge(await _in_thread(files.certificate, path, key, datetime.now(UTC)), host)


async def _tunnels(patient: Patient) -> Iterable[Finding]:
    # Of several daemons one drives the tunnels.
    all_ = units.targets(await units.units(), patient.settings.listen_address, patient.daemon_pid)
    known = [may for target in all_ if (may := system.may_change_interfaces(target.pid)) is not None]
    return tunnels.judge(await network.tunnels(patient.settings, has_net_admin=any(known) if known else None))


async def _backend(patient: Patient) -> Iterable[Finding]:
    found: list[Finding] = []
    for name, url in _backend_urls(patient.settings).items():
        found += work.judge_backend(work.Backend(name=name, fault=(await callers.backend(url)).fault))
    return found


def _backend_urls(found: Settings) -> dict[str, str]:
    wanted = {"BACKEND_EVENTS_URL": found.backend_events_url, "BACKEND_ACK_URL": found.backend_ack_url}
    return {name: url for name, url in wanted.items() if url is not None}


async def _ledger(patient: Patient) -> Iterable[Finding]:
    async with _connection(patient) as conn:
        proof = await ledger.verify(conn)
    return work.judge_ledger(entries=proof.entries, wrong=[check.states for check in proof.checks if check.faults])


async def _in_thread(work_: Callable[..., T], *arguments: object) -> T:
    return await trio.to_thread.run_sync(work_, *arguments, abandon_on_cancel=True)


def _line(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_line(each) for each in error.exceptions)
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or repr(error)
