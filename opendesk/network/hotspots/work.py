"""What a job is to do on a router, as it is written down and read again."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import frozen

from opendesk.network.hotspots.place import Place
from opendesk.network.jobs.shapes import Job, NewJob


class Kind(StrEnum):
    """Types of jobs. All make a router follow what is granted; they differ in why, and in what is told of it."""

    AUTHORIZE = "AUTHORIZE_BY_PEDIDO"
    RESYNC = "RESYNC_DEVICE"
    REVOKE = "REVOKE_SESSION"
    END = "END_GRANT"
    RESTORE = "RESTORE_GRANTS"  # all of a router that has forgotten them


@frozen
class Work:
    """The first place is the one that it is about; a RESTORE has none, and means all."""

    kind: Kind
    router: str
    places: tuple[Place, ...] = ()
    pedido_id: str | None = None
    source: str | None = None

    @property
    def is_ours(self) -> bool:
        """Nobody called for it."""
        return self.kind in {Kind.END, Kind.RESTORE}

    @property
    def key(self) -> str:
        """What its order is kept by: the device, as far as it is known."""
        if not self.places:
            return "all"
        return self.places[0].mac or self.places[0].ip or "all"

    def job(
        self, trace_id: str, *, run_at: datetime | None = None, same: str | None = None, joins: bool = True
    ) -> NewJob:
        """A repeat says the `same`: it may join this job. What changed anything never joins: a job that runs may have looked already."""
        payload = {
            "places": [[place.ip, place.mac] for place in self.places],
            "pedidoId": self.pedido_id,
            "source": self.source,
        }
        dedupe = None if same is None else f"{self.kind} {same}"
        return NewJob(
            self.kind, self.router, self.key, payload, run_at=run_at, dedupe=dedupe, joins=joins, trace_id=trace_id
        )

    @classmethod
    def of(cls, job: Job) -> "Work":
        payload = job.payload
        return cls(Kind(job.type), job.lane, _places(payload["places"]), payload.get("pedidoId"), payload.get("source"))


def _places(pairs: Sequence[Sequence[Any]]) -> tuple[Place, ...]:
    return tuple(Place(ip, mac) for ip, mac in pairs)
