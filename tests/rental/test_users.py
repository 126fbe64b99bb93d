"""Users on PostgreSQL: how many log-ins are tried, whose tokens still count, who can be made twice."""

from hashlib import sha256

import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import hosts, users, wallets
from opendesk.rental.errors import EmailTaken, UsernameTaken
from opendesk.rental.users import LOGIN_FAILURES, LOGIN_WINDOW_S
from opendesk.web.auth import Caller, Claims
from tests.rental.builders import HASH, add_user
from tests.rental.racing import at_once

KEY, OTHER = sha256(b"ana").digest(), sha256(b"eve").digest()


async def grow_old(conn: TrioConnection, seconds: float) -> None:
    await conn.run("UPDATE login_attempts SET window_start = window_start - %s * interval '1 second'", (seconds,))


# ---- log-ins


async def test_each_try_counts_as_failed_until_it_worked(conn: TrioConnection) -> None:
    assert [(await users.try_login(conn, KEY)).failures for _ in range(3)] == [1, 2, 3]
    await users.login_worked(conn, KEY)
    assert (await users.try_login(conn, KEY)).failures == 1


async def test_tries_at_once_are_all_counted(conn: TrioConnection, pool: Pool) -> None:
    counted = list[int]()

    async def attempt(own: TrioConnection) -> None:
        counted.append((await users.try_login(own, KEY)).failures)

    for _ in range(4):
        await at_once(pool, [attempt] * 8)
    assert sorted(counted) == list(range(1, 33))
    assert sum(failures <= LOGIN_FAILURES for failures in counted) == 5


async def test_each_key_is_counted_for_itself(conn: TrioConnection) -> None:
    await users.try_login(conn, KEY)
    assert (await users.try_login(conn, OTHER)).failures == 1


async def test_the_count_begins_anew_when_the_window_is_over(conn: TrioConnection) -> None:
    for _ in range(7):
        await users.try_login(conn, KEY)
    await grow_old(conn, LOGIN_WINDOW_S - 10)
    attempt = await users.try_login(conn, KEY)
    assert attempt.failures == 8
    assert 0 < attempt.left_s <= 10
    await grow_old(conn, 11)
    attempt = await users.try_login(conn, KEY)
    assert attempt.failures == 1
    assert LOGIN_WINDOW_S - 10 < attempt.left_s <= LOGIN_WINDOW_S


async def test_going_on_trying_does_not_keep_the_door_shut_for_longer(conn: TrioConnection) -> None:
    await users.try_login(conn, KEY)
    await grow_old(conn, 200)
    assert (await users.try_login(conn, KEY)).left_s <= LOGIN_WINDOW_S - 200


async def test_old_tries_are_forgotten_and_young_ones_kept(conn: TrioConnection) -> None:
    await users.try_login(conn, KEY)
    await grow_old(conn, LOGIN_WINDOW_S + 1)
    await users.try_login(conn, OTHER)
    assert await users.forget_old_attempts(conn) == 1
    assert (await users.try_login(conn, OTHER)).failures == 2


# ---- tokens


async def admitted(conn: TrioConnection, account: users.Account, version: int) -> bool:
    caller = await users.find_caller(conn, Claims(account.id, version))
    assert caller in (None, Caller(account.id, account.role, account.host_id))
    return caller is not None


async def test_a_log_out_ends_older_tokens(conn: TrioConnection) -> None:
    account = await add_user(conn)
    assert await admitted(conn, account, 1)
    await users.end_tokens(conn, account.id)
    assert [await admitted(conn, account, version) for version in (1, 2, 3)] == [False, True, False]


async def test_a_new_password_ends_older_tokens(conn: TrioConnection) -> None:
    account = await add_user(conn)
    assert await users.set_password(conn, account.id, old_hash=HASH, password_hash="another")
    assert [await admitted(conn, account, version) for version in (1, 2)] == [False, True]


async def test_a_password_changed_meanwhile_is_not_changed_again(conn: TrioConnection, pool: Pool) -> None:
    account = await add_user(conn)

    async def change(own: TrioConnection) -> str:
        changed = await users.set_password(own, account.id, old_hash=HASH, password_hash="another")
        return "changed" if changed else "too late"

    assert sorted(await at_once(pool, [change] * 8)) == ["changed"] + ["too late"] * 7


async def test_a_ban_ends_tokens_and_lifting_it_brings_none_back(conn: TrioConnection) -> None:
    account = await add_user(conn)
    assert await users.set_banned(conn, account.email.upper(), banned=True)
    assert not await admitted(conn, account, 1)
    assert not await admitted(conn, account, 2)
    assert await users.by_email(conn, account.email) is None
    assert await users.set_banned(conn, account.email, banned=False)
    assert not await admitted(conn, account, 1)
    assert await admitted(conn, account, 3)


async def test_nobody_is_banned_who_is_not_there(conn: TrioConnection) -> None:
    assert not await users.set_banned(conn, "nobody@example.org", banned=True)


# ---- registering


async def register(conn: TrioConnection, *, email: str, username: str, role: str = "CLIENT") -> users.Account:
    return await users.add(conn, email=email, username=username, display_name=None, role=role, password_hash=HASH)


async def test_an_e_mail_address_and_a_name_are_one_users(conn: TrioConnection) -> None:
    await register(conn, email="Ana@example.org", username="Ana")
    with pytest.raises(EmailTaken):
        await register(conn, email="ana@EXAMPLE.org", username="other")
    with pytest.raises(UsernameTaken):
        await register(conn, email="other@example.org", username="aNA")
    assert await conn.fetch_one("SELECT count(*) FROM accounts WHERE kind = 'WALLET'") == (1,)


async def test_of_eight_who_register_one_address_one_gets_it(conn: TrioConnection, pool: Pool) -> None:
    numbers = iter(range(8))

    async def one(own: TrioConnection) -> None:
        await register(own, email="a@example.org", username=f"user-{next(numbers)}")

    got = await at_once(pool, [one] * 8)
    assert sorted(got) == ["EMAIL_TAKEN"] * 7 + ["OK"]
    assert await conn.fetch_one(
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM accounts WHERE user_id IS NOT NULL)"
    ) == (1, 1)


async def test_everybody_comes_with_an_empty_wallet_and_a_host_with_a_profile(conn: TrioConnection) -> None:
    for role in ("CLIENT", "HOST", "ADMIN"):
        account = await add_user(conn, role=role)
        assert (await wallets.by_user(conn, account.id, currency="BRL")).balance == 0
        assert (account.host_id is not None) == (role == "HOST")
        assert (await hosts.by_user(conn, account.id) is not None) == (role == "HOST")


async def test_of_eight_times_becoming_a_host_one_makes_the_profile(conn: TrioConnection, pool: Pool) -> None:
    account = await add_user(conn)

    async def become(own: TrioConnection) -> str:
        return "made" if await hosts.add(own, account.id) else "there"

    assert sorted(await at_once(pool, [become] * 8)) == ["made"] + ["there"] * 7
    caller = await users.find_caller(conn, Claims(account.id, 1))
    assert caller is not None
    assert caller.role == "HOST"
    assert caller.host_id is not None


async def test_an_admin_who_becomes_a_host_stays_an_admin(conn: TrioConnection) -> None:
    account = await add_user(conn, role="ADMIN")
    assert await hosts.add(conn, account.id)
    caller = await users.find_caller(conn, Claims(account.id, 1))
    assert caller is not None
    assert caller.is_admin
