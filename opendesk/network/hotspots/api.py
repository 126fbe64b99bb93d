"""The calls of backends that sell access: devices say hello, orders open the way, and close it again."""

from typing import Any

from attrs import evolve, frozen

from opendesk.errors import DatabaseUnavailable, Forbidden, Misfit, Overloaded, RateLimited, ValidationFailed
from opendesk.network.hotspots import errors
from opendesk.network.hotspots.actions import Actions
from opendesk.network.hotspots.answers import Held, HelloAnswer, Pending, Told
from opendesk.network.hotspots.requests import (
    ACTIONS,
    ActionCall,
    AuthorizeByPedido,
    Hello,
    ResyncDevice,
    RevokeSession,
)
from opendesk.network.routers.errors import CircuitOpen, RouterNotFound, RouterUnavailable
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.reading import refused, structure_value
from opendesk.web.responder import CALL_S


@frozen
class ActionAnswer:
    ok: bool
    action: str
    trace_id: str
    result: Held


@frozen
class ActionPending:
    """The router is slow: the job goes on, and `GET /relay/jobs/{id}` tells of it."""

    ok: bool
    pending: bool
    action: str
    trace_id: str
    job_id: str


@frozen
class Hotspots:
    """The handlers."""

    _actions: Actions

    async def hello(self, call: Call) -> Answer:
        return Answer(await self._actions.hello(call.body))

    async def authorize(self, call: Call) -> Answer:
        return _answer(await self._actions.authorize(call.body, call.request.request_id))

    async def resync(self, call: Call) -> Answer:
        return _answer(await self._actions.resync(call.body, call.request.request_id))

    async def revoke(self, call: Call) -> Answer:
        return _answer(await self._actions.revoke(call.body, call.request.request_id))

    async def action(self, call: Call) -> Answer:
        asked: ActionCall = call.body
        if asked.action not in ACTIONS:
            raise errors.ActionNotAllowed(f"allowed are {', '.join(ACTIONS)}")
        payload: Any = structure_value(asked.payload, ACTIONS[asked.action], "/payload")
        trace_id = asked.trace_id or call.request.request_id
        try:
            told = await self._act(payload, trace_id, asked.source)
        except ValidationFailed as error:
            raise refused([evolve(fault, pointer=f"/payload{fault.pointer}") for fault in error.errors]) from None
        if isinstance(told, Pending):
            answer = ActionPending(ok=True, pending=True, action=asked.action, trace_id=trace_id, job_id=told.job_id)
            return Answer(answer, 202)
        return Answer(ActionAnswer(ok=True, action=asked.action, trace_id=trace_id, result=told))

    async def _act(self, payload: Any, trace_id: str, source: str | None) -> Told:
        match payload:
            case AuthorizeByPedido():
                return await self._actions.authorize(payload, trace_id, source)
            case ResyncDevice():
                return await self._actions.resync(payload, trace_id, source)
            case _:
                return await self._actions.revoke(payload, trace_id, source)


def _answer(told: Told) -> Answer:
    return Answer(told, 202 if isinstance(told, Pending) else 200)


def endpoints(actions: Actions) -> tuple[Endpoint, ...]:
    api = Hotspots(actions)
    # Of the database before and after the wait for the router, as all other calls.
    limit_s = actions.timeout_s + CALL_S
    unknown = (RouterNotFound, errors.DeviceNotFound, errors.RouterMismatch)
    router = (
        RouterUnavailable,
        CircuitOpen,
        errors.RouterRefused,
        errors.RouterDoesNotHold,
        errors.RouterConflict,
        errors.ActionFailed,
        errors.Superseded,
    )
    common = (Misfit, RateLimited, DatabaseUnavailable, Overloaded)
    held = {200: Held, 202: Pending}

    def post(path: str, summary: str, **given: Any) -> Endpoint:
        given = {"access": Access.RELAY, "tag": "relay", "limit_s": limit_s, **given}
        return Endpoint("POST", path, summary, **given)

    # fmt: off
    return (
        post("/relay/device/hello", "A device behind a hotspot says where it is", answers={200: HelloAnswer}, handler=api.hello, body=Hello,
             limit_s=None, errors=(*unknown, *common)),
        post("/relay/authorize-by-pedido", "Open the way for a paid order", answers=held, handler=api.authorize, body=AuthorizeByPedido,
             errors=(*unknown, errors.GrantEnded, *router, *common)),
        post("/relay/resync-device", "Move an order's access to where its device is now", answers=held, handler=api.resync,
             body=ResyncDevice, errors=(*unknown, errors.GrantEnded, *router, *common)),
        post("/relay/revoke", "Close the way", answers=held, handler=api.revoke, body=RevokeSession,
             errors=(RouterNotFound, *router, *common)),
        post("/relay/action", "One of these three, by name", answers={200: ActionAnswer, 202: ActionPending}, handler=api.action,
             body=ActionCall, errors=(Forbidden, errors.ActionNotAllowed, *unknown, errors.GrantEnded, *router, *common)),
    )
    # fmt: on
