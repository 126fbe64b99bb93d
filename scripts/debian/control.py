"""What dpkg is told of the package. Pure."""

from pathlib import Path
import re
import tomllib
from typing import Final

# PEP 440's versions before a release; to dpkg "~" comes before nothing.
_BEFORE: Final = re.compile(r"(?<=\d)\.?(?=(?:a|b|rc|dev)\d)")

# The virtual environment has no Python: it is Debian's, whose compiled modules are of 3.11. glibc and zlib are what the wheels
# find on every Linux (manylinux); PostgreSQL's programs are among them.
_CONTROL: Final = """\
Package: opendesk
Version: {version}
Architecture: {architecture}
Maintainer: OpenDesk <opendesk@localhost>
Section: net
Priority: optional
Installed-Size: {installed_kib}
Depends: adduser, libc6 (>= 2.28), python3 (>= 3.11), python3 (<< 3.12), zlib1g
Recommends: systemd
Suggests: wireguard-tools
Description: rents PCs by the minute and sells access behind MikroTik hotspots
 One daemon with its own PostgreSQL: sessions, wallets and a double-entry ledger,
 a WebSocket relay for pictures, routers, WireGuard tunnels, and a console.
 .
 Everything it needs of Python is inside, in an environment of its own.
"""

# dpkg asks before it replaces one that was changed here.
CONFFILES: Final = "/etc/opendesk/opendesk.env\n"


def read_release(pyproject: Path) -> str:
    release = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    assert isinstance(release, str)
    return release


def package_version(release: str, revision: int) -> str:
    """Return it as dpkg sorts it: 0.2.0rc1 comes before 0.2.0."""
    return f"{_BEFORE.sub('~', release)}-{revision}"


def control(version: str, architecture: str, installed_bytes: int) -> str:
    return _CONTROL.format(version=version, architecture=architecture, installed_kib=-(-installed_bytes // 1024))
