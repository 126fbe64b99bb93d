"""A network namespace with nothing in it, in which the command makes an interface of its own. All of it is gone at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import subprocess

import pytest
import trio

from tests.network.wireguard import namespaces


@contextmanager
def namespace() -> Iterator[str]:
    """Its name, which an interface in it may have, too; a loud skip where that is impossible."""
    if why_not := namespaces.impossible():
        pytest.skip(f"NO REAL WIREGUARD WAS TESTED: {why_not}")
    name = f"od{os.getpid():x}n{next(namespaces._counted)}v"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        # With its interface goes wireguard-go, and with that its socket.
        subprocess.run(["ip", "-n", name, "link", "delete", name], capture_output=True, check=False)
        trio.run(namespaces._remove, name)
