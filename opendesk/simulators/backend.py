"""A backend that sells access: it calls the network API with the relay's token, and signs each call as its developers are told to.

What it signs is written here from the description alone (docs/hotspots.md), so that the daemon doesn't agree with itself only.
"""

from collections.abc import Callable, Mapping
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

from attrs import define, field

from opendesk.simulators.api_client import Api

# 22 characters; 16 to 64 are taken.
_NONCE_BYTES = 16


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_nonce() -> str:
    return secrets.token_urlsafe(_NONCE_BYTES)


@define(eq=False)
class Backend:
    """Of one shop. All calls raise ApiError and ApiUnreachable."""

    _api: Api
    _token: str = field(repr=False)
    _secret: str = field(repr=False)
    _now_ms: Callable[[], int] = now_ms
    _new_nonce: Callable[[], str] = new_nonce
    calls: int = 0

    async def hello(self, router: str, ip: str, mac: str) -> str:
        """A phone has opened the login page: the token that it is known by from now on."""
        token: str = (await self._post("/relay/device/hello", {"mikId": router, "ip": ip, "mac": mac}))["deviceToken"]
        return token

    async def authorize(self, router: str, order: str, device_token: str, minutes: int) -> dict[str, Any]:
        """The order is paid."""
        asked = {"mikId": router, "pedidoId": order, "deviceToken": device_token, "minutes": minutes}
        return await self._post("/relay/authorize-by-pedido", asked)

    async def resync(self, router: str, order: str, device_token: str, ip: str, mac: str) -> dict[str, Any]:
        """The phone is elsewhere now."""
        asked = {"mikId": router, "pedidoId": order, "deviceToken": device_token, "ipAtual": ip, "macAtual": mac}
        return await self._post("/relay/resync-device", asked)

    async def revoke(self, router: str, mac: str) -> dict[str, Any]:
        return await self._post("/relay/revoke", {"mikId": router, "mac": mac})

    async def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = (await self._get(f"/relay/jobs/{job_id}"))["job"]
        return job

    async def circuit(self, router: str) -> str:
        """`closed`, `open` or `half-open`."""
        routers = (await self._get("/relay/routers"))["items"]
        state: str = next(each["breaker"]["state"] for each in routers if each["id"] == router)
        return state

    async def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self._api.send("GET", path, headers={"x-relay-token": self._token})).body
        return answer

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        content = json.dumps(body).encode()
        headers = {
            "content-type": "application/json",
            "x-relay-token": self._token,
            **self._signature("POST", path, content),
        }
        answer: dict[str, Any] = (await self._api.send("POST", path, content=content, headers=headers)).body
        return answer

    def _signature(self, method: str, target: str, body: bytes) -> dict[str, str]:
        sent_ms, nonce = str(self._now_ms()), self._new_nonce()
        signed = b"\n".join([method.encode(), target.encode(), sent_ms.encode(), nonce.encode(), body])
        digest = hmac.new(self._secret.encode(), signed, hashlib.sha256).hexdigest()
        return {"x-relay-ts": sent_ms, "x-relay-nonce": nonce, "x-relay-signature": f"v1={digest}"}
