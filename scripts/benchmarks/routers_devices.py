"""How far away routers are, and devices by number: each has an address, a MAC and an order of its own, and is behind the router whose turn it is."""

from typing import Final

from attrs import frozen

# Of a round trip to a router.
LATENCY_S: Final = 0.05


@frozen
class Device:
    number: int

    @property
    def ip(self) -> str:
        return f"10.{self.number >> 16 & 255}.{self.number >> 8 & 255}.{self.number & 255}"

    @property
    def mac(self) -> str:
        return f"02:00:00:{self.number >> 16 & 255:02X}:{self.number >> 8 & 255:02X}:{self.number & 255:02X}"

    @property
    def pedido(self) -> str:
        return f"order {self.number}"

    @classmethod
    def of(cls, mac: str) -> "Device":
        return cls(int(mac.replace(":", ""), 16) & 0xFFFFFF)

    def router(self, count: int) -> int:
        return self.number % count
