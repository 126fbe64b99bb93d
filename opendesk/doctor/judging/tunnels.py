"""The WireGuard interface and who dials it."""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

# Of devices that have been online before: some are always without power.
_MANY_OFFLINE_PART: Final = 0.5


@frozen(kw_only=True)
class Tunnels:
    """`fault` is why the interface can't be read. `has_net_admin` is the daemon's, None where it isn't known."""

    interface: str
    fault: str | None = None
    is_installed: bool = True
    public_key: str | None = None
    told_key: str | None = None
    listen_port: int = 0
    told_port: int | None = None
    online: int = 0
    offline: int = 0
    never: int = 0
    has_net_admin: bool | None = None
    is_up: bool | None = None


def judge(found: Tunnels) -> Iterator[Finding]:
    yield from _capability(found)
    if not found.is_installed:
        yield bad("tunnels.installed", "there is no program wg here", "apt install wireguard-tools")
        return
    if found.fault is not None:
        yield bad(
            "tunnels.interface",
            f"{found.interface} can't be read: {found.fault}",
            "look as root; if it isn't there, `opendesk tunnel init` makes it",
        )
        return
    yield ok(
        "tunnels.interface", f"{found.interface} is there, with {found.online + found.offline + found.never} peers"
    )
    if found.is_up is False:
        yield bad("tunnels.up", f"{found.interface} is switched off", "`opendesk tunnel init` switches it on")
    yield _key(found)
    yield _port(found)
    yield _handshakes(found)


def _capability(found: Tunnels) -> Iterator[Finding]:
    if found.has_net_admin is False:
        yield bad(
            "tunnels.capability",
            "the daemon has no CAP_NET_ADMIN: it can change no peer",
            "install the drop-in opendesk.service.d/tunnels.conf, then systemctl restart opendesk (docs/operations.md)",
        )
    elif found.has_net_admin is None:
        yield skipped(
            "tunnels.capability", "whether the daemon has CAP_NET_ADMIN isn't known", "ask as root, while it runs"
        )


def _key(found: Tunnels) -> Finding:
    if found.public_key is None:
        return bad("tunnels.key", f"{found.interface} has no key", "`opendesk tunnel init` gives it one")
    if found.told_key in {None, found.public_key}:
        return ok("tunnels.key", "its key is the one that routers are told")
    return bad(
        "tunnels.key",
        f"WG_VPS_PUBLIC_KEY is not the key of {found.interface}: routers that follow their script get no answer",
        f"set WG_VPS_PUBLIC_KEY={found.public_key}, or give the interface its former key back",
    )


def _port(found: Tunnels) -> Finding:
    if not found.listen_port:
        return bad("tunnels.port", f"{found.interface} listens at no port", "`opendesk tunnel init` sets it")
    if found.told_port in {None, found.listen_port}:
        return ok("tunnels.port", f"it listens at UDP {found.listen_port}")
    return warn(
        "tunnels.port",
        f"it listens at UDP {found.listen_port}, and WG_VPS_ENDPOINT tells routers {found.told_port}",
        "make them the same, unless a firewall maps one to the other",
    )


def _handshakes(found: Tunnels) -> Finding:
    told = f"{found.online} are online, {found.offline} have been silent, {found.never} never came"
    seen = found.online + found.offline
    if not seen or found.offline <= seen * _MANY_OFFLINE_PART:
        return ok("tunnels.handshakes", told)
    state = bad if not found.online else warn
    return state(
        "tunnels.handshakes",
        told,
        f"see that UDP {found.listen_port} comes through the firewall; `opendesk tunnel list` names them",
    )
