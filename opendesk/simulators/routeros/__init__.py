"""A MikroTik router without the router: menus, ids, traps, time and faults of RouterOS 7, behind its binary API.

    router = Router(clock=HandClock())                      # version="7.12.2" has other texts and no `!empty`
    async with simulated(router, latency_s=0.05) as (host, port):
        ...                                                 # log in as USER with PASSWORD

    router.rows("/ip/hotspot/ip-binding")                   # as `print` gives them
    router.run("/ip/hotspot/ip-binding/add", {"mac-address": "AA:…"}).ret    # as at its console: "*1A", or raises Refused
    router.phone("AA:BB:CC:DD:EE:FF", "10.5.50.7")          # a phone whose packets keep coming: it has a host row
    router.is_online("AA:BB:CC:DD:EE:FF", "10.5.50.7")      # bypassed or logged in
    clock.advance(3600)                                     # timeouts end, scheduler entries run, when somebody looks
    router.reboot(down_s=30)                                # connections end, timed rows are gone
    router.counts.round_trips                               # what is sent without waiting for answers is one

    router.paste(lines)                                     # at its console; what it showed
    router.cut_when = lambda router: …                      # what it holds cuts it off: nothing arrives, nothing is answered
    router.faults.black_hole = True                         # see Faults for the other switches
    router.faults.plan(Act.DROP_AFTER, "*/add", skip=1)     # the second add is done, and the connection cut before its answer
    router.faults.plan(Trapped(None, "failure: no"), "/ip/hotspot/*")
    router.faults.decide = lambda request: Act.LIE if request.verb == "remove" else None

Nothing here waits or does I/O but `server`.
"""

from opendesk.simulators.routeros.commands import Answer, Request
from opendesk.simulators.routeros.faults import Act, Fault, Faults, Slow, Trapped
from opendesk.simulators.routeros.hotspot import Phone
from opendesk.simulators.routeros.refusals import Refused
from opendesk.simulators.routeros.router import PASSWORD, USER, Counts, HandClock, Router
from opendesk.simulators.routeros.server import LOOPBACK, serve, simulated
from opendesk.simulators.routeros.session import Session

__all__ = [
    "LOOPBACK",
    "PASSWORD",
    "USER",
    "Act",
    "Answer",
    "Counts",
    "Fault",
    "Faults",
    "HandClock",
    "Phone",
    "Refused",
    "Request",
    "Router",
    "Session",
    "Slow",
    "Trapped",
    "serve",
    "simulated",
]
