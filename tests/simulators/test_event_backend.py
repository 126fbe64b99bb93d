"""The simulated backend gives its events as long as it is told to, checks who asks, and remembers what it was told."""

from collections.abc import Mapping
import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest

from opendesk.simulators.event_backend import EACH, EventBackend, Fault, Redelivery
from opendesk.simulators.event_server import served

PATIENCE_S = 30
SECRET = "hush"
EVENTS = [{"eventId": "a"}, {"eventId": "b"}]


def signed(text: str) -> Mapping[str, str]:
    return {"x-relay-ts": text, "x-relay-hmac": hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()}


def ack_of(event_id: str) -> str:
    return json.dumps({"eventId": event_id, "ok": True, "payload": {}})


async def given(http: httpx.AsyncClient) -> Any:
    return (await http.get("/events", headers=signed("1"))).json()


@pytest.mark.parametrize(
    ("redelivery", "then", "after"),
    [
        (Redelivery.UNTIL_ACKED, EVENTS, EVENTS[1:]),
        (Redelivery.NEVER, [], []),
        (Redelivery.ALWAYS, EVENTS, EVENTS),
    ],
)
async def test_events_are_given_again_as_it_is_told(redelivery: Redelivery, then: Any, after: Any) -> None:
    backend = EventBackend((SECRET,), redelivery)
    backend.put(*EVENTS)
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        assert await given(http) == EVENTS
        assert await given(http) == then
        body = ack_of("a")
        assert (await http.post("/acks", content=body, headers=signed(body))).status_code == 200
        assert await given(http) == after
    assert [ack.event_id for ack in backend.acks] == ["a"]


async def test_what_waits_for_one_router_keeps_none_of_the_others_from_being_given() -> None:
    backend = EventBackend()
    dead = [{"eventId": f"dead-{number}", "payload": {"mikId": "dead"}} for number in range(3 * EACH)]
    odd = [{"eventId": f"odd-{number}", "payload": []} for number in range(3 * EACH)]
    others = [{"eventId": name, "payload": {"mikId": name}} for name in ("a", "b")]
    backend.put(*dead, *odd, *others)
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        assert await given_unsigned(http) == [*dead[:EACH], *odd[:EACH], *others]
        for event_id in ("dead-0", "a"):
            await http.post("/acks", content=ack_of(event_id))
        assert await given_unsigned(http) == [*dead[1 : EACH + 1], *odd[:EACH], others[1]]
    assert backend.waiting == 6 * EACH


async def test_who_signs_wrongly_gets_nothing_and_is_not_listened_to() -> None:
    backend = EventBackend((SECRET,))
    backend.put(*EVENTS)
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        for headers in ({}, {**signed("1"), "x-relay-ts": "2"}):
            assert (await http.get("/events", headers=headers)).status_code == 401
            assert (await http.post("/acks", content=ack_of("a"), headers=headers)).status_code == 401
    assert backend.waiting == 2
    assert not backend.acks


@pytest.mark.parametrize("fault", [None, Fault.CUT_OFF, Fault.HUNG_UP])
async def test_an_ack_whose_answer_is_lost_counts_all_the_same(fault: Fault | None) -> None:
    backend = EventBackend(ack_faults=[fault])
    backend.put(*EVENTS)
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        try:
            await http.post("/acks", content=ack_of("a"))
        except httpx.RemoteProtocolError:
            assert fault is not None
        else:
            assert fault is None
    assert len(backend.acks_of("a")) == 1
    assert backend.waiting == 1


async def test_events_are_put_and_acks_are_read_by_hand() -> None:
    backend = EventBackend()
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        assert (await http.post("/queue", json=EVENTS)).status_code == 202
        assert (await http.post("/queue", json={"eventId": "c"})).status_code == 202
        for no_events in (b"{", b"5", b"null", b"[" * 100_000):
            assert (await http.post("/queue", content=no_events)).status_code == 400
        assert await given_unsigned(http) == [*EVENTS, {"eventId": "c"}]
        assert (await http.post("/acks", content=b"[]")).status_code == 400
        await http.post("/acks", content=ack_of("c"))
        assert (await http.get("/acks")).json() == [{"eventId": "c", "ok": True, "payload": {}}]
        assert (await http.get("/nowhere")).status_code == 404


async def given_unsigned(http: httpx.AsyncClient) -> Any:
    return (await http.get("/events")).json()


async def test_an_ack_that_it_does_not_take_leaves_the_event_where_it_is() -> None:
    backend = EventBackend(ack_status=503)
    backend.put(*EVENTS)
    async with served(backend) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        assert (await http.post("/acks", content=ack_of("a"))).status_code == 503
    assert (backend.waiting, backend.acks_of("a"), len(backend.acks)) == (2, [], 1)
