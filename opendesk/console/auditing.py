"""What an admin does here has its beginning and its end in the audit, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from opendesk.network.hotspots.replaying import NotReplayed
from opendesk.ops.audit import Audit
from opendesk.web.problems import as_expected

# The time was over, or the daemon stops: what was begun may be done or not.
CUT_OFF: Final = "cancelled"


@contextmanager
def audited(audit: Audit, action: str, trace_id: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Facts that are known only afterwards are added to what is yielded."""
    audit.attempt(action, trace_id, **facts)
    try:
        yield facts
    except BaseException as error:
        audit.failure(action, trace_id, error=code_of(error), **facts)
        raise
    audit.success(action, trace_id, **facts)


def code_of(error: BaseException) -> str:
    """Of what isn't meant to go wrong, only the kind: a text of the database may quote a row."""
    if isinstance(error, NotReplayed):
        return str(error)
    if (expected := as_expected(error)) is not None:
        return expected.code
    return CUT_OFF if isinstance(error, trio.Cancelled) else type(error).__name__
