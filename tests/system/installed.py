"""A machine to install packages on: this one's own files under an overlay in memory, in namespaces of its own, without a network."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Final

from attrs import frozen

from tests.system.daemon import PATIENCE_S

NEEDED: Final = ("unshare", "nsenter", "setpriv", "mount", "dpkg", "dpkg-deb", "adduser", "ip", "/usr/bin/python3.11")

# As after a log-in.
ENVIRON: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
}

# What becomes the first process there: when it ends, all others of the machine do, and its files are gone.
_BOOT: Final = """
set -e
mount -t tmpfs -o size=3g memory "$1"
mkdir "$1/changed" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
ip link set lo up
mkdir tmp/given
mount --bind "$2" tmp/given
exec chroot . sh -c 'echo up; exec sleep infinity'
"""

# As far as a package's scripts see it. What they want of it is written down, and done by nobody.
_PRETEND_SYSTEMD: Final = """
mkdir -p /run/systemd/system
printf '#!/bin/sh\\n' > /usr/sbin/systemctl
printf '#!/bin/sh\\necho "$@" >> /run/invoked\\n' > /usr/sbin/deb-systemd-invoke
chmod 755 /usr/sbin/systemctl /usr/sbin/deb-systemd-invoke
"""


def why_not() -> str | None:
    """Why this machine can't be had here; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "ONLY ROOT ON LINUX CAN MAKE A MACHINE OF NAMESPACES AND AN OVERLAY"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"NOT INSTALLED HERE: {', '.join(missing)}"
    if sys.version_info[:2] != (3, 11):
        return "THE PACKAGE IS BUILT WITH PYTHON 3.11 ONLY"
    return None


@frozen
class Machine:
    pid: int

    def command(self, *arguments: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--root", "--wd=/", *arguments]

    def tries(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it as root."""
        return subprocess.run(
            self.command(*arguments),
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=PATIENCE_S,
            env=ENVIRON,
        )

    def does(self, *arguments: str, stdin: str = "") -> str:
        done = self.tries(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, script: str) -> str:
        return self.does("sh", "-c", script)

    def pretend_systemd(self) -> None:
        self.shell(_PRETEND_SYSTEMD)

    def invoked(self, verb: str) -> set[str]:
        """Return the units that this was wanted of."""
        lines = [line.split() for line in self.shell("cat /run/invoked").splitlines()]
        return {unit for said, *units in lines if said == verb for unit in units}

    def has(self, path: str) -> bool:
        return self.tries("test", "-e", path).returncode == 0

    def owner_and_mode(self, path: str) -> str:
        return self.does("stat", "-c", "%U:%G %a", path).strip()


@contextmanager
def machine(memory: Path, given: Path) -> Iterator[Machine]:
    """`given` is /tmp/given there."""
    boot = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    command = [*boot, "sh", "-c", _BOOT, "sh", str(memory), str(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n", "the machine did not start: see above"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield Machine(int(children))
        finally:
            process.kill()
