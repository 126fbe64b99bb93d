"""The simulated backend's HTTP: as it should be, and as its faults want it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import h11
import trio

from opendesk.simulators.event_backend import DRIP_S, MOST_BODY, Asked, EventBackend, Fault, Reply

_RECEIVE: Final = 2**16


@asynccontextmanager
async def served(backend: EventBackend, port: int = 0) -> AsyncIterator[str]:
    """The URL that it is at, without a path, for as long as this lasts."""
    async with trio.open_nursery() as nursery:
        handler = partial(_connection, backend)
        listeners = await nursery.start(partial(trio.serve_tcp, handler, port, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def _connection(backend: EventBackend, stream: trio.SocketStream) -> None:
    http = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while (asked := await _next(backend, http, stream)) is not None:
                await _send(http, stream, backend.answer(asked))
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    return
                http.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return  # the daemon left, as it may


async def _next(backend: EventBackend, http: h11.Connection, stream: trio.SocketStream) -> Asked | None:
    request, body = None, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(_RECEIVE))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data) and len(body) <= MOST_BODY:
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return _asked(backend, request, bytes(body))
        else:
            return None


def _asked(backend: EventBackend, request: h11.Request, body: bytes) -> Asked:
    method, headers = (
        request.method.decode(),
        {name.decode(): value.decode("latin-1") for name, value in request.headers},
    )
    return Asked(method, request.target.decode(), headers, body, backend.is_signed(headers, method, body))


async def _send(http: h11.Connection, stream: trio.SocketStream, reply: Reply) -> None:
    if reply.fault is Fault.SILENT:
        await stream.receive_some(1)  # until the other side has had enough
    if reply.fault in {Fault.SILENT, Fault.HUNG_UP}:
        return
    headers = [*reply.headers, ("content-length", str(len(reply.body)))]
    head = http.send(h11.Response(status_code=reply.status, headers=headers))
    body = http.send(h11.Data(data=reply.body))
    if reply.fault is Fault.CUT_OFF:
        await stream.send_all((head + body)[: len(head) + len(body) // 2])
        return
    if reply.fault is Fault.DRIPPED:
        await _drip(stream, head + body)
    else:
        await stream.send_all(head + body)
    http.send(h11.EndOfMessage())


async def _drip(stream: trio.SocketStream, data: bytes) -> None:
    for byte in data:
        await stream.send_all(bytes([byte]))
        await trio.sleep(DRIP_S)
