"""The job that ends a grant when its time is over."""

from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs.shapes import NewJob


def end_of(grant: GrantRow, *, dry_run: bool) -> NewJob | None:
    """None for one that has no end, or whose time hasn't begun: then there is none yet. Of one end there is one job, however often asked for."""
    if grant.until is None:
        return None
    work = Work(Kind.END, grant.router_id, (grant.place,), grant.pedido_id, dry_run=dry_run)
    name = f"grant:{grant.id}"
    return work.job(name, run_at=grant.until, same=grant.until.isoformat(), key=name)
