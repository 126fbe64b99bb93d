"""The way to a router: TCP, and TLS whose other end is proven."""

from functools import cache
import hashlib
import hmac
import ssl
from typing import Final

from attrs import field, frozen
from attrs.validators import gt, instance_of
import trio

from opendesk.network.routeros.dialling import dial
from opendesk.network.routeros.errors import Unreachable
from opendesk.settings.secret import Secret

# A router answers a print in milliseconds, over a bad tunnel in a second.
TIMEOUT_S: Final = 8.0

_SHA256_BYTES: Final = hashlib.sha256().digest_size


@frozen
class Target:
    """Where a router is, and as whom to log in. `timeout_s` is for connecting and logging in together, and for each command.

    With `tls_sha256`, the SHA-256 of its certificate in DER, the router is the one that has this certificate; without, its
    certificate must be valid for `host`. With `interface` an address is reached through that network interface, whatever the machine's routes say, or not
    at all. `allow_md5_login` is for RouterOS before 6.43, which asks for it only after it was sent the
    password itself.
    """

    host: str
    port: int
    user: str
    password: Secret[str] = field(validator=instance_of(Secret))
    tls: bool = False
    tls_sha256: bytes | None = field(default=None, kw_only=True)
    timeout_s: float = field(default=TIMEOUT_S, validator=gt(0), kw_only=True)
    allow_md5_login: bool = field(default=False, kw_only=True)
    interface: str | None = field(default=None, kw_only=True)

    @tls_sha256.validator
    def _check_pin(self, _attribute: object, pin: bytes | None) -> None:
        if pin is not None and (not self.tls or len(pin) != _SHA256_BYTES):
            raise ValueError("A pin is the SHA-256 of a certificate, for TLS.")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def open_stream(target: Target) -> trio.abc.Stream:
    """Raise Unreachable. Nothing is told to who hasn't proven to be the router."""
    try:
        # Trio turns Nagle's algorithm off: with it, a command could wait 40 ms for the acknowledgement of the one before.
        stream = await dial(target.host, target.port, interface=target.interface)
    except (OSError, UnicodeError) as error:  # the latter of a name that no DNS can have
        raise Unreachable(f"{target} can't be connected to: {_cause(error)}") from error
    if not target.tls:
        return stream
    try:
        return await _in_tls(stream, target)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def _cause(error: Exception) -> BaseException:
    """Trio says that all attempts failed; of one address of the host it says why."""
    cause = error.__cause__ or error
    return cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause


async def _in_tls(stream: trio.abc.Stream, target: Target) -> trio.abc.Stream:
    context = _any_certificate() if target.tls_sha256 is not None else _valid_certificate()
    secured = trio.SSLStream(stream, context, server_hostname=target.host)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        raise Unreachable(_tls_fault(target, error.__cause__ or error)) from error
    if target.tls_sha256 is not None:
        _check_certificate(secured.getpeercert(binary_form=True), target, target.tls_sha256)
    return secured


def _tls_fault(target: Target, error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate of {target} isn't valid for it ({error.verify_message}): pin it by its SHA-256."
    hint = "a router without a certificate has only anonymous TLS, which proves nothing"
    return f"No TLS with {target} ({error}): {hint}."


def _check_certificate(certificate: bytes | None, target: Target, pin: bytes) -> None:
    shown = hashlib.sha256(certificate or b"").digest()
    if not hmac.compare_digest(shown, pin):
        raise Unreachable(f"{target} shows another certificate than the pinned one: its SHA-256 is {shown.hex()}.")


@cache
def _valid_certificate() -> ssl.SSLContext:
    """One for all: it holds the certificates of all authorities."""
    return ssl.create_default_context()


@cache
def _any_certificate() -> ssl.SSLContext:
    """For what is compared with a pin instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
