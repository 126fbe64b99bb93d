"""Files: secrets and certificates. Of a secret nothing leaves here but its length and its likeness to others."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from opendesk.doctor.judging.certificate import Certificate
from opendesk.doctor.judging.secrets import SecretFile, Secrets
from opendesk.settings import DECLARED, Secret, Settings
from opendesk.settings.table import SECRET_NAMES

# A chain has some kilobytes.
_PEM_MAX_BYTES: Final = 1024 * 1024
# A folder of credentials has a file a secret.
_FILES_MAX: Final = 1_000
_DAY_S: Final = 86_400.0


def secrets(settings: Settings, environ: Mapping[str, str], env_file: Path | None) -> Secrets:
    values = {name: list(_values(getattr(settings, name.lower()))) for name in _GUESSABLE}
    files = [*_credentials(environ), *_env_files(settings, env_file)]
    return Secrets({name: found for name, found in values.items() if found}, files)


# What admits or signs. A URL is no secret to compare, a key of base64 has its length checked, and a router's password is its own.
_GUESSABLE: Final = tuple(
    name for name in SECRET_NAMES if name.endswith(("_TOKEN", "_SECRET")) or name in {"JWT_SECRET", "RELAY_TECH_PASS"}
)


def _values(given: Any) -> Iterator[bytes]:
    for secret in given if isinstance(given, tuple) else (given,):
        if isinstance(secret, Secret):
            yield secret.reveal_bytes()


def _credentials(environ: Mapping[str, str]) -> Iterator[SecretFile]:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder or not Path(folder).is_dir():
        return
    for _, path in zip(range(_FILES_MAX), sorted(Path(folder).iterdir()), strict=False):
        if path.is_file():
            found = path.stat()
            yield SecretFile(str(path), found.st_mode & 0o777, found.st_size, is_known=path.name in SECRET_NAMES)


def _env_files(settings: Settings, env_file: Path | None) -> Iterator[SecretFile]:
    """Only where there are secrets in it: for the rest everybody may read it."""
    names = {declared.name for declared in DECLARED if declared.kind.secret}
    if env_file is None or not any(
        source.startswith(f"{env_file}:") for name, source in settings.sources.items() if name in names
    ):
        return
    found = env_file.stat()
    yield SecretFile(str(env_file), found.st_mode & 0o777, found.st_size, is_credential=False)


def certificate(path: Path, key_path: Path, now: datetime) -> Certificate:
    try:
        chain = x509.load_pem_x509_certificates(_read(path))
        key = load_pem_private_key(_read(key_path), None)
        if _public(chain[0].public_key()) != _public(key.public_key()):
            return Certificate(path=str(path), fault=f"the key in {key_path} is not its own")
        return _told(path, chain, key_path, now)
    except OSError as error:
        return Certificate(path=str(path), fault=f"{error.filename}: {error.strerror}")
    except (ValueError, TypeError):
        return Certificate(path=str(path), fault=f"it, or {key_path}, is no PEM that can be read without a passphrase")


def _told(path: Path, chain: Sequence[x509.Certificate], key_path: Path, now: datetime) -> Certificate:
    first = chain[0]
    return Certificate(
        path=str(path),
        names=_names(first),
        days_left=(first.not_valid_after_utc - now.astimezone(UTC)).total_seconds() / _DAY_S,
        days_until_valid=(first.not_valid_before_utc - now.astimezone(UTC)).total_seconds() / _DAY_S,
        chain=len(chain),
        is_self_signed=first.issuer == first.subject,
        key_mode=key_path.stat().st_mode & 0o777,
    )


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _public(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PEM_MAX_BYTES)
