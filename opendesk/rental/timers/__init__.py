"""What happens to sessions and PCs because time passes: expiry, host time-out; and what is kept no longer.

Each reads what is due without a lock, decides with pure functions, and writes in bounded batches guarded by the status: so any number
of daemons may do it at once, and a crash in the middle is worked off by the next look.
"""

from opendesk.rental.timers.expiry import Expiry
from opendesk.rental.timers.host_timeout import HostTimeout
from opendesk.rental.timers.periods import Periods
from opendesk.rental.timers.retention import retention

__all__ = ["Expiry", "HostTimeout", "Periods", "retention"]
