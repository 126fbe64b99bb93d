"""The internal calls about peers: what the interface has, whose they are, and taking one away."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

from attrs import frozen
import trio

from opendesk.network.tunnels import errors
from opendesk.network.tunnels.api import asked, auditing
from opendesk.network.tunnels.api.answers import (
    BindingDone,
    BindingsListed,
    PeerRemoved,
    PeersStatus,
    binding_shown,
    by_key,
)
from opendesk.network.tunnels.api.auditing import audited
from opendesk.network.tunnels.api.registering import Registering
from opendesk.network.tunnels.api.requests import BindPeer, PublicKey
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.ops.audit import Audit
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.web.endpoint import Access, Answer, Call, Endpoint, Reply
from opendesk.web.paths import Name
from opendesk.web.wire import dump_json

T = TypeVar("T")

# Of a list that may have some ten thousand, what is made ready before others get their turn: some milliseconds' worth.
PORTION: Final = 250


@frozen
class Peers:
    """The handlers."""

    _pool: Pool
    _registering: Registering
    _audit: Audit
    _settings: Settings

    @property
    def _dry_run(self) -> bool:
        return self._settings.relay_dry_run

    async def peers_status(self, _: Call) -> Reply:
        seen = await self._registering.look()
        whose = await self._whose() if seen is not None and seen.peers else {}
        head = PeersStatus(
            timestamp=datetime.fromtimestamp(self._registering.now(), UTC),
            interface=None if seen is None else self._settings.wg_interface,
            peers=(),
            dry_run=self._dry_run,
        )
        found = () if seen is None else seen.peers.values()
        return await _listed(
            head, "peers", found, lambda peer: self._registering.shown(peer, whose.get(peer.public_key))
        )

    async def bind_peer(self, call: Call) -> Answer:
        """Which router is behind a peer. What the key was bound to before no longer counts."""
        body: BindPeer = call.body
        mikrotik_ip = asked.mikrotik_ip(body)
        facts = {"publicKey": body.public_key, "device": body.device_id, "mikrotikIp": mikrotik_ip}
        with audited(self._audit, auditing.PEER_BIND, call.request.request_id, **facts):
            bound = await self._registering.bind(body.public_key, body.device_id, mikrotik_ip)
        return Answer(BindingDone(ok=True, binding=binding_shown(bound), dry_run=self._dry_run))

    async def remove_peer(self, call: Call) -> Answer:
        """A device goes with its key, and its router with it; a rotation ends with the key that waits, and any other peer goes, too."""
        key = call.names["publicKey"]
        with audited(self._audit, auditing.PEER_REMOVE, call.request.request_id, publicKey=key) as told:
            was_known, router = await self._registering.remove_peer(key)
            told.update(auditing.went(router))
        return Answer(PeerRemoved(ok=True, removed=was_known, dry_run=self._dry_run))

    async def list_bindings(self, _: Call) -> Reply:
        async with self._pool.connection() as conn:
            found = await bindings.list_all(conn, dry_run=self._dry_run)
        head = BindingsListed(ok=True, bindings=(), dry_run=self._dry_run)
        return await _listed(head, "bindings", found, binding_shown)

    async def _whose(self) -> dict[str, str]:
        """Devices by their keys."""
        whose: dict[str, str] = {}
        async with self._pool.connection() as conn:
            after = 0
            while found := await devices.portion(conn, after, PORTION, dry_run=self._dry_run):
                whose.update(by_key(found))
                after = found[-1].seq
        return whose


async def _listed(head: Any, name: str, items: Iterable[T], shown: Callable[[T], Any]) -> Reply:
    """The answer with its list, as JSON; others get their turns meanwhile."""
    left, parts = iter(items), list[bytes]()
    while portion := list(islice(left, PORTION)):
        parts.append(dump_json([shown(item) for item in portion])[1:-1])
        await trio.lowlevel.checkpoint()
    empty, full = f'"{name}":[]'.encode(), b'"%b":[%b]' % (name.encode(), b",".join(parts))
    return Reply(200, dump_json(head).replace(empty, full, 1))


def endpoints(api: Peers) -> tuple[Endpoint, ...]:
    key: dict[str, Any] = {"names": {"publicKey": Name(PublicKey, takes_rest=True)}}

    def e(method: str, path: str, summary: str, answer: type, **given: Any) -> Endpoint:
        return Endpoint(
            method,
            f"/internal/wireguard/peers/{path}",
            summary,
            {200: answer},
            access=Access.INTERNAL,
            tag="tunnels",
            **given,
        )

    # fmt: off
    return (
        e("GET", "status", "The peers of the interface", PeersStatus, handler=api.peers_status, errors=(errors.WireguardUnavailable,)),
        e("POST", "bind", "Say which router is behind a peer", BindingDone, handler=api.bind_peer, body=BindPeer,
          errors=(errors.TooManyBindings,)),
        e("GET", "bindings", "Which routers are behind which peers", BindingsListed, handler=api.list_bindings),
        e("DELETE", "{publicKey}", "Remove a peer", PeerRemoved, handler=api.remove_peer,
          errors=(errors.TooManyDevices, errors.TunnelsOff, errors.WireguardUnavailable), **key),
    )
    # fmt: on
