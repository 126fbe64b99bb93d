"""What Schemathesis is told of the world: which token is good now, and where there is a PC to rent. Its process reads this, not pytest."""

from collections.abc import Callable
from datetime import timedelta
from itertools import cycle
import os
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import schemathesis
from schemathesis import AuthContext, Case, HookContext

from opendesk.web.auth import Tokens, utc_now
from tests.web.site import INTERNAL_TOKEN, JWT_SECRET, PASSWORD, PASSWORD_HASH, RELAY_TOKEN

Fit = Callable[["Case[Any]", Any], None]

PERSON: Final = UUID(os.environ["OPENDESK_TEST_PERSON"])
PC: Final = os.environ["OPENDESK_TEST_PC"]

TOKENS: Final = Tokens(JWT_SECRET.encode(), timedelta(hours=1))
# As a replica it heeds no triggers: what is over can't be changed otherwise.
DATABASE: Final = psycopg.connect(
    os.environ["OPENDESK_TEST_DATABASE"],
    autocommit=True,
    options="-c search_path=opendesk -c session_replication_role=replica",
)
API: Final = httpx.Client(base_url=os.environ["OPENDESK_TEST_URL"])


def token() -> str:
    """Good now: log-outs and new passwords are among the calls that are tried."""
    row = DATABASE.execute("SELECT role, token_version FROM users WHERE id = %s", [PERSON]).fetchone()
    assert row is not None
    return TOKENS.issue(PERSON, row[0], row[1], now=utc_now())


@schemathesis.auth(refresh_interval=None)
class Auth:
    def get(self, case: Case[Any], context: AuthContext) -> str:
        return token()

    def set(self, case: Case[Any], data: str, context: AuthContext) -> None:
        security = case.operation.definition.raw.get("security", [])
        if any("relayToken" in alternative for alternative in security):
            case.headers["X-Relay-Token"] = RELAY_TOKEN
            if any("internalToken" in alternative for alternative in security):
                case.headers["X-Relay-Internal-Token"] = INTERNAL_TOKEN
        else:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Of a request that is meant to fit: what fits only in this world. Every other one stays as it was made up."""
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        return
    # Schemathesis likes short keys again and again; one that was used for another request is refused, as it should be.
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())
    fit = FITTING.get(case.operation.label)
    if fit is not None and next(EVERY_OTHER):
        fit(case, case.body)


def change_password(_: Case[Any], body: Any) -> None:
    """With the right one."""
    DATABASE.execute("UPDATE users SET password_hash = %s WHERE id = %s", [PASSWORD_HASH, PERSON])
    body["current"] = PASSWORD


def reserve(_: Case[Any], body: Any) -> None:
    """A random id names no PC, and one session is all that a client may have."""
    make_rentable()
    body["pcId"] = PC
    body.pop("clientUserId", None)


def of_a_session(*steps: str) -> Fit:
    """Of one that took these steps."""

    def fit(case: Case[Any], _: Any) -> None:
        make_rentable()
        made = API.post("/sessions", json={"pcId": PC, "minutesPurchased": 60}).raise_for_status()
        case.path_parameters["id"] = made.json()["session"]["id"]
        for step in steps:
            API.post(f"/sessions/{case.path_parameters['id']}/{step}").raise_for_status()

    return fit


EVERY_OTHER: Final = cycle((True, False))
FITTING: Final[dict[str, Fit]] = {
    "POST /auth/password": change_password,
    "POST /sessions": reserve,
    "GET /sessions/{id}": of_a_session("start"),
    "POST /sessions/{id}/start": of_a_session(),
    "POST /sessions/{id}/end": of_a_session("start"),
    "POST /sessions/{id}/cancel": of_a_session(),
    "POST /sessions/{id}/refund": of_a_session("start", "end"),
    "POST /sessions/{id}/stream/start": of_a_session(),
}


def make_rentable() -> None:
    """Whatever an admin's random calls have done to it, and whatever else this client rents."""
    API.headers["Authorization"] = f"Bearer {token()}"
    find = "SELECT id, status FROM sessions WHERE client_user_id = %s AND status IN ('PENDING', 'ACTIVE')"
    for session, status in DATABASE.execute(find, [PERSON]).fetchall():
        API.post(f"/sessions/{session}/{'end' if status == 'ACTIVE' else 'cancel'}").raise_for_status()
    # Reservations of long ago keep nobody from making another.
    DATABASE.execute(
        "UPDATE sessions SET created_at = created_at - interval '1 day' WHERE client_user_id = %s", [PERSON]
    )
    DATABASE.execute(
        """UPDATE pcs SET status = 'ONLINE', taken_off = false, deleted_at = NULL, price_per_hour = 2400, connection_host = '203.0.113.7'
            WHERE id = %s""",
        [PC],
    )
