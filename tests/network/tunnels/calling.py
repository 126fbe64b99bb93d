"""What the tests of the calls of tunnels have in common: keys, bodies, and a network with an interface of its own."""

import base64
from contextlib import AbstractAsyncContextManager
import hashlib
from typing import Any, Final
from urllib.parse import quote

from opendesk.simulators.routeros import PASSWORD, USER, Router
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import Behind, behind

Json = dict[str, Any]

MASTER_KEY: Final = base64.b64encode(b"k" * 32).decode()
SECRET_KEY: Final = base64.b64encode(b"hush" * 8).decode()
INTERFACE: Final = "wg0"
TUNNEL_IP: Final = "10.200.0.7"


def key(name: Any) -> str:
    """A public key of nobody's."""
    return base64.b64encode(hashlib.sha256(str(name).encode()).digest()).decode()


VPS_PRIVATE_KEY: Final = base64.b64encode(b"p" * 32).decode()
VPS_KEY: Final = str(SimulatedWireguard(VPS_PRIVATE_KEY).public_key)
ON: Final[Json] = {
    "RELAY_MASTER_KEY": MASTER_KEY,
    "WG_INTERFACE": INTERFACE,
    "WG_VPS_PUBLIC_KEY": VPS_KEY,
    "WG_VPS_ENDPOINT": "vps.example:51820",
    "RELAY_MIKROTIK_PROBE_TIMEOUT_MS": "2000",
    # A pass only after a change: what a test sees, a call did.
    "RELAY_RECONCILE_INTERVAL_MS": "0",
}
DRY: Final[Json] = {**ON, "RELAY_DRY_RUN": "1"}
OFF: Final[Json] = {name: value for name, value in ON.items() if name != "WG_INTERFACE"}

DEVICE: Final[Json] = {"deviceId": "bus-1", "publicKey": key(1), "allowedIps": ["10.200.0.7/32"]}
ACCESS: Final[Json] = {"publicIp": "203.0.113.7", "apiUser": USER, "apiPassword": PASSWORD}
ROUTER: Final[Json] = {
    "deviceId": "bus-1",
    "mikrotikPublicKey": key(1),
    "tunnelIp": TUNNEL_IP,
    "mikrotik": ACCESS,
}
MANAGED: Final[Json] = {"deviceId": "bus-1", "mikrotik": ACCESS, "wireguard": {"peerPublicKey": key(1)}}
BOOTSTRAP: Final[Json] = {"deviceId": "bus-1", "tunnelIp": TUNNEL_IP}
BINDING: Final[Json] = {"publicKey": key(1), "deviceId": "bus-1", "mikrotikIp": TUNNEL_IP}
PROBE: Final[Json] = {"publicKey": key(1), "username": USER, "password": PASSWORD}
APPLY: Final[Json] = {"mikId": "bus-1", "config": {"tunnelIp": TUNNEL_IP}}

PEERS: Final = "/internal/wireguard/peers"


def tunnelled(
    conninfo: str, *routers: Router, wireguard: SimulatedWireguard | None = None, **settings: Any
) -> AbstractAsyncContextManager[Behind]:
    """A network that keeps an interface, of the key that routers are told; the first router is at TUNNEL_IP."""
    wireguard = wireguard or SimulatedWireguard()
    wireguard.private_key = VPS_PRIVATE_KEY
    return behind(conninfo, *routers, wireguard=wireguard, through={TUNNEL_IP: "r1"}, **{**ON, **settings})


def escaped(public_key: str) -> str:
    return quote(public_key, safe="")


async def rows(net: Behind, table: str) -> int:
    return len(await net.sql(f"SELECT 1 FROM {table}"))
