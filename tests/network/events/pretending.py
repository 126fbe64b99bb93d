"""A simulated backend with a client of it, and an inbox that only remembers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
import json
from typing import Any

from attrs import define, field
import httpx
import trio

from opendesk.network.events.backend import BackendClient, now_ms
from opendesk.network.events.inbox import Source, Taken
from opendesk.settings.secret import Secret
from opendesk.simulators.event_backend import ACKS_PATH, EVENTS_PATH, EventBackend
from opendesk.simulators.event_server import served

# Far over what any of this takes; reached, something hangs.
PATIENCE_S = 30.0
# Long for a machine of ours, short for a test that waits for it to be over.
SHORT_S = 0.4
SECRETS = ("hush the first secret", "hush the second secret")


def event(event_id: str, **more: Any) -> dict[str, Any]:
    payload = {"pedidoId": "1", "mikId": "r1", "ip": "10.5.50.7", "mac": "AA:BB:CC:DD:EE:01"}
    return {"eventId": event_id, "type": "RELEASE_REQUESTED", "payload": payload, **more}


@asynccontextmanager
async def client_of(
    backend: EventBackend,
    *,
    secrets: Sequence[str] = SECRETS,
    short: bool = False,
    clock: Callable[[], int] = now_ms,
) -> AsyncIterator[BackendClient]:
    """`short`: with no patience, for a backend that has too much."""
    async with served(backend) as url:
        limit_s = SHORT_S if short else PATIENCE_S
        kept = tuple(Secret(secret) for secret in secrets)
        urls = httpx.URL(url + EVENTS_PATH), httpx.URL(url + ACKS_PATH)
        client = BackendClient(*urls, kept, now_ms=clock, fetch_s=limit_s, ack_s=limit_s)
        try:
            yield client
        finally:
            await client.aclose()


@define(eq=False)
class RememberingInbox:
    """Knows an eventId when it sees it again. `failures` are raised first, one a call."""

    failures: list[Exception] = field(factory=list)
    ids: list[str] = field(factory=list)
    sources: set[Source] = field(factory=set)
    calls: int = 0
    _changed: trio.Event = field(factory=trio.Event)

    async def take(self, members: Sequence[bytes], source: Source) -> Taken:
        self.calls += 1
        try:
            if self.failures:
                raise self.failures.pop(0)
            return self._remember([_id_of(member) for member in members], source)
        finally:
            self._changed.set()
            self._changed = trio.Event()

    def _remember(self, ids: list[str | None], source: Source) -> Taken:
        self.sources.add(source)
        named = [each for each in ids if each is not None]
        new = [each for each in dict.fromkeys(named) if each not in self.ids]
        self.ids += new
        return Taken(new=len(new), again=len(named) - len(new), nameless=len(ids) - len(named))

    async def until(self, happened: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not happened():
                await self._changed.wait()


def _id_of(member: bytes) -> str | None:
    told = json.loads(member)
    found = told.get("eventId") if isinstance(told, dict) else None
    return found if isinstance(found, str) else None
