"""The router behind a device: the row of the same id, dialled at the device's tunnel IP."""

from collections.abc import Iterable

from attrs import evolve

from opendesk.network.routers import registry
from opendesk.network.routers.errors import CannotOpen
from opendesk.network.routers.registry import NewRouter, StoredRouter
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.network.tunnels.errors import TunnelIpTaken
from opendesk.network.tunnels.registry.device import Outcome
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.routers import RouterNode


async def check_alone(
    conn: TrioConnection, router_id: str, host: str, nodes: Iterable[RouterNode], *, dry_run: bool
) -> None:
    """Before a router comes to be dialled there, by a second id. Raise TunnelIpTaken. What is so already stays so."""
    old = await registry.get(conn, router_id, dry_run=dry_run)
    if old is not None and old.host == host:
        return
    named = next((node.id for node in nodes if node.host == host and node.id != router_id), None)
    other = named or await registry.other_at(conn, host, router_id, dry_run=dry_run)
    if other is not None:
        raise TunnelIpTaken(f"router {other} is dialled at {host}", members={"deviceId": other})


async def keep(conn: TrioConnection, new: NewRouter, sealer: Sealer, *, dry_run: bool) -> Outcome:
    """What a registration can't say stays as an operator set it. The same again is no news to whoever drives the router."""
    old = await registry.get(conn, new.id, dry_run=dry_run)
    if old is not None:
        new = _with_the_rest(new, old)
        if _is_same(old, new, sealer):
            return Outcome.SAME
    await registry.put(conn, new, sealer, dry_run=dry_run)
    return Outcome.MADE if old is None else Outcome.CHANGED


async def follow(conn: TrioConnection, router_id: str, was: str, to: str, *, dry_run: bool) -> None:
    """Its device has another tunnel IP. A router that is dialled elsewhere stays there."""
    old = await registry.get(conn, router_id, dry_run=dry_run)
    if old is not None and old.host == was:
        new = NewRouter(id=router_id, host=to, port=old.port, user=old.username)
        await registry.put_sealed(conn, _with_the_rest(new, old), old.password_sealed, dry_run=dry_run)


async def take_over(conn: TrioConnection, new: NewRouter, password_sealed: bytes | None, *, dry_run: bool) -> None:
    """A login that has waited for its key; likewise."""
    old = await registry.get(conn, new.id, dry_run=dry_run)
    if old is not None:
        new = _with_the_rest(new, old)
    await registry.put_sealed(conn, new, password_sealed, dry_run=dry_run)


def _with_the_rest(new: NewRouter, old: StoredRouter) -> NewRouter:
    return evolve(new, tls=old.tls, tls_sha256=old.tls_sha256, timeout_ms=old.timeout_ms)


def _is_same(old: StoredRouter, new: NewRouter, sealer: Sealer) -> bool:
    if (old.host, old.port, old.username) != (new.host, new.port, new.user):
        return False
    if old.password_sealed is None or new.password is None:
        return old.password_sealed is None and new.password is None
    try:
        return sealer.open(old.password_sealed, about=password_of(old.id)) == new.password
    except CannotOpen:  # what nobody can read any more is replaced
        return False
