"""From which address of this machine packets go somewhere."""

import socket
from typing import Final

# Any: nothing is sent there.
_PORT: Final = 9


def source_of(ip: str) -> str | None:
    """By the kernel's routes, to an IPv4 address; None where it has no way there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((ip, _PORT))
        except OSError:
            return None
        return str(asked.getsockname()[0])
