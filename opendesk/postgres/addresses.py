"""Where to connect to: one connection attempt for each address that a conninfo's hosts stand for."""

from random import shuffle
import socket

from psycopg import OperationalError
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.abc import ConnDict
import trio

DEFAULT_PORT = "5432"


async def connection_attempts(params: ConnDict) -> list[ConnDict]:
    """What to try, in this order. libpq itself would look a host name up with a call that blocks every task.

    Several hosts, `hostaddr`, `load_balance_hosts=random`, `target_session_attrs=prefer-standby` and libpq's
    environment variables mean what they mean to libpq. Raises OperationalError if no host name is known.
    """
    prefer_standby = get_param(params, "target_session_attrs") == "prefer-standby"
    attempts: list[ConnDict] = []
    failure: OSError | None = None
    for host in split_attempts(params):
        try:
            attempts += await _resolved(host)
        except OSError as exc:
            failure = exc
    if not attempts:
        raise OperationalError(f"failed to resolve host {get_param(params, 'host')!r}: {failure}") from failure
    if get_param(params, "load_balance_hosts") == "random":
        shuffle(attempts)
    if prefer_standby:
        standby: list[ConnDict] = [{**attempt, "target_session_attrs": "standby"} for attempt in attempts]
        attempts = standby + [{**attempt, "target_session_attrs": "any"} for attempt in attempts]
    return attempts


async def _resolved(params: ConnDict) -> list[ConnDict]:
    host = get_param(params, "host")
    if not host or host.startswith(("/", "@")) or get_param(params, "hostaddr"):
        return [params]  # a Unix socket, or resolved already
    port = get_param(params, "port") or DEFAULT_PORT
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [{**params, "hostaddr": str(sockaddr[0])} for *_, sockaddr in found]
