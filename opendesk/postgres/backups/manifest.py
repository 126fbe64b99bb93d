"""What a backup says of itself."""

from typing import Final

from attrs import frozen
import msgspec

from opendesk.postgres.errors import BackupUnusable
from opendesk.postgres.migrate import Applied

FORMAT: Final = 1


@frozen
class Books:
    """What the ledger's proof found. Amounts in minor units."""

    ok: bool
    wallets: int
    transfers: int
    entries: int
    sessions: int
    in_wallets: int


@frozen
class Facts:
    """What was in the database at the moment of its snapshot. `books` is None where the schema is not this program's."""

    made_at: str
    server: str
    migrations: tuple[Applied, ...]
    rows: dict[str, int]
    books: Books | None


@frozen
class Dump:
    """The other part of the file, and the version of the pg_dump that wrote it."""

    written_by: str
    bytes: int
    sha256: str


@frozen
class Manifest:
    format: int
    program: str
    facts: Facts
    dump: Dump


def dump_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def load_manifest(data: bytes) -> Manifest:
    """Raise BackupUnusable."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupUnusable(f"its manifest can't be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupUnusable(f"it has format {manifest.format}, and this program reads {FORMAT}: use a newer OpenDesk")
    return manifest


def differences(expected: dict[str, int], found: dict[str, int]) -> list[str]:
    """Which tables have other numbers of rows, in words."""
    return [
        f"{table}: {found.get(table, 'no such table')} where {expected.get(table, 'none')} was expected"
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]
