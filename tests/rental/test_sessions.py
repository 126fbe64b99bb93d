"""What comes after a session, and beside it: refunds, lists, wallets, PCs."""

from uuid import UUID, uuid4

from attrs import evolve
import pytest

from opendesk.errors import Forbidden
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import pcs, sessions, wallets
from opendesk.rental.errors import (
    InsufficientFunds,
    InvalidStatus,
    PcBusy,
    PcNotFound,
    RefundTooLarge,
    SessionNotFound,
)
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.rental.wallets import RETAINED
from tests.rental.builders import (
    HOUR,
    MINUTE,
    Stage,
    add_client,
    add_user,
    age,
    balance,
    cancel,
    credit,
    debit,
    end,
    held_by,
    offer,
    rent,
    reserve,
    set_stage,
    start,
)

pytestmark = pytest.mark.books

NONE, HOST, CLIENT, PLATFORM = FailureReason


# ---- refund


async def over(conn: TrioConnection, stage: Stage) -> Session:
    """Half of 24.00 was used; 12.00 are retained."""
    return await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT)


async def refund(conn: TrioConnection, session: Session, amount: int) -> None:
    admin = await add_user(conn, role="ADMIN")
    tx = await sessions.refund(conn, session.id, amount, "GOODWILL", made_by=admin.id)
    assert (tx.user_id, tx.type, tx.amount, tx.reason) == (session.client_user_id, "CREDIT", amount, "GOODWILL")


async def test_refund_comes_out_of_what_was_retained(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    before = await balance(conn, stage.client)
    await refund(conn, session, 500)
    assert await balance(conn, stage.client) == before + 500
    assert await held_by(conn, RETAINED) == 700


async def test_refund_leaves_the_settlement_as_it_was(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await refund(conn, session, 1200)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).settlement == session.settlement


async def test_refunds_never_add_up_to_more_than_was_retained(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await refund(conn, session, 1199)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 2)
    await refund(conn, session, 1)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 1)


async def test_nothing_is_refunded_of_a_session_of_which_nothing_was_retained(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await cancel(conn, (await reserve(conn, stage)).id)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 1)


async def test_a_live_session_has_nothing_to_refund(conn: TrioConnection, stage: Stage) -> None:
    with pytest.raises(InvalidStatus):
        await refund(conn, await rent(conn, stage), 1)


async def test_a_session_that_is_not_there_has_nothing_to_refund(conn: TrioConnection) -> None:
    with pytest.raises(SessionNotFound):
        await sessions.refund(conn, uuid4(), 1, "GOODWILL", made_by=(await add_user(conn, role="ADMIN")).id)


# ---- who sees what


async def test_client_host_and_admin_see_a_session_and_nobody_else(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    for user in (stage.client, stage.host.user):
        assert (await sessions.get(conn, session.id, caller=user, admin=False)).id == session.id
    stranger = await add_client(conn)
    assert (await sessions.get(conn, session.id, caller=stranger, admin=True)).id == session.id
    with pytest.raises(Forbidden):
        await sessions.get(conn, session.id, caller=stranger, admin=False)
    with pytest.raises(SessionNotFound):
        await sessions.get(conn, uuid4(), caller=stage.client, admin=False)


async def test_minutes_of_an_active_session_run(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, 60, used=29.5 * MINUTE)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).minutes_used == 30
    await age(conn, session.id, HOUR)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).minutes_used == 60


async def listed(
    conn: TrioConnection, user: UUID, host: UUID | None, *, status: str | None = None, before: UUID | None = None
) -> list[UUID]:
    found = await sessions.list_some(
        conn,
        user_id=user,
        host_id=host,
        admin=False,
        before=before or UUID(int=2**128 - 1),
        wanted=100,
        status=status,
    )
    return [session.id for session in found]


async def test_lists_have_what_one_rents_and_what_one_lets_newest_first(conn: TrioConnection, stage: Stage) -> None:
    await credit(conn, stage.host.user, 10_000)
    other = await set_stage(conn)
    first = await over(conn, stage)
    second = await reserve(conn, evolve(other, client=stage.host.user))
    third = await reserve(conn, stage)
    assert await listed(conn, stage.host.user, stage.host.id) == [third.id, second.id, first.id]
    assert await listed(conn, stage.host.user, stage.host.id, before=third.id) == [second.id, first.id]
    assert await listed(conn, stage.host.user, stage.host.id, status="ENDED") == [first.id]
    assert await listed(conn, stage.client, None) == [third.id, first.id]
    assert await listed(conn, await add_client(conn), None) == []


# ---- wallets


async def test_a_debit_over_the_balance_is_refused(conn: TrioConnection, stage: Stage) -> None:
    with pytest.raises(InsufficientFunds):
        await debit(conn, stage.client, 10_001)
    await debit(conn, stage.client, 10_000)
    assert await balance(conn, stage.client) == 0


async def test_what_is_held_can_not_be_debited(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    with pytest.raises(InsufficientFunds):
        await debit(conn, stage.client, 7601)


async def test_a_wallet_tells_of_its_movements_newest_first(conn: TrioConnection, stage: Stage) -> None:
    await over(conn, stage)
    seen = await wallets.transactions(conn, stage.client, before=UUID(int=2**128 - 1), wanted=100)
    assert [(tx.type, tx.amount, tx.reason) for tx in seen] == [
        ("DEBIT", 2400, "SESSION_HOLD"),
        ("CREDIT", 10_000, "TOP_UP"),
    ]
    paid = await wallets.transactions(conn, stage.host.user, before=UUID(int=2**128 - 1), wanted=100)
    assert [(tx.type, tx.amount, tx.reason) for tx in paid] == [("CREDIT", 1080, "SESSION_PAYOUT")]


# ---- PCs


async def test_a_pc_with_a_live_session_is_not_deleted(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    with pytest.raises(PcBusy):
        await pcs.delete(conn, stage.pc)
    await start(conn, session)
    with pytest.raises(PcBusy):
        await pcs.delete(conn, stage.pc)
    await end(conn, session.id, Caller.CLIENT)
    await pcs.delete(conn, stage.pc)
    with pytest.raises(PcNotFound):
        await pcs.by_id(conn, stage.pc)


async def test_a_deleted_pcs_sessions_are_still_seen(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await pcs.delete(conn, stage.pc)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).pc_id == stage.pc


async def test_a_repeat_of_a_local_id_gives_the_existing_pc(conn: TrioConnection, stage: Stage) -> None:
    first, made = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    again, made_again = await pcs.add(conn, stage.host.id, offer(local_pc_id="one", price=1), currency="BRL")
    assert (made, made_again, again) == (True, False, first)


async def test_a_deleted_pcs_local_id_is_free_again(conn: TrioConnection, stage: Stage) -> None:
    first, _ = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    await pcs.delete(conn, first.id)
    again, made = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    assert made
    assert again.id != first.id
