"""What a job is to do on a router, as it is written down and read again."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from attrs import field, frozen

from opendesk.network.hotspots.place import Place
from opendesk.network.jobs.shapes import Job, NewJob
from opendesk.network.routers.lanes import is_pretended, lane_of, router_of

# Looked at and brought right together: 8 kB of questions, and no other place of the router waits for longer than those take.
PLACES_AT_ONCE: Final = 50
# What the key of a job that ends a grant begins with; the grant's id follows.
ENDS: Final = "grant:"


def end_key(grant: UUID) -> str:
    return f"{ENDS}{grant}"


def portions(places: Sequence[Place], size: int) -> Iterator[tuple[Place, ...]]:
    """A job's payload is bounded, and so is what a router is asked at once."""
    for start in range(0, len(places), size):
        yield tuple(places[start : start + size])


class Kind(StrEnum):
    """Types of jobs. All make a router follow what is granted; they differ in why, and in what is told of it."""

    AUTHORIZE = "AUTHORIZE_BY_PEDIDO"
    RESYNC = "RESYNC_DEVICE"
    REVOKE = "REVOKE_SESSION"
    END = "END_GRANT"
    RESTORE = "RESTORE_GRANTS"  # what a router that rebooted has forgotten


@frozen
class Work:
    """The first place is the one that it is about; a RESTORE that has none means all. `dry_run`: it is only pretended.

    `peer` is the public key of a tunnel that must not be silent, where one was named.
    """

    kind: Kind
    router: str
    places: tuple[Place, ...] = ()
    pedido_id: str | None = None
    source: str | None = None
    peer: str | None = None
    dry_run: bool = field(default=False, kw_only=True)

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
        self,
        trace_id: str,
        *,
        run_at: datetime | None = None,
        same: str | None = None,
        joins: bool = True,
        key: str | None = None,
    ) -> NewJob:
        """A repeat says the `same`: it may join this job. What changed anything may not (`joins`): a job that runs may have looked already.

        To one that still waits nothing is news: it is joined if it is about the same and comes by all of these places. What somebody calls for
        may be refused: see Crowded. `key` is for what need not wait for the device's other jobs.
        """
        places = [[place.ip, place.mac] for place in self.places]
        # A null is told, too: who waits for no tunnel must not join what waits for one.
        does = {
            "about": places[0] if places else None,
            "places": places,
            "pedidoId": self.pedido_id,
            "peer": self.peer,
        }
        dedupe = None if same is None else f"{self.kind} {same}"
        lane = lane_of(self.router, dry_run=self.dry_run)
        return NewJob(
            self.kind,
            lane,
            key or self.key,
            {**does, "source": self.source},
            run_at=run_at,
            dedupe=dedupe,
            joins=joins,
            within=does if run_at is None else None,
            # Who closes the way is never refused for a crowd of those who open it.
            bounded=self.kind in {Kind.AUTHORIZE, Kind.RESYNC},
            trace_id=trace_id,
        )

    @classmethod
    def of(cls, job: Job) -> "Work":
        return cls.read(job.type, job.lane, job.payload)

    @classmethod
    def read(cls, type_: str, lane: str, payload: dict[str, Any]) -> "Work":
        return cls(
            Kind(type_),
            router_of(lane),
            _places(payload["places"]),
            payload.get("pedidoId"),
            payload.get("source"),
            payload.get("peer"),
            dry_run=is_pretended(lane),
        )


def _places(pairs: Sequence[Sequence[Any]]) -> tuple[Place, ...]:
    return tuple(Place(ip, mac) for ip, mac in pairs)
