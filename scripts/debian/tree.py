"""What the package puts beside the program: units, the command, settings, pages, completions."""

import gzip
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = Path(__file__).parent / "files"
UNITS: Final = "lib/systemd/system"
EXAMPLES: Final = "usr/share/opendesk/systemd"
PAGES: Final = "usr/share/doc/opendesk"

# Where each shell looks.
_COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/opendesk",
    "zsh": "usr/share/zsh/vendor-completions/_opendesk",
    "fish": "usr/share/fish/vendor_completions.d/opendesk.fish",
}
_COMPLETION_TIMEOUT_S: Final = 60
_NO_SOURCE: Final = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")


def make_tree(root: Path) -> None:
    _place(root, "usr/bin/opendesk", FILES / "opendesk", mode=0o755)
    _place(root, "etc/opendesk/opendesk.env", FILES / "opendesk.env")
    _make_units(root)
    _make_pages(root)
    for shell, place in _COMPLETIONS.items():
        _write(root, place, _completion(shell))


def copy_files(source: Path, target: Path) -> None:
    """Copy a folder of ours, without what Python or an editor left there."""
    shutil.copytree(source, target, ignore=_NO_SOURCE, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o644)


def _make_units(root: Path) -> None:
    """Drop-ins are examples: who wants one copies it to /etc/systemd/system."""
    for path in (ROOT / "systemd").iterdir():
        if path.is_dir():
            copy_files(path, root / EXAMPLES / path.name)
        else:
            _place(root, f"{UNITS}/{path.name}", path)


def _make_pages(root: Path) -> None:
    copy_files(ROOT / "docs", root / PAGES / "docs")
    _place(root, f"{PAGES}/README.md", ROOT / "README.md")
    _place(root, f"{PAGES}/copyright", FILES / "copyright")
    changes = gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0)
    _write(root, f"{PAGES}/changelog.gz", changes)


def _completion(shell: str) -> bytes:
    command = [sys.executable, "-P", "-m", "opendesk", "completion", shell]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_COMPLETION_TIMEOUT_S).stdout


def _place(root: Path, place: str, source: Path, *, mode: int = 0o644) -> None:
    _write(root, place, source.read_bytes(), mode=mode)


def _write(root: Path, place: str, data: bytes, *, mode: int = 0o644) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
