"""The job that ends a grant when its time is over. It is added in the transaction that records the grant: see `end_of`."""

from uuid import UUID

from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.work import ENDS, Kind, Work, end_key
from opendesk.network.jobs.shapes import Job, NewJob


def end_of(grant: GrantRow, *, dry_run: bool) -> NewJob | None:
    """None for one that never has an end. Who makes a grant, or gives it another time, adds this in the same transaction.

    It looks when it runs, and waits on if the grant has more time by then: its way was opened later, or it was given more. So of a grant
    there is one, however often it is asked for, and one is enough whatever moves its end away. What is paid instead of a trial has one
    of its own: it may end before the trial would have. Of what was given more it looks when the time before ends, which holds again if
    more can't be opened; so there is one, too, of what has no end any more.
    """
    if grant.ends_at is None:
        return None
    work = Work(Kind.END, grant.router_id, (grant.place,), grant.pedido_id, dry_run=dry_run)
    key = end_key(grant.id)
    return work.job(key, run_at=grant.ends_at, same=f"{grant.id} trial" if grant.trial else str(grant.id), key=key)


def ended_by(job: Job) -> UUID:
    """The grant that this job ends."""
    return UUID(job.key.removeprefix(ENDS))
