"""Reading settings: find, parse, let some follow others, check what must go together."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from opendesk.settings.secret import Secret
from opendesk.settings.sources import Gathered, Given, default_data_dir, gather
from opendesk.settings.table import DECLARED, SECRET_NAMES, Setting, Settings

# What RELAY_STRICT_SECURITY asks of every secret that signs or admits.
STRICT_SECRET_MIN_BYTES: Final = 16
# RFC 7518, 3.2: a key for HS256 has at least the size of the hash. Shorter ones work, and are warned of.
JWT_SECRET_MIN_BYTES: Final = 32
# A daemon renews its leases at a third of this; on a machine that is busy for as long they are lost, and all that hangs on them.
LOCK_TTL_SHORT_MS: Final = 5_000
# A fault shows enough of a value to know it by.
QUOTED_MAX_CHARS: Final = 60


class SettingsError(Exception):
    """Settings that can't be started with. `faults` has a line for each."""

    def __init__(self, faults: tuple[str, ...], warnings: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.warnings = warnings


def load(environ: Mapping[str, str], *, env_file: Path | None = None, to_serve: bool = True) -> Settings:
    """Read all settings. Raises `SettingsError` with every fault there is.

    What doesn't go together is a fault for who serves with it. Other commands aren't given every secret, and need none of that.
    """
    settings, faults = load_with_faults(environ, env_file=env_file, to_serve=to_serve)
    if faults:
        raise SettingsError(faults, settings.warnings)
    return settings


def load_with_faults(
    environ: Mapping[str, str], *, env_file: Path | None = None, to_serve: bool = True
) -> tuple[Settings, tuple[str, ...]]:
    """The same for who looks at what is wrong: a faulty setting has its default, and nobody serves with that."""
    found = gather(environ, env_file, names=[declared.name for declared in DECLARED], secrets=SECRET_NAMES)
    values, faulty = _parsed(found)
    settings = Settings(**values, sources={name: given.source for name, given in found.given.items()})
    settings, data_dir_fault = _with_data_dir(settings, environ)
    settings = _followed(settings)
    between = [text for names, text in _faults_between(settings) if to_serve and faulty.isdisjoint(names)]
    warnings = (*found.warnings, *_doubts(settings))
    return evolve(settings, warnings=warnings), (*found.faults, *data_dir_fault, *between)


def _parsed(found: Gathered) -> tuple[dict[str, Any], set[str]]:
    """Return the values that parse, by field, and the names of those that do not; these leave their faults in `found`."""
    values: dict[str, Any] = {}
    faulty: set[str] = set()
    for declared in DECLARED:
        if not (given := found.given.get(declared.name)):
            continue
        try:
            values[declared.name.lower()] = declared.kind.parse(_in_utf8(given.text))
        except ValueError as exc:
            faulty.add(declared.name)
            found.faults.append(_fault(declared, given, exc))
    return values, faulty


def _in_utf8(text: str) -> str:
    # Python keeps the odd bytes of an environment as surrogates, which no database and no header takes.
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("is not UTF-8")
    return text


def _fault(declared: Setting, given: Given, exc: ValueError) -> str:
    quoted = given.text[:QUOTED_MAX_CHARS] + ("…" if len(given.text) > QUOTED_MAX_CHARS else "")
    what = repr(quoted) if declared.kind.quotable and not declared.kind.secret else "its value"
    where = "" if given.source == "environment" else f" ({given.source})"
    return f"{declared.name}{where}: {what} {exc}; allowed: {declared.kind.allowed}"


def _with_data_dir(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    if "OPENDESK_DATA_DIR" in settings.sources:
        return settings, ()
    try:
        return evolve(settings, opendesk_data_dir=default_data_dir(environ)), ()
    except ValueError as exc:
        return settings, (f"OPENDESK_DATA_DIR: {exc}; allowed: a path",)


def _followed(settings: Settings) -> Settings:
    """Let settings that are not set themselves take another one's value."""
    sources = dict(settings.sources)
    if "HOST_HEARTBEAT_TIMEOUT_MS" in sources and "HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS" not in sources:
        sources["HOST_HEARTBEAT_TIMEOUT_ACTIVE_MS"] = "HOST_HEARTBEAT_TIMEOUT_MS"
        settings = evolve(settings, host_heartbeat_timeout_active_ms=settings.host_heartbeat_timeout_ms)
    if settings.relay_database_url:
        sources["DATABASE_URL"] = "RELAY_DATABASE_URL"
        settings = evolve(settings, database_url=settings.relay_database_url)
    return evolve(settings, sources=sources)


def _faults_between(settings: Settings) -> Iterator[tuple[set[str], str]]:
    """Yield what does not go together, with the names of which each must have parsed for it to be known."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield {"TLS_CERT", "TLS_KEY"}, "TLS_CERT, TLS_KEY: one is set without the other; allowed: both or none"
    if settings.backend_require_hmac and not settings.backend_hmac_secret:
        names = {"BACKEND_REQUIRE_HMAC", "BACKEND_HMAC_SECRET"}
        yield names, "BACKEND_HMAC_SECRET: is not set; BACKEND_REQUIRE_HMAC=1 needs it"
    if settings.relay_strict_security:
        yield from _strict_faults(settings)


def _strict_faults(settings: Settings) -> Iterator[tuple[set[str], str]]:
    for name in ("RELAY_API_SECRET", "RELAY_INTERNAL_TOKEN"):
        if not getattr(settings, name.lower()):
            yield {name}, f"{name}: is not set; RELAY_STRICT_SECURITY=1 needs it"
    for name, secrets in _signing(settings):
        if any(len(secret.reveal_bytes()) < STRICT_SECRET_MIN_BYTES for secret in secrets):
            yield (
                {name},
                f"{name}: is shorter than {STRICT_SECRET_MIN_BYTES} bytes; RELAY_STRICT_SECURITY=1 refuses that",
            )


def _signing(settings: Settings) -> Iterator[tuple[str, tuple[Secret[str], ...]]]:
    yield "RELAY_TOKEN", settings.relay_token
    yield "RELAY_INTERNAL_TOKEN", settings.relay_internal_token
    yield "RELAY_API_SECRET", settings.relay_api_secret
    yield "BACKEND_HMAC_SECRET", settings.backend_hmac_secret
    yield "JWT_SECRET", (settings.jwt_secret,) if settings.jwt_secret else ()


def _doubts(settings: Settings) -> Iterator[str]:
    if settings.jwt_secret and len(settings.jwt_secret.reveal_bytes()) < JWT_SECRET_MIN_BYTES:
        yield f"JWT_SECRET is shorter than {JWT_SECRET_MIN_BYTES} bytes and can be guessed from one token"
    if settings.relay_client_queue_bytes < settings.relay_max_message_bytes:
        yield "RELAY_CLIENT_QUEUE_BYTES is less than RELAY_MAX_MESSAGE_BYTES: the largest messages reach no client"
    if settings.relay_lock_ttl_ms < LOCK_TTL_SHORT_MS:
        yield f"RELAY_LOCK_TTL_MS is below {LOCK_TTL_SHORT_MS}: a daemon that is busy for a moment loses its routers and jobs to others"
