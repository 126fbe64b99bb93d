"""The registry of devices, thought out once more in the plainest way: to be compared with what PostgreSQL comes to."""

from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, Final

from attrs import define, evolve, field

from opendesk.network.tunnels.errors import (
    AllowedIpsTaken,
    PoolExhausted,
    PublicKeyTaken,
    RotationChangesMore,
    TunnelIpTaken,
)
from opendesk.network.tunnels.registry.devices import NewDevice, Outcome

POOL: Final = IPv4Network("10.9.0.0/29")
OWN: Final = "10.9.0.1"


@define
class Kept:
    """A device; preshared keys as they are."""

    id: str
    key: str
    psk: str | None = None
    next_key: str | None = None
    next_psk: str | None = None
    ip: str | None = None
    allowed: frozenset[str] = frozenset()


@define
class Model:
    devices: dict[str, Kept] = field(factory=dict)
    tombstones: set[str] = field(factory=set)
    bindings: dict[str, tuple[str, str]] = field(factory=dict)

    # ---- what may be asked; each returns or raises what the registry is to

    def put(self, new: NewDevice, fresh_id: str, *, takes_from_pool: bool) -> Outcome:
        old = self._known(new)
        asked = self._asked(new, old, takes_from_pool=takes_from_pool)
        if old is not None and new.public_key != old.key and (asked.ip, asked.allowed) != (old.ip, old.allowed):
            raise RotationChangesMore
        if old is None or asked.allowed != old.allowed:
            self._check(asked, is_pool_known=takes_from_pool)
        if old is None:
            made = evolve(asked, id=new.id or fresh_id)
            self._store(None, made)
            self._bind(made)
            return Outcome.MADE
        self._store(old, asked)
        if old.ip and asked.ip and self.bindings.get(old.key, ("", ""))[1] == old.ip:
            self.bindings[old.key] = (self.bindings[old.key][0], asked.ip)
        if asked.ip != old.ip:
            self._bind(asked)
        if new.public_key != old.key:
            return Outcome.ROTATING
        return Outcome.SAME if asked == old else Outcome.CHANGED

    def remove(self, name: str) -> bool:
        old = self.devices.get(name)
        if old is None:
            return False
        self._store(old, None)
        for key in (old.key, old.next_key or ""):
            self.bindings.pop(key, None)
        return True

    def remove_key(self, key: str) -> bool:
        was_bound = self.bindings.pop(key, None) is not None
        old = self.of_key(key)
        if old is None:
            self.tombstones.add(key)
        elif old.key == key:
            self.remove(old.id)
        else:
            self.cancel(old.id)
        return was_bound or old is not None

    def complete(self, name: str, key: str) -> bool:
        old = self.devices.get(name)
        if old is None or old.next_key != key:
            return False
        self._store(old, evolve(old, key=key, psk=old.next_psk or old.psk, next_key=None, next_psk=None))
        bound = self.bindings.pop(old.key, None)
        if bound is not None:
            self.bindings.setdefault(key, bound)
        return True

    def cancel(self, name: str) -> bool:
        old = self.devices.get(name)
        if old is None or old.next_key is None:
            return False
        self._store(old, evolve(old, next_key=None, next_psk=None))
        return True

    def expire(self) -> list[str]:
        return [name for name in list(self.devices) if self.cancel(name)]

    def make_missing(self) -> set[str]:
        missing = {d.key: (d.id, d.ip) for d in self.devices.values() if d.ip and d.key not in self.bindings}
        self.bindings.update(missing)
        return set(missing)

    def bury(self, keys: list[str]) -> int:
        gone = self.tombstones & set(keys)
        self.tombstones -= gone
        return len(gone)

    # ---- how it comes to that

    def of_key(self, key: str) -> Kept | None:
        return next((device for device in self.devices.values() if key in {device.key, device.next_key}), None)

    def _known(self, new: NewDevice) -> Kept | None:
        of_key = self.of_key(new.public_key)
        if new.id is None:
            return of_key
        if of_key is not None and of_key.id != new.id:
            raise PublicKeyTaken
        return self.devices.get(new.id)

    def _asked(self, new: NewDevice, old: Kept | None, *, takes_from_pool: bool) -> Kept:
        asked = Kept(new.id or "", new.public_key) if old is None else evolve(old)
        asked.ip = new.tunnel_ip or asked.ip or (self._lowest_free() if takes_from_pool else None)
        held = set(old.allowed if old else ()) if new.allowed_ips is None else set(new.allowed_ips)
        if new.allowed_ips is None and old is not None and old.ip is not None:
            held.discard(f"{old.ip}/32")
        asked.allowed = _apart(held | ({f"{asked.ip}/32"} if asked.ip else set()))
        self._give_key(asked, new)
        return asked

    def _give_key(self, asked: Kept, new: NewDevice) -> None:
        given: Any = None if new.preshared_key is None else new.preshared_key.reveal()
        if new.public_key == asked.key:
            asked.psk = given or asked.psk
            return
        asked.next_psk = given or (asked.next_psk if asked.next_key == new.public_key else None)
        asked.next_key = new.public_key

    def _lowest_free(self) -> str:
        for address in POOL.hosts():
            if str(address) != OWN and not any(
                address in ip_network(prefix) for device in self.devices.values() for prefix in device.allowed
            ):
                return str(address)
        raise PoolExhausted

    def _check(self, asked: Kept, *, is_pool_known: bool) -> None:
        if is_pool_known and any(ip_address(OWN) in ip_network(prefix) for prefix in asked.allowed):
            raise TunnelIpTaken if asked.ip == OWN else AllowedIpsTaken
        others = [device for device in self.devices.values() if device.id != asked.id]
        if asked.ip is not None and any(device.ip == asked.ip for device in others):
            raise TunnelIpTaken
        for device in others:
            if any(
                ip_network(mine).overlaps(ip_network(theirs)) for mine in asked.allowed for theirs in device.allowed
            ):
                raise AllowedIpsTaken

    def _bind(self, device: Kept) -> None:
        if device.ip is not None:
            self.bindings.setdefault(device.key, (device.id, device.ip))

    def _store(self, old: Kept | None, new: Kept | None) -> None:
        had = {old.key, old.next_key} if old else set()
        has = {new.key, new.next_key} if new else set()
        self.tombstones |= {key for key in had - has if key}
        self.tombstones -= has
        if new is not None:
            self.devices[new.id] = new
        elif old is not None:
            del self.devices[old.id]


def _apart(prefixes: set[str]) -> frozenset[str]:
    networks = {ip_network(prefix) for prefix in prefixes}
    return frozenset(
        str(one)
        for one in networks
        if not any(one != other and one.subnet_of(other) for other in networks)  # type: ignore[arg-type]  # all IPv4
    )
