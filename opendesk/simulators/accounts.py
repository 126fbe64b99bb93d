"""What everybody has at the end of a day: read over HTTP by each of them, and from the ledger's entries."""

from typing import Any, Final

from opendesk.postgres.pool import Pool
from opendesk.rental import ledger
from opendesk.rental.ledger import Verification
from opendesk.simulators.api_client import Api
from opendesk.simulators.books import ClientLine, HostLine, Movement, Totals, client_line, host_line
from opendesk.simulators.clients import ClientSimulator
from opendesk.simulators.hosts import HostSimulator
from opendesk.simulators.views import SessionView

_TOTALS: Final = """
    SELECT -sum(amount) FILTER (WHERE a.kind = 'EXTERNAL' AND amount < 0) AS topped_up,
           sum(amount) FILTER (WHERE a.kind = 'EXTERNAL' AND amount > 0) AS paid_out,
           sum(amount) FILTER (WHERE a.kind = 'WALLET' AND h.id IS NULL) AS client_wallets,
           sum(amount) FILTER (WHERE a.kind = 'WALLET' AND h.id IS NOT NULL) AS host_wallets,
           sum(amount) FILTER (WHERE a.kind = 'ESCROW') AS escrow,
           sum(amount) FILTER (WHERE a.kind = 'FEES') AS fees,
           sum(amount) FILTER (WHERE a.kind = 'RETAINED') AS retained,
           sum(amount) AS entries
      FROM entries e JOIN accounts a ON a.id = e.account_id LEFT JOIN hosts h ON h.user_id = a.user_id
"""


async def totals(pool: Pool) -> Totals:
    """Where the money is at this moment. It reads every entry: for a throw-away database."""
    async with pool.connection() as conn:
        row = await conn.fetch_one(_TOTALS)
    assert row is not None
    return Totals(*(int(value or 0) for value in row))


async def verification(pool: Pool) -> Verification:
    """What `opendesk ledger verify` finds."""
    async with pool.connection() as conn:
        return await ledger.verify(conn)


async def every_session(admin: Api) -> tuple[SessionView, ...]:
    return tuple(SessionView.of(session) for session in await admin.list_all("/sessions"))


async def line_of_client(client: ClientSimulator) -> ClientLine:
    sessions = [s for s in map(SessionView.of, await client.api.list_all("/sessions")) if s.minutes_used]
    return client_line(
        client.name,
        wallet=await client.balance(),
        movements=await _movements(client.api, client.user_id),
        sessions=len(sessions),
    )


async def line_of_host(host: HostSimulator) -> HostLine:
    profile = (await host.api.get(f"/hosts/{host.id}"))["hostProfile"]
    return host_line(
        host.name,
        wallet=(await host.api.get(f"/wallets/{host.account.user_id}"))["balance"],
        movements=await _movements(host.api, host.account.user_id),
        sessions=[SessionView.of(session) for session in await host.api.list_all("/sessions")],
        pcs=len(host.pcs),
        score=profile["reliabilityScore"],
        badge=profile["reliabilityBadge"],
    )


async def _movements(api: Api, user_id: str) -> list[Movement]:
    return [_movement(tx) for tx in await api.list_all(f"/wallets/{user_id}/transactions")]


def _movement(tx: dict[str, Any]) -> Movement:
    return Movement(tx["amount"] if tx["type"] == "CREDIT" else -tx["amount"], tx["reason"])
