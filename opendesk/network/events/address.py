"""A MAC or an IP address, as somebody may write it. Pure."""

from ipaddress import ip_address
import re
from typing import Final

from attrs import frozen

_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(?:[:-]?[0-9A-Fa-f]{2}){5}")


@frozen
class Address:
    """A MAC or an IP address that is asked for: one of both, as the database has it."""

    mac: str | None = None
    ip: str | None = None

    @classmethod
    def of(cls, word: str) -> "Address":
        if _MAC.fullmatch(word):
            digits = re.sub("[:-]", "", word).upper()
            return cls(mac=":".join(digits[place : place + 2] for place in range(0, len(digits), 2)))
        try:
            return cls(ip=None if "%" in word else str(ip_address(word)))
        except ValueError:
            return cls()
