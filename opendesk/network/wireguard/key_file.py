"""The interface's private key in a file: made once, whole or not at all, never written over, read only if it is nobody else's."""

import base64
import binascii
from contextlib import suppress
import os
from pathlib import Path
import stat
import tempfile
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from opendesk.settings.secret import Secret

# Base64 of 32 bytes and a line's end; some more, to see that there is more.
_MAX_FILE_BYTES: Final = 100
_KEY_BYTES: Final = 32


class KeyFileFault(Exception):
    """A key file that can't be used. Never says what is in it."""


def read(path: Path) -> Secret[str] | None:
    """The private key, in base64; None if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileFault(f"{path} is no file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileFault(
                f"others than its owner may use {path}: make it so with chmod 600, and think of who has read it"
            )
        return Secret(_checked(path, file.read(_MAX_FILE_BYTES)))


def make(path: Path) -> Secret[str]:
    """Make a key, and the file with it; of two who do so at once one wins, and both get that one's key."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        whole = Path(folder) / "key"
        _write(whole, base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()) + b"\n")
        with suppress(FileExistsError):
            os.link(whole, path)  # which never writes over one that is there
    _sync_folder(path.parent)
    made = read(path)
    if made is None:
        raise KeyFileFault(f"{path} was made, and is gone again")
    return made


def make_folder(folder: Path) -> None:
    """A folder for keys, and those above it; nobody else looks into it."""
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
        folder.parent.chmod(0o755)  # whatever our umask is: the database may come to live there under another user
    folder.mkdir(mode=0o700, exist_ok=True)


def public_key_of(private: Secret[str]) -> str:
    key = X25519PrivateKey.from_private_bytes(base64.b64decode(private.reveal()))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _checked(path: Path, data: bytes) -> str:
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyFileFault(
            f"{path} has no WireGuard key in it: it wants base64 of {_KEY_BYTES} bytes, as `wg genkey` makes it"
        )
    return base64.b64encode(key).decode()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """So that the name is there as well after the power failed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
