"""The file: the dump first, because it is as long as it turns out, then the manifest. Nothing here waits for a database."""

from collections.abc import Iterator
import hashlib
from pathlib import Path
import stat
import tarfile
from typing import Any, BinaryIO, Final

from attrs import define, field, frozen

from opendesk.postgres.backups.manifest import Manifest, dump_manifest, load_manifest
from opendesk.postgres.errors import BackupUnusable

DUMP: Final = "opendesk.dump"
MANIFEST: Final = "manifest.json"

# A manifest has some 100 bytes a table and a migration.
MAX_MANIFEST_BYTES: Final = 2**20
# Read at once; as much as hides the cost of a thread's turn.
CHUNK_BYTES: Final = 2**18


@define(eq=False)
class Writer:
    """Writes into a file that was just made; whole when it is finished."""

    _file: BinaryIO
    size: int = 0
    _hash: Any = field(factory=hashlib.sha256)

    def __attrs_post_init__(self) -> None:
        self._file.write(bytes(tarfile.BLOCKSIZE))  # the dump's head, which says how long it is

    def add(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        return str(self._hash.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        content = dump_manifest(manifest)
        self._file.write(_padding(self.size))
        self._file.write(_head(MANIFEST, len(content)) + content + _padding(len(content)))
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.seek(0)
        self._file.write(_head(DUMP, self.size))


def _head(name: str, size: int) -> bytes:
    part = tarfile.TarInfo(name)
    part.size, part.mode = size, 0o600
    return part.tobuf(tarfile.GNU_FORMAT)  # which has room for more than 8 GB


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


@frozen
class Archive:
    path: Path
    manifest: Manifest

    def chunks(self) -> Iterator[bytes]:
        """The dump. Raise BackupUnusable at its end if it is not what was written."""
        digest, left = hashlib.sha256(), self.manifest.dump.bytes
        with self.path.open("rb") as file:
            file.seek(tarfile.BLOCKSIZE)
            while chunk := file.read(min(left, CHUNK_BYTES)):
                digest.update(chunk)
                left -= len(chunk)
                yield chunk
        if left or digest.hexdigest() != self.manifest.dump.sha256:
            raise BackupUnusable(f"{self.path} is damaged: its dump is not the one that was written (SHA-256)")


def read(path: Path) -> Archive:
    """What the file says of itself. Raise BackupUnusable, OSError."""
    if not stat.S_ISREG(path.stat().st_mode):  # it is read more than once, and a pipe would wait for its other end
        raise BackupUnusable(f"{path} is no ordinary file")
    try:
        with tarfile.open(path, "r:") as tar:
            manifest = load_manifest(_manifest(tar))
            dump = tar.getmember(DUMP)
    except (tarfile.TarError, KeyError) as error:
        raise BackupUnusable(f"{path} is not a whole backup of OpenDesk's: {error}") from error
    except BackupUnusable as error:
        raise BackupUnusable(f"{path}: {error}") from error
    if dump.size != manifest.dump.bytes or dump.offset != 0:
        raise BackupUnusable(f"{path} is damaged: its parts don't belong together")
    return Archive(path, manifest)


def _manifest(tar: tarfile.TarFile) -> bytes:
    names = [part.name for part, _ in zip(tar, range(3), strict=False)]  # not a tar's million of others
    if names != [DUMP, MANIFEST]:
        raise BackupUnusable(f"it has not the two parts of a backup, {DUMP} and {MANIFEST}")
    member = tar.getmember(MANIFEST)
    content = tar.extractfile(member)
    if content is None or member.size > MAX_MANIFEST_BYTES:
        raise BackupUnusable("its manifest is no file of a sane size")
    return content.read(MAX_MANIFEST_BYTES)
