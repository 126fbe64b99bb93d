"""Each setting, declared once: its shape, default and meaning. A field is named like its variable in lower case."""
# ruff: noqa: RUF009 -- `setting` is attrs' `field`, which ruff does not see through

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import attrs
from attrs import field, frozen

from opendesk.settings.addresses import (
    BIND,
    ENDPOINT,
    HTTP_URL,
    NETWORK,
    NETWORKS,
    ORIGINS,
    PUBLIC_URL,
    Network,
)
from opendesk.settings.database_url import DATABASE_URL, sslmode
from opendesk.settings.routers import NODES, RouterNode
from opendesk.settings.secret import Secret
from opendesk.settings.values import (
    FLAG,
    KEYS,
    PATH,
    PUBLIC_KEY,
    RATE,
    SECRET,
    SECRETS,
    Kind,
    choice,
    duration,
    integer,
    pattern,
    show,
)

T = TypeVar("T")

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
YEAR_S: Final = 365 * 86_400
MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
_METADATA: Final = "opendesk.setting"
_MS: Final = integer(10, DAY_MS)
_COUNT: Final = integer(1, 1_000_000)
_USER: Final = pattern(r"[^\x00-\x1f\x7f]{1,64}", "1 to 64 characters")
_LEVEL: Final = choice("debug", "info", "warning", "error", "critical", aliases={"warn": "warning"})


@frozen
class Setting:
    """One declared setting. `default` is what is shown of it; None where there is none."""

    name: str
    kind: Kind[Any]
    default: str | None
    meaning: str


@overload
def setting(kind: Kind[T], default: str, meaning: str, *, shown: str | None = None) -> T: ...
@overload
def setting(kind: Kind[T], default: None, meaning: str, *, shown: str | None = None) -> T | None: ...
def setting(kind: Kind[Any], default: str | None, meaning: str, *, shown: str | None = None) -> Any:
    """Declare a field. The default is text and goes through the same parser; `shown` says it where it is not fixed."""
    return field(
        default=None if default is None else kind.parse(default),
        repr=lambda value: repr(show(kind, value)),
        metadata={_METADATA: (kind, shown or default or None, meaning)},
    )


@frozen(kw_only=True)
class Settings:
    """Every setting. `Settings()` has the defaults that do not depend on the machine; `load` is for daemons."""

    port: int = setting(
        integer(0, 65535), "3333", "TCP port; 0 takes any free one. Sockets passed by systemd win over PORT and BIND"
    )
    bind: str = setting(BIND, "127.0.0.1", "where to listen: an address, a host name, or `unix:/path`")
    public_url: str | None = setting(
        PUBLIC_URL, None, "for URLs given out; without it, the request's own host. Several daemons want it"
    )
    trusted_proxies: tuple[Network, ...] = setting(NETWORKS, "", "whose `X-Forwarded-*` counts")
    tls_cert: Path | None = setting(PATH, None, "certificate chain, PEM; read again on SIGHUP")
    tls_key: Path | None = setting(PATH, None, "its key, PEM; both or none")
    cors_origins: tuple[str, ...] = setting(ORIGINS, "", "origins of browser clients; no wildcard")
    relay_database_url: Secret[str] | None = setting(
        DATABASE_URL, None, "PostgreSQL 14 or newer; wins over DATABASE_URL"
    )
    database_url: Secret[str] | None = setting(
        DATABASE_URL, None, "PostgreSQL 14 or newer; without one, the embedded server", shown="embedded"
    )
    relay_db_ssl: bool | None = setting(
        FLAG, None, "ask for TLS to the database; a `sslmode` in the URL wins", shown="on for a remote server"
    )
    relay_db_pool_size: int = setting(integer(1, 500), "10", "connections to the database at most")
    relay_db_idle_ms: int = setting(integer(1000, DAY_MS), "30000", "after this long unused a connection is closed")
    opendesk_data_dir: Path = setting(
        PATH,
        "/var/lib/opendesk",
        "the embedded database lives here",
        shown="/var/lib/opendesk, else the user's data folder",
    )
    jwt_secret: Secret[str] | None = setting(
        SECRET, None, "signs log-in tokens; 32 bytes or more", shown="made on first start and kept in the database"
    )
    jwt_expires_in: timedelta = setting(
        duration(1, YEAR_S), "7d", "how long a log-in token lives; a bare number is seconds"
    )
    currency: str = setting(pattern(r"[A-Z]{3}", "an ISO 4217 code such as BRL"), "BRL", "the currency of all money")
    platform_fee_rate: Decimal = setting(
        RATE, "0.1", "the platform's part of what was used; for sessions made from now on"
    )
    host_penalty_rate: Decimal = setting(RATE, "0.3", "what a host loses of its part by its own fault; likewise")
    session_expiration_interval_ms: int = setting(
        integer(10, HOUR_MS), "30000", "how often due sessions are looked for, beside the next due time"
    )
    session_pending_timeout_ms: int = setting(_MS, "900000", "a session not started by then is refunded")
    host_heartbeat_timeout_ms: int = setting(_MS, "60000", "a PC silent for longer is offline")
    host_heartbeat_timeout_active_ms: int = setting(
        _MS, "180000", "the same while a session runs on it; follows the one above where only that is set"
    )
    host_heartbeat_check_interval_ms: int = setting(integer(10, HOUR_MS), "30000", "how often silence is looked for")
    stream_token_ttl_ms: int = setting(integer(1000, DAY_MS), "60000", "how long a stream token admits to the relay")
    relay_host_max_bytes_per_sec: int = setting(
        integer(1024, 10 * GIB), "26214400", "a host's stream, above which it is closed"
    )
    relay_client_max_messages_per_sec: int = setting(_COUNT, "700", "a client's messages, above which it is closed")
    relay_max_message_bytes: int = setting(integer(1024, 256 * MIB), "4194304", "the largest message of a host")
    relay_client_queue_bytes: int = setting(
        integer(1024, GIB), "4194304", "what waits for a slow client before messages are shed"
    )
    relay_connect_limit: int = setting(
        _COUNT, "24", "attempts to open the relay in a window, per address, user and session"
    )
    relay_connect_window_ms: int = setting(integer(100, HOUR_MS), "10000", "that window")
    relay_max_clients_per_room: int = setting(integer(1, 1000), "8", "sockets of a session's client")
    relay_token: tuple[Secret[str], ...] = setting(SECRETS, "", "admits to the network API; without it that API is off")
    relay_internal_token: tuple[Secret[str], ...] = setting(
        SECRETS, "", "admits to `/internal/*`, beside the relay token"
    )
    relay_internal_whitelist: tuple[Network, ...] = setting(NETWORKS, "", "who needs no internal token")
    relay_api_secret: tuple[Secret[str], ...] = setting(
        SECRETS, "", "signs calls that change something; with it, unsigned ones are refused"
    )
    relay_strict_security: bool = setting(
        FLAG,
        "0",
        "start only with RELAY_API_SECRET, RELAY_INTERNAL_TOKEN and secrets of 16 bytes; take only replay-safe signatures",
    )
    hmac_window_ms: int = setting(integer(1000, DAY_MS), "300000", "how far a signature's clock may be off")
    relay_master_key: tuple[Secret[bytes], ...] = setting(
        KEYS, "", "base64 of 32 bytes; seals router passwords and preshared keys: the first seals, all open"
    )
    relay_rate_window_ms: int = setting(integer(100, HOUR_MS), "60000", "window of the next two")
    relay_rate_limit: int = setting(_COUNT, "6000", "calls to the network API, per address")
    relay_auth_fail_limit: int = setting(_COUNT, "60", "failed ones, per address")
    backend_events_url: str | None = setting(HTTP_URL, None, "where events are fetched")
    backend_events_poll_ms: int = setting(integer(100, DAY_MS), "3000", "how often")
    backend_hmac_secret: tuple[Secret[str], ...] = setting(
        SECRETS, "", "signs events and ACKs: the first signs, all verify"
    )
    backend_require_hmac: bool = setting(FLAG, "0", "refuse to start without BACKEND_HMAC_SECRET")
    backend_ack_url: str | None = setting(HTTP_URL, None, "where ACKs go")
    backend_ack_retries: int = setting(integer(0, 10), "2", "quick retries of an ACK, before it waits as a job")
    backend_ack_retry_delay_ms: int = setting(integer(0, 60_000), "500", "between them")
    relay_events_file: Path | None = setting(PATH, None, "a local queue of events, taken by renaming it")
    events_retention_days: int = setting(integer(1, 36_500), "180", "how long an event's details are kept")
    relay_job_max_attempts: int = setting(integer(1, 1000), "5", "tries of a job before it is a dead letter")
    relay_job_backoff_base_ms: int = setting(_MS, "30000", "the first wait between them; it doubles")
    relay_lock_ttl_ms: int = setting(integer(1000, HOUR_MS), "30000", "a dead daemon's jobs are taken over after this")
    mikrotik_nodes: tuple[RouterNode, ...] = setting(
        NODES, "[]", "JSON array `{id, host, user, pass, port?, tls?, timeoutMs?}`; adds to the routers in the database"
    )
    mikrotik_user: str | None = setting(_USER, None, "for routers that have no user of their own")
    mikrotik_pass: Secret[str] | None = setting(SECRET, None, "its password")
    mikrotik_port: int | None = setting(
        integer(1, 65535), None, "of a router's API, where it has none of its own", shown="8728 (8729 with TLS)"
    )
    relay_tech_user: str = setting(_USER, "relay-tech", "the technical user made on routers")
    relay_tech_pass: Secret[str] | None = setting(SECRET, None, "its password")
    relay_action_timeout_ms: int = setting(integer(100, 600_000), "8000", "how long an HTTP call waits for a router")
    relay_mikrotik_probe_timeout_ms: int = setting(integer(100, 600_000), "5000", "the same for a probe")
    relay_breaker_failures: int = setting(integer(1, 1000), "5", "consecutive failures that open a router's circuit")
    relay_breaker_recovery_ms: int = setting(_MS, "60000", "how long before one trial call")
    wg_interface: str | None = setting(
        # Neither an option of `wg`'s, nor one of its words, nor a path of its own.
        pattern(r"(?!-|(?:all|interfaces|\.{1,2})\Z)[A-Za-z0-9_=+.-]{1,15}", "an interface's name, such as wg0"),
        None,
        "the WireGuard interface",
    )
    wg_vps_public_key: str | None = setting(PUBLIC_KEY, None, "its public key")
    wg_vps_endpoint: str | None = setting(ENDPOINT, None, "host:port that routers dial")
    wg_tunnel_pool: Network = setting(NETWORK, "10.200.0.0/16", "tunnel addresses come from here")
    relay_reconcile_interval_ms: int = setting(
        integer(0, DAY_MS, note=" (0 is off)"), "60000", "how often the interface is compared with the registry"
    )
    relay_reconcile_remove: bool = setting(FLAG, "0", "remove peers that nobody asked for; else they are only reported")
    relay_handshake_online_seconds: int = setting(
        integer(1, 86_400), "180", "a peer with a younger handshake is online"
    )
    relay_offline_max_age_sec: int = setting(
        integer(0, YEAR_S, note=" (0 is off)"), "300", "events for a peer with an older handshake wait"
    )
    relay_dry_run: bool = setting(FLAG, "0", "plan, audit and answer, but call no `wg` and dial no router")
    log_level: str = setting(_LEVEL, "info", "what is logged; lines of the audit always are")
    log_format: str = setting(
        choice("auto", "journald", "terminal", "json"),
        "auto",
        "`auto`: journald fields under systemd, colours on a terminal, JSON elsewhere",
    )
    metrics_allow: tuple[Network, ...] = setting(NETWORKS, "", "who reads metrics without the relay token")
    shutdown_grace_ms: int = setting(integer(0, 600_000), "10000", "how long requests may take to finish on shutdown")

    # Not settings: how these came to be.
    warnings: tuple[str, ...] = field(default=(), eq=False)
    sources: Mapping[str, str] = field(factory=dict, eq=False, repr=False)

    @property
    def listen_address(self) -> str:
        """`host:port`, `[v6]:port` or `unix:/path`."""
        if self.bind.startswith("unix:"):
            return self.bind
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def database_sslmode(self) -> str | None:
        """What `sslmode` to give libpq beside `database_url`; None leaves it to the URL, or to libpq."""
        return sslmode(self.database_url, asked=self.relay_db_ssl) if self.database_url else None


def _declared(attribute: "attrs.Attribute[Any]") -> Setting:
    kind, default, meaning = attribute.metadata[_METADATA]
    return Setting(attribute.name.upper(), kind, default, meaning)


DECLARED: Final = tuple(_declared(attribute) for attribute in attrs.fields(Settings) if _METADATA in attribute.metadata)
SECRET_NAMES: Final = tuple(declared.name for declared in DECLARED if declared.kind.secret)
