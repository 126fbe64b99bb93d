"""Who may call the network API: the rate, then the token, then the internal token or the whitelist, then the signature and its nonce."""

from collections.abc import Callable, Sequence
import math
from typing import Final

from attrs import define, field, frozen
import structlog
import trio

from opendesk.errors import (
    Forbidden,
    InternalTokenNotConfigured,
    InvalidSignature,
    NetworkApiDisabled,
    OpenDeskError,
    RateLimited,
    Unauthorized,
)
from opendesk.limits import Window, counted_as
from opendesk.network.nonces import Nonces
from opendesk.network.signatures import Fault, Signable, Stamp, verify
from opendesk.postgres.pool import Pool
from opendesk.settings import Secret, Settings, any_matches
from opendesk.web.endpoint import DISABLED_RETRY_S, Access, WebRequest
from opendesk.web.responder import Network, comes_from
from opendesk.web.seldom import Seldom

log = structlog.get_logger()

# 12 MiB at about 200 bytes each, and ten backends that are at RELAY_RATE_LIMIT's default at the same time: only who holds the token gets
# further than RELAY_AUTH_FAIL_LIMIT. A higher limit needs more, and is given it.
CALLS_REMEMBERED: Final = 65_536

# What changes something is signed.
_UNSIGNED: Final = frozenset({"GET", "HEAD"})


@frozen
class Rules:
    """What the settings say of it. Secrets of one kind are all good: so they can be changed without a gap."""

    tokens: tuple[Secret[str], ...]
    internal_tokens: tuple[Secret[str], ...] = ()
    whitelist: tuple[Network, ...] = ()
    api_secrets: tuple[Secret[str], ...] = ()
    strict: bool = False
    window_ms: int = 300_000
    rate_window_s: float = 60.0
    rate_limit: int = 6000
    fail_limit: int = 60

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(
            tokens=settings.relay_token,
            internal_tokens=settings.relay_internal_token,
            whitelist=settings.relay_internal_whitelist,
            api_secrets=settings.relay_api_secret,
            strict=settings.relay_strict_security,
            window_ms=settings.hmac_window_ms,
            rate_window_s=settings.relay_rate_window_ms / 1000,
            rate_limit=settings.relay_rate_limit,
            fail_limit=settings.relay_auth_fail_limit,
        )


@define(eq=False)
class RelayAccess:
    """`admit` is what `Api` asks before each call of the network API, `holds_token` what the metrics pages ask."""

    rules: Rules
    _nonces: Nonces
    _clock: Callable[[], float] = trio.current_time
    _calls: Window = field(init=False)
    _failures: Window = field(init=False)
    _unsaid: dict[str, Seldom] = field(factory=dict, init=False)  # by code, of which there are four

    def __attrs_post_init__(self) -> None:
        rules = self.rules
        self._calls = Window(rules.rate_limit, rules.rate_window_s, remembered=CALLS_REMEMBERED)
        self._failures = Window(rules.fail_limit, rules.rate_window_s)

    @classmethod
    def of(cls, settings: Settings, pool: Pool) -> "RelayAccess":
        rules = Rules.of(settings)
        return cls(rules, Nonces(pool, rules.window_ms))

    @property
    def is_off(self) -> bool:
        return not self.rules.tokens

    async def admit(self, request: WebRequest, access: Access) -> None:
        """Raise what a caller is told who may not."""
        self._count(request)
        if self.is_off:
            raise NetworkApiDisabled(retry_after_s=DISABLED_RETRY_S)
        try:
            self._check_tokens(request, access)
            stamp = self._check_signature(request)
            if stamp is not None:
                await self._nonces.take(stamp)
        except (Unauthorized, Forbidden, InvalidSignature) as error:
            self._failed(request, error)
            raise

    def holds_token(self, request: WebRequest) -> bool:
        """Raise RateLimited for who has guessed too often: they aren't told any more whether a guess is right."""
        tokens = _tokens_in(request)
        if not tokens or self.is_off:
            return False
        self._check_failures(request)
        if self._is_any(tokens):
            return True
        self._failed(request, Unauthorized())
        return False

    def _count(self, request: WebRequest) -> None:
        self._check_failures(request)
        if not self._calls.take(counted_as(request.address), self._clock()):
            raise self._too_many("calls")

    def _check_failures(self, request: WebRequest) -> None:
        if self._failures.is_full(counted_as(request.address), self._clock()):
            raise self._too_many("failed calls")

    def _too_many(self, what: str) -> RateLimited:
        # By then all that counted is forgotten.
        wait_s = math.ceil(self.rules.rate_window_s)
        return RateLimited(f"there were too many {what} from this address", retry_after_s=wait_s)

    def _failed(self, request: WebRequest, error: OpenDeskError) -> None:
        self._failures.take(counted_as(request.address), self._clock())
        unsaid = self._unsaid.setdefault(error.code, Seldom()).due()
        if unsaid is not None:
            facts = {"address": request.address, "method": request.method, "traceId": request.request_id}
            log.warning("network.refused", code=error.code, reason=error.detail, **facts, unsaid=unsaid)

    def _check_tokens(self, request: WebRequest, access: Access) -> None:
        if not self._is_any(_tokens_in(request)):
            raise Unauthorized("x-relay-token, or Authorization: Bearer, with the relay token is wanted")
        if access is not Access.INTERNAL or comes_from(request, self.rules.whitelist):
            return
        if not self.rules.internal_tokens:
            raise InternalTokenNotConfigured
        if not any_matches(self.rules.internal_tokens, _sent(request, "x-relay-internal-token")):
            raise Forbidden("x-relay-internal-token is wanted, or an address in RELAY_INTERNAL_WHITELIST")

    def _is_any(self, tokens: Sequence[bytes]) -> bool:
        return any(any_matches(self.rules.tokens, token) for token in tokens)

    def _check_signature(self, request: WebRequest) -> Stamp | None:
        """Return the stamp of a replay-safe one, whose nonce is to be looked at."""
        if not self.rules.api_secrets or request.method in _UNSIGNED:
            return None
        found = verify(
            request.headers,
            Signable(request.method, request.target, request.body),
            [secret.reveal_bytes() for secret in self.rules.api_secrets],
            plain_allowed=not self.rules.strict,
        )
        if isinstance(found, Fault):
            raise InvalidSignature(found)
        return found


def _tokens_in(request: WebRequest) -> list[bytes]:
    scheme, _, token = _sent(request, "authorization").partition(b" ")
    bearer = token.strip() if scheme.lower() == b"bearer" else b""
    return [token for token in (_sent(request, "x-relay-token"), bearer) if token]


def _sent(request: WebRequest, name: str) -> bytes:
    """A header's bytes as they came: a secret in UTF-8 is one."""
    return request.headers.get(name, "").encode("latin-1")
