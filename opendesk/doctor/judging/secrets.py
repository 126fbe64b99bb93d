"""Secrets: long enough, each its own, and read by nobody else. None is ever quoted."""

from collections.abc import Iterator, Mapping, Sequence
import stat
from typing import Final

from attrs import field, frozen

from opendesk.doctor.finding import Finding, bad, ok, warn
from opendesk.settings.load import STRICT_SECRET_MIN_BYTES

# A server may have a few characters less from an operator's own hand; below this, words are tried until one fits.
_SHORT_BYTES: Final = STRICT_SECRET_MIN_BYTES


@frozen
class SecretFile:
    """A file that holds secrets. `mode` has its permissions; `is_private`: who sees the folder decides, as with systemd's own."""

    path: str
    mode: int
    size: int
    is_credential: bool = True
    is_known: bool = True


@frozen
class Secrets:
    """`values` by the settings' names: of some there are several, for a rotation."""

    values: Mapping[str, Sequence[bytes]] = field(repr=False)
    files: Sequence[SecretFile] = ()


def judge(found: Secrets) -> Iterator[Finding]:
    wrong = [*_short(found.values), *_equal(found.values), *_files(found.files)]
    yield from wrong
    if not wrong:
        count = sum(map(len, found.values.values()))
        told = f"{count} are long enough, all different, and kept from others" if count else "none is set here"
        yield ok("secrets.kept", told)


def _short(values: Mapping[str, Sequence[bytes]]) -> Iterator[Finding]:
    for name, secrets in values.items():
        if any(len(secret) < _SHORT_BYTES for secret in secrets):
            yield warn(
                "secrets.short",
                f"{name} has fewer than {_SHORT_BYTES} bytes and can be guessed",
                f"give {name} 32 random bytes, such as `openssl rand -hex 32` makes (docs/security.md, rotation)",
            )


def _equal(values: Mapping[str, Sequence[bytes]]) -> Iterator[Finding]:
    owners: dict[bytes, set[str]] = {}
    for name, secrets in values.items():
        for secret in secrets:
            owners.setdefault(secret, set()).add(name)
    for names in owners.values():
        if len(names) > 1:
            yield bad(
                "secrets.equal",
                f"{' and '.join(sorted(names))} are the same: who has one has all",
                "give each a value of its own",
            )


def _files(files: Sequence[SecretFile]) -> Iterator[Finding]:
    for file in files:
        if file.mode & stat.S_IRWXO:
            yield bad("secrets.mode", f"{file.path} is open to every user", f"chmod 600 {file.path}")
        elif file.mode & stat.S_IRWXG:
            yield warn("secrets.mode", f"{file.path} is open to its group", f"chmod 600 {file.path}")
        if file.is_credential and not file.is_known:
            yield warn(
                "secrets.unknown", f"{file.path} has no setting's name and does nothing", "rename it, or remove it"
            )
        if file.is_credential and not file.size:
            yield warn("secrets.empty", f"{file.path} is empty: it counts as not set", "write the secret, or remove it")
