"""A certificate: whose, for how long, and whether its key is the right one."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, warn

# ACME clients renew a month before the end: two weeks before it, something has failed a dozen times.
WARN_DAYS: Final = 14.0
_RENEW: Final = "renew it, and then systemctl reload opendesk"


@frozen(kw_only=True)
class Certificate:
    """`fault` is why it can't be used at all; `chain` says how many certificates the file has."""

    path: str
    fault: str | None = None
    names: Sequence[str] = ()
    days_left: float = 0.0
    days_until_valid: float = 0.0
    chain: int = 1
    is_self_signed: bool = False
    key_mode: int = 0o600


def judge(found: Certificate, wanted: str | None) -> Iterator[Finding]:
    """`wanted` is the host of PUBLIC_URL."""
    if found.fault is not None:
        yield bad("certificate.usable", f"{found.path}: {found.fault}", "set TLS_CERT and TLS_KEY to a pair that fits")
        return
    yield ok("certificate.usable", f"{found.path} fits its key")
    yield _days(found)
    yield _names(found, wanted)
    if found.is_self_signed or found.chain == 1:
        kind = (
            "signed by itself: no browser takes it" if found.is_self_signed else "alone in its file, without its chain"
        )
        yield warn("certificate.chain", f"{found.path} is {kind}", "take the full chain of a CA's (fullchain.pem)")
    if found.key_mode & 0o007:
        yield bad("certificate.key_mode", "TLS_KEY is open to every user", "chmod o-rwx on it")


def _days(found: Certificate) -> Finding:
    if found.days_until_valid > 0:
        return bad("certificate.days", "it isn't valid yet", "look at this machine's clock, and at the certificate")
    if found.days_left <= 0:
        return bad("certificate.days", f"it has been over for {-found.days_left:.0f} days", _RENEW)
    told = f"valid for {found.days_left:.0f} days more"
    return ok("certificate.days", told) if found.days_left >= WARN_DAYS else warn("certificate.days", told, _RENEW)


def _names(found: Certificate, wanted: str | None) -> Finding:
    if wanted is None or any(covers(name, wanted) for name in found.names):
        return ok("certificate.names", f"for {', '.join(found.names) or 'nobody'}")
    return bad(
        "certificate.names",
        f"it is for {', '.join(found.names) or 'nobody'}, and not for {wanted} (PUBLIC_URL)",
        f"get one for {wanted}",
    )


def covers(name: str, wanted: str) -> bool:
    """As RFC 6125 has it: a star stands for the whole first label."""
    name, wanted = name.lower().rstrip("."), wanted.lower().rstrip(".")
    if name.startswith("*."):
        first, _, rest = wanted.partition(".")
        return bool(first) and rest == name[2:]
    return name == wanted
