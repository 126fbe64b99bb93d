"""How an interface is kept, as the settings say it."""

from typing import Final

from attrs import frozen

from opendesk.settings import Settings

# Between two removals of unknown peers, a tenth of all each, however short the interval is: somebody has to have time to notice.
REMOVALS_APART_S: Final = 60.0


@frozen(kw_only=True)
class Terms:
    """`interval_s` 0: only after changes; `offline_max_age_s` 0: nobody is silent for too long."""

    remove_unknown: bool = False
    interval_s: float = 60.0
    online_s: float = 180.0
    offline_max_age_s: float = 300.0
    dry_run: bool = False
    public_key: str | None = None  # as routers are told

    @property
    def removals_apart_s(self) -> float:
        return max(self.interval_s, REMOVALS_APART_S)

    @classmethod
    def of(cls, settings: Settings) -> "Terms":
        return cls(
            remove_unknown=settings.relay_reconcile_remove,
            interval_s=settings.relay_reconcile_interval_ms / 1000,
            online_s=settings.relay_handshake_online_seconds,
            offline_max_age_s=settings.relay_offline_max_age_sec,
            dry_run=settings.relay_dry_run,
            public_key=settings.wg_vps_public_key,
        )
