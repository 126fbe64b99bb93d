"""The straightforward program, in a process of its own: httpx, psycopg and `routeros-api`, an event at a time in each of 32 threads.

`python -m scripts.benchmarks.events_peer`, told in a line of JSON. An event is written down before it is run, and its result before its ACK;
what dies between the two is lost, nothing that fails is tried again, and of one device two may run at once.
"""

from concurrent.futures import ThreadPoolExecutor
import hmac
import json
import threading
import time
from typing import Any, Final

from attrs import define, field
import httpx
import psutil
import psycopg
import routeros_api

from scripts.benchmarks.events_made import ACKS_PATH, EVENTS_PATH, signature
from scripts.benchmarks.measure import used_s
from scripts.benchmarks.routers_child import answer
from scripts.benchmarks.routers_devices import Device
from scripts.benchmarks.routers_peer import THREADS, authorize

_POLL_S: Final = 0.25
_REQUEST_S: Final = 10.0
_MENUS: Final = (
    ("/ip/hotspot/ip-binding", "mac-address", "mac"),
    ("/ip/firewall/address-list", "address", "ip"),
    ("/ip/hotspot/active", "mac-address", "mac"),
    ("/ip/hotspot/host", "mac-address", "mac"),
)
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS public.peer_events (id text PRIMARY KEY, body jsonb NOT NULL, ok boolean);
    CREATE TABLE IF NOT EXISTS public.peer_ends (id text PRIMARY KEY, at timestamptz NOT NULL);
"""
_TAKE: Final = "INSERT INTO public.peer_events (id, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_END: Final = "INSERT INTO public.peer_ends (id, at) VALUES (%s, now() + %s * interval '1 minute')"
_DECIDE: Final = "UPDATE public.peer_events SET ok = true WHERE id = %s"
_TRIAL_MINUTES: Final = 5


@define(eq=False)
class _Peer:
    """Each thread has its own connections to the database and the backend, and makes one to a router for each event."""

    base_url: str
    conninfo: str
    nodes: dict[str, dict[str, Any]]
    failures: list[str] = field(factory=list)
    acked: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)
    _own: threading.local = field(factory=threading.local)

    def fetch(self, client: httpx.Client) -> list[dict[str, Any]]:
        answer = client.get(self.base_url + EVENTS_PATH, headers=_signed(stamp := _now_ms(), stamp.encode()))
        if not hmac.compare_digest(answer.headers["x-backend-hmac"].encode(), signature(answer.content)):
            raise ValueError("the backend's signature is wrong")
        found: list[dict[str, Any]] = answer.json()
        return found

    def run(self, event: dict[str, Any]) -> None:
        try:
            self._run(event)
        except Exception as error:  # noqa: BLE001  # told, and then there is no result
            self.failures.append(repr(error))

    def _run(self, event: dict[str, Any]) -> None:
        conn, client, kind, payload = self._conn(), self._client(), event["type"], event["payload"]
        minutes = payload.get("minutes", _TRIAL_MINUTES if kind == "TRIAL_REQUESTED" else None)
        with conn.transaction():
            is_new = conn.execute(_TAKE, (event["eventId"], json.dumps(event))).rowcount
            if is_new and minutes is not None:
                conn.execute(_END, (event["eventId"], minutes))
        if is_new:
            node = self.nodes[payload["mikId"]]
            if kind == "REVOKE_REQUESTED":
                _revoke(node, payload)
            else:
                authorize(node, Device.of(payload["mac"]), latency_s=0.0)
            conn.execute(_DECIDE, (event["eventId"],))
        body = json.dumps({"eventId": event["eventId"], "ok": True, "payload": {}}).encode()
        headers = {**_signed(_now_ms(), body), "content-type": "application/json"}
        client.post(self.base_url + ACKS_PATH, content=body, headers=headers).raise_for_status()
        with self._lock:
            self.acked += 1

    def _conn(self) -> psycopg.Connection[Any]:
        if not hasattr(self._own, "conn"):
            self._own.conn = psycopg.connect(self.conninfo, autocommit=True)
        return self._own.conn  # type: ignore[no-any-return]  # of this thread alone

    def _client(self) -> httpx.Client:
        if not hasattr(self._own, "client"):
            self._own.client = httpx.Client(timeout=_REQUEST_S, trust_env=False)
        return self._own.client  # type: ignore[no-any-return]  # of this thread alone


def _revoke(node: dict[str, Any], payload: dict[str, Any]) -> None:
    pool = routeros_api.RouterOsApiPool(
        node["host"], username=node["user"], password=node["pass"], port=node["port"], plaintext_login=True
    )
    try:
        api = pool.get_api()
        for menu, attribute, name in _MENUS:
            resource = api.get_resource(menu)
            for row in resource.get(**{attribute: payload[name]}):
                resource.remove(id=row["id"])
    finally:
        pool.disconnect()


def _now_ms() -> str:
    return str(time.time_ns() // 1_000_000)


def _signed(stamp: str, text: bytes) -> dict[str, str]:
    return {"x-relay-ts": stamp, "x-relay-hmac": signature(text).decode()}


def _work(told: dict[str, Any]) -> dict[str, Any]:
    """Until so many are acked."""
    nodes = {node["id"]: node for node in told["nodes"]}
    peer = _Peer(f"http://127.0.0.1:{told['port']}", told["conninfo"], nodes)
    with psycopg.connect(peer.conninfo, autocommit=True) as conn:
        conn.execute(_TABLES)
    before_s, until_s = used_s(psutil.Process()), time.monotonic() + told["within_s"]
    with httpx.Client(timeout=_REQUEST_S, trust_env=False) as client, ThreadPoolExecutor(THREADS) as threads:
        while peer.acked < told["count"] and not peer.failures and time.monotonic() < until_s:
            events = peer.fetch(client)
            for event in events:
                threads.submit(peer.run, event)
            time.sleep(0 if events else _POLL_S)
        threads.shutdown(cancel_futures=True)
    return {"acked": peer.acked, "cpu_s": used_s(psutil.Process()) - before_s, "failures": peer.failures[:1]}


if __name__ == "__main__":
    answer(_work)
