"""A backend with every fault there is, the whole daemon, and a router: each event takes effect once, and the backend hears of each."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import trio

from opendesk.simulators.event_backend import ACKS_PATH, EVENTS_PATH, EventBackend, Fault, Redelivery
from opendesk.simulators.event_server import served
from opendesk.simulators.routeros import Router
from tests.network.behind import aged_router, behind, held
from tests.network.events.pretending import PATIENCE_S, SECRETS, event

# These take the daemon's whole patience, which the poller's own tests cut short.
ENDLESS = {Fault.SILENT, Fault.DRIPPED}
FAULTS = [fault for fault in Fault if fault not in ENDLESS]
# Of each event, after its first.
DELIVERIES = 10


def release(number: int) -> dict[str, Any]:
    payload = {"pedidoId": str(number), "mikId": "r1", "ip": f"10.5.50.{number}", "mac": f"AA:BB:CC:DD:EE:{number:02X}"}
    return event(f"e-{number}", payload=payload)


def settings(url: str) -> dict[str, Any]:
    return {
        "BACKEND_EVENTS_URL": url + EVENTS_PATH,
        "BACKEND_ACK_URL": url + ACKS_PATH,
        "BACKEND_HMAC_SECRET": ",".join(SECRETS),
        "BACKEND_REQUIRE_HMAC": "1",
        "BACKEND_EVENTS_POLL_MS": "100",
        "BACKEND_ACK_RETRY_DELAY_MS": "10",
    }


def rows_of(router: Router) -> list[str]:
    return sorted(held(router)["bindings"])


async def test_whatever_the_backend_does_each_event_takes_effect_once(conninfo: str) -> None:
    backend, router = EventBackend(SECRETS, Redelivery.ALWAYS), aged_router()
    acked = Counter[str]()
    with trio.fail_after(PATIENCE_S):
        async with served(backend) as url, behind(conninfo, router, **settings(url)) as here:
            for number, fault in enumerate(FAULTS, 1):
                backend.fetch_faults.append(fault)
                backend.put(release(number))
                await backend.until(partial(backend.acks_of, f"e-{number}"))
            before = len(backend.fetches)
            await backend.until(lambda: len(backend.fetches) > before + DELIVERIES)
            jobs = await here.sql("SELECT count(*) FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO'")
            assert await here.sql("SELECT count(*) FROM events WHERE ok") == [(len(FAULTS),)]
            refused = await here.figure("opendesk_event_fetches_total", outcome="refused")
            log = here.log.getvalue()
    acked.update(ack.event_id for ack in backend.acks if ack.ok)
    assert set(acked) == {f"e-{number}" for number in range(1, len(FAULTS) + 1)}
    assert all(ack.ok for ack in backend.acks)
    assert jobs == [(len(FAULTS),)]
    assert len(rows_of(router)) == len(set(rows_of(router))) == len(FAULTS)
    assert refused == len({Fault.BROKEN_BODY, Fault.NOT_JSON, Fault.NO_ARRAY, Fault.SIGNED_WRONGLY, Fault.SIGNED_BEFORE,
                           Fault.UNSIGNED, Fault.REDIRECTED, Fault.COMPRESSED, Fault.HUGE})  # fmt: skip
    assert not any(secret in log for secret in SECRETS)


@pytest.mark.parametrize(
    "fault", [Fault.FAILING, Fault.REDIRECTED, Fault.HUNG_UP, Fault.CUT_OFF], ids=lambda it: it.name
)
async def test_an_ack_comes_again_with_the_same_bytes_until_it_is_taken(fault: Fault, conninfo: str) -> None:
    backend, router = EventBackend(SECRETS, ack_faults=[fault] * 5), aged_router()
    backend.put(release(1))
    with trio.fail_after(PATIENCE_S):
        async with served(backend) as url, behind(conninfo, router, **settings(url)) as here:
            await backend.until(lambda: len(backend.acks) >= 6)
            await here.finds("SELECT 1 FROM events WHERE acked_at IS NOT NULL")
            jobs = await here.sql("SELECT count(*) FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO'")
    assert jobs == [(1,)]
    assert len({ack.asked.body for ack in backend.acks}) == 1
    assert all(ack.asked.signed for ack in backend.acks)
    assert len(rows_of(router)) == 1
