"""Where settings come from: the environment, an env file, systemd's credentials; and where data goes by default."""

from collections.abc import Callable, Collection, Iterator, Mapping
import difflib
import os
from pathlib import Path
import pwd
import re
import sys
from typing import Final

from attrs import define, field, frozen

# Far above any real one; a device or a log given by mistake must not fill the memory.
FILE_MAX_BYTES: Final = 1024 * 1024
SYSTEM_DATA_DIR: Final = Path("/var/lib/opendesk")
# difflib's ratio; at 0.85 one slip in a name of ten letters is found and no two of our own names meet.
LIKENESS: Final = 0.85

_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class SourceFault(Exception):
    """A file that settings should come from can't be read."""


@frozen(repr=False)
class Given:
    """A setting's text, and where it was found."""

    text: str
    source: str


@define
class Gathered:
    """All texts found, by name, with what was wrong on the way. Holds secrets: never shown."""

    given: dict[str, Given] = field(factory=dict, repr=False)
    faults: list[str] = field(factory=list)
    warnings: list[str] = field(factory=list)

    def offer(self, name: str, text: str, source: str) -> None:
        """Keep the first; warn where a later source says something else. Empty counts as not set."""
        if not text:
            return
        kept = self.given.setdefault(name, Given(text, source))
        if kept.text != text:
            self.warnings.append(f"{name}: the one from {kept.source} wins over another one from {source}")


def gather(
    environ: Mapping[str, str], env_file: Path | None, *, names: Collection[str], secrets: Collection[str]
) -> Gathered:
    """Find every setting's text: the environment wins over the file, the file over credentials."""
    found = Gathered()
    lines = {} if env_file is None else _env_file(env_file, found)
    for name in names:
        found.offer(name, environ.get(name, ""), "environment")
        if name in lines:
            found.offer(name, lines[name].text, lines[name].source)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        for name in secrets:
            found.offer(name, _credential(Path(directory) / name, name, found), "credentials")
    prefixes = {f"{name.split('_')[0]}_" for name in names}
    ours = [name for name in environ if name.startswith(tuple(prefixes))]
    found.warnings += _misspellings([*ours, *lines], names)
    return found


def _env_file(path: Path, found: Gathered) -> dict[str, Given]:
    try:
        text = _read(path)
    except FileNotFoundError:
        found.faults.append(f"{path}: there is no such file")
        return {}
    except SourceFault as exc:
        found.faults.append(f"{path}: {exc}")
        return {}
    lines: dict[str, Given] = {}
    for number, outcome in parse_env_file(text):
        if isinstance(outcome, str):
            found.faults.append(f"{path}:{number}: {outcome}")
            continue
        name, value = outcome
        if name in lines:
            found.warnings.append(f"{path}:{number}: {name} is set again; this line wins over {lines[name].source}")
        lines[name] = Given(value, f"{path}:{number}")
    return lines


def parse_env_file(text: str) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Yield each line's number and its (name, value), or what is wrong with it. Never repeats a value: it may be secret."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not (match := _LINE.fullmatch(line)):
            yield number, "not of the form NAME=value"
            continue
        value = _unquoted(match[2])
        yield number, "a quote is not closed, or something follows it" if value is None else (match[1], value)


def _unquoted(text: str) -> str | None:
    r"""Read 'as it is', "with \n and \" in it", or bare up to a blank and #."""
    if text.startswith("'"):
        return match[1] if (match := _SINGLE_QUOTED.fullmatch(text)) else None
    if text.startswith('"'):
        match = _DOUBLE_QUOTED.fullmatch(text)
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[1]) if match else None
    return re.split(r"(?:^|\s+)#", text, maxsplit=1)[0].rstrip()


def _credential(path: Path, name: str, found: Gathered) -> str:
    try:
        return _read(path).removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        return ""
    except SourceFault as exc:
        found.faults.append(f"{name}: the credential {path} {exc}")
        return ""


def _read(path: Path) -> str:
    """Raise FileNotFoundError as it is: a credential may be missing, a file that was named may not."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise SourceFault(f"can't be read: {exc.strerror}") from exc
    if len(data) > FILE_MAX_BYTES:
        raise SourceFault(f"is larger than {FILE_MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SourceFault(f"is not UTF-8 (byte {exc.start})") from None


def _misspellings(candidates: Collection[str], names: Collection[str]) -> Iterator[str]:
    for candidate in dict.fromkeys(candidates):
        if candidate not in names and (near := difflib.get_close_matches(candidate.upper(), names, 1, LIKENESS)):
            yield f"{candidate} is not a setting and does nothing; is {near[0]} meant?"


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def default_data_dir(
    environ: Mapping[str, str],
    *,
    platform: str = sys.platform,
    system: Path = SYSTEM_DATA_DIR,
    is_writable: Callable[[Path], bool] = _is_writable,
) -> Path:
    """Return the system's folder where this user may write it or make it (root may), else the user's data folder.

    Raises `ValueError` if the user has none.
    """
    if is_writable(next(folder for folder in (system, *system.parents) if folder.exists())):
        return system
    # The XDG specification: a relative path is to be ignored.
    if (xdg := Path(environ.get("XDG_DATA_HOME", ""))).is_absolute():
        return xdg / "opendesk"
    folder = "Library/Application Support" if platform == "darwin" else ".local/share"
    return _home(environ) / folder / "opendesk"


def _home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise ValueError("must be set: this user has no home folder") from None
