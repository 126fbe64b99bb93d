"""Which routers there are: those of the database, and those of MIKROTIK_NODES beside them."""

from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from opendesk.network import rekeying
from opendesk.network.routers import registry, states
from opendesk.network.routers.errors import RouterNotFound, SealingUnavailable
from opendesk.network.routers.registry import NewRouter, RouterSpec
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.postgres.driver import TrioConnection
from opendesk.settings import Settings
from opendesk.settings.routers import RouterNode
from opendesk.settings.secret import Secret

OLD, NEW, OTHER = Secret(bytes(32)), Secret(bytes(range(32))), Secret(bytes(range(1, 33)))
SETTINGS = Settings(relay_master_key=(NEW,))
PASSWORD = Secret("Pässwörd 'n' \"all\" $x\\")


async def put(conn: TrioConnection, router_id: str = "r1", *keys: Secret[bytes], password: str | None = None) -> bool:
    new = NewRouter(
        id=router_id, host="10.0.0.1", user="api", password=PASSWORD if password is None else Secret(password)
    )
    return await registry.put(conn, new, Sealer(keys or (NEW,)))


async def sealed_of(conn: TrioConnection, router_id: str = "r1") -> bytes:
    row = await registry.get(conn, router_id)
    assert row is not None
    assert row.password_sealed is not None
    return row.password_sealed


async def spec_of(conn: TrioConnection, settings: Settings = SETTINGS, router_id: str = "r1") -> RouterSpec:
    assert await registry.find(conn, settings, router_id) == (await registry.load(conn, settings))[router_id]
    return await registry.find(conn, settings, router_id)


# ---- the database's


async def test_what_is_registered_is_found_as_it_was_given(conn: TrioConnection) -> None:
    assert await put(conn)
    spec = await spec_of(conn)
    assert (spec.host, spec.port, spec.user, spec.password, spec.tls, spec.fault) == (
        "10.0.0.1", 8728, "api", PASSWORD, False, None,
    )  # fmt: skip


async def test_registered_again_it_is_changed(conn: TrioConnection) -> None:
    await put(conn)
    pin = bytes(range(32))
    again = NewRouter(
        id="r1", host="h.example", tls=True, tls_sha256=pin, user="b", password=Secret("q"), timeout_ms=900
    )
    assert not await registry.put(conn, again, Sealer((NEW,)))
    spec = await spec_of(conn)
    assert (spec.host, spec.port, spec.tls, spec.tls_sha256, spec.timeout_s) == ("h.example", 8729, True, pin, 0.9)
    assert spec.password == Secret("q")


async def test_a_change_forgets_what_failed(conn: TrioConnection) -> None:
    await put(conn)
    await conn.run(
        "INSERT INTO router_states (router_id, leased_by, leased_until, failures, open_until, booted_at)"
        " VALUES ('r1', gen_random_uuid(), now(), 9, now() + interval '1 hour', now())"
    )
    assert await states.circuit_open(conn, "r1")
    await put(conn)
    state = (await states.read(conn, ["r1"]))["r1"]
    assert (state.failures, state.open_until, state.booted_at) == (0, None, None)


async def test_a_removed_one_is_not_found(conn: TrioConnection) -> None:
    await put(conn)
    await registry.remove(conn, "r1")
    assert await registry.load(conn, SETTINGS) == {}
    with pytest.raises(RouterNotFound, match="r1"):
        await registry.find(conn, SETTINGS, "r1")
    with pytest.raises(RouterNotFound, match="r1"):
        await registry.remove(conn, "r1")


async def test_without_credentials_of_its_own_it_has_the_settings(conn: TrioConnection) -> None:
    await registry.put(conn, NewRouter(id="r1", host="h"), Sealer(()))
    settings = Settings(mikrotik_user="all", mikrotik_pass=Secret("of them"), mikrotik_port=18728)
    spec = await spec_of(conn, settings)
    assert (spec.user, spec.password, spec.port, spec.fault) == ("all", Secret("of them"), 18728, None)
    assert "MIKROTIK_USER" in str((await spec_of(conn, Settings())).fault)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": "a b"}, {"id": ""}, {"id": "x" * 65}, {"host": ""}, {"port": 0}, {"port": 65_536}, {"timeout_ms": 0},
        {"tls_sha256": b"short", "tls": True}, {"tls_sha256": bytes(32)}, {"user": ""}, {"user": None},
    ],
)  # fmt: skip
async def test_what_can_not_be_is_refused(conn: TrioConnection, columns: dict[str, object]) -> None:
    given: dict[str, object] = {"id": "r1", "host": "h", "user": "u", "password": PASSWORD}
    with pytest.raises(psycopg.errors.CheckViolation):
        await registry.put(conn, NewRouter(**{**given, **columns}), Sealer((NEW,)))  # type: ignore[arg-type]  # on purpose


async def test_more_than_are_known_are_told_of(conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ROUTERS_MAX", 2)
    for router_id in ("a", "b"):
        await put(conn, router_id)
    with capture_logs() as logs:
        assert len(await registry.load(conn, SETTINGS)) == 2
        assert logs == []
        await put(conn, "c")
        assert set(await registry.load(conn, SETTINGS)) == {"a", "b"}
    [line] = logs
    assert (line["event"], line["known"], line["first_unknown"]) == ("registry.too_many", 2, "c")


async def test_a_router_that_can_not_be_made_sense_of_is_its_own_fault(
    conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(given: Any, *rest: Any, **more: Any) -> RouterSpec:
        if given.id in {"bad", "worse"}:
            raise UnicodeEncodeError("utf-8", "its password", 0, 1, "no reason")
        return of_row(given, *rest) if isinstance(given, registry.StoredRouter) else of_node(given, *rest, **more)

    of_row, of_node = registry.spec_of_row, registry.spec_of_node
    monkeypatch.setattr(registry, "spec_of_row", built)
    monkeypatch.setattr(registry, "spec_of_node", built)
    nodes = (RouterNode("worse", "h", "u", Secret("p")), RouterNode("fine", "h", "u", Secret("p")))
    await put(conn, "bad")
    await put(conn, "good")
    specs = await registry.load(conn, Settings(relay_master_key=(NEW,), mikrotik_nodes=nodes))
    assert {name for name, spec in specs.items() if spec.fault is None} == {"good", "fine"}
    assert specs["bad"].fault == specs["worse"].fault == "what is known of it can't be used (UnicodeEncodeError)"
    assert "its password" not in repr(specs)


# ---- its passwords


async def test_without_a_key_a_password_is_not_stored(conn: TrioConnection) -> None:
    new = NewRouter(id="r1", host="h", user="u", password=PASSWORD)
    with pytest.raises(SealingUnavailable, match="RELAY_MASTER_KEY"):
        await registry.put(conn, new, Sealer(()))
    assert await registry.list_all(conn) == []


async def test_the_password_is_in_no_column_and_no_repr(conn: TrioConnection) -> None:
    await put(conn)
    row = await conn.fetch_one("SELECT row_to_json(routers)::text FROM routers")
    assert row is not None
    shown = repr((row, await registry.list_all(conn), await spec_of(conn), await registry.load(conn, SETTINGS)))
    assert "rd 'n'" not in shown
    assert repr(await sealed_of(conn)) not in repr(await registry.list_all(conn))


@pytest.mark.parametrize(("keys", "says"), [((), "RELAY_MASTER_KEY is not set"), ((OTHER,), "not in RELAY_MASTER_KEY")])
async def test_one_whose_password_can_not_be_opened_is_there_and_says_why(
    conn: TrioConnection, keys: tuple[Secret[bytes], ...], says: str
) -> None:
    await put(conn)
    spec = await spec_of(conn, Settings(relay_master_key=keys))
    assert says in str(spec.fault)
    assert spec.password == Secret("")


async def test_a_password_put_into_anothers_row_does_not_open(conn: TrioConnection) -> None:
    await put(conn)
    await put(conn, "r2")
    await conn.run("UPDATE routers SET password_sealed = (SELECT password_sealed FROM routers WHERE id = 'r1')")
    assert (await spec_of(conn, router_id="r1")).fault is None
    assert (await spec_of(conn, router_id="r2")).fault is not None


# ---- a new key


async def rotated(conn: TrioConnection, count: int) -> None:
    for number in range(count):
        await put(conn, f"r{number}", OLD, password=f"password {number}")


async def only_new_opens(conn: TrioConnection, count: int) -> None:
    for number in range(count):
        assert Sealer((NEW,)).open(await sealed_of(conn, f"r{number}"), about=password_of(f"r{number}")) == Secret(
            f"password {number}"
        )


async def test_rekey_seals_all_with_the_first_key(conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "BATCH", 3)
    await rotated(conn, 10)
    await registry.put(conn, NewRouter(id="none", host="h"), Sealer(()))
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(10, ())
    await only_new_opens(conn, 10)
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(0, ())


async def test_an_interrupted_rekey_is_run_again(conn: TrioConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        pass

    class Interrupting:
        """As if the program died before the third batch."""

        batches = 0

        async def fetch(self, *args: object) -> object:
            self.batches += 1
            if self.batches == 3:
                raise Interrupted
            return await conn.fetch(*args)  # type: ignore[call-overload]

        async def run(self, *args: object) -> int:
            return await conn.run(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rekeying, "BATCH", 3)
    await rotated(conn, 10)
    with pytest.raises(Interrupted):
        await rekeying.rekey(Interrupting(), Sealer((NEW, OLD)))  # type: ignore[arg-type]
    specs = await registry.load(conn, Settings(relay_master_key=(NEW, OLD)))
    assert {spec.fault for spec in specs.values()} == {None}
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(4, ())
    await only_new_opens(conn, 10)


async def test_what_no_key_opens_stays_and_is_named(conn: TrioConnection) -> None:
    await put(conn, "lost", OTHER)
    await put(conn, "old", OLD)
    before = await sealed_of(conn, "lost")
    assert await rekeying.rekey(conn, Sealer((NEW, OLD))) == rekeying.Rekeyed(1, ("lost",))
    assert await sealed_of(conn, "lost") == before


async def test_a_password_that_changes_meanwhile_is_not_undone(conn: TrioConnection) -> None:
    class Changing:
        async def fetch(self, *args: object) -> object:
            rows = await conn.fetch(*args)  # type: ignore[call-overload]
            if rows:
                await put(conn, "r1", NEW, password="newer")
            return rows

        async def run(self, *args: object) -> int:
            return await conn.run(*args)  # type: ignore[arg-type]

    await put(conn, "r1", OLD)
    assert await rekeying.rekey(Changing(), Sealer((NEW, OLD))) == rekeying.Rekeyed(0, ())  # type: ignore[arg-type]
    assert (await spec_of(conn)).password == Secret("newer")


async def test_without_a_key_nothing_is_sealed_anew(conn: TrioConnection) -> None:
    with pytest.raises(SealingUnavailable):
        await rekeying.rekey(conn, Sealer(()))


# ---- the environment's


async def test_of_two_of_one_name_the_environments_counts(conn: TrioConnection) -> None:
    node = RouterNode("r1", "192.0.2.1", "root", Secret("env"), tls=True, timeout_ms=700)
    settings = Settings(
        relay_master_key=(NEW,), mikrotik_nodes=(node, RouterNode("r2", "h", "u", Secret("p"), port=99))
    )
    await put(conn)
    specs = await registry.load(conn, settings)
    assert {spec.id: (spec.host, spec.port, spec.source) for spec in specs.values()} == {
        "r1": ("192.0.2.1", 8729, "environment over database"),
        "r2": ("h", 99, "environment"),
    }
    assert specs["r1"].password == Secret("env")
    assert specs["r1"].timeout_s == 0.7


# ---- what was only pretended


DRY = Settings(relay_master_key=(NEW,), relay_dry_run=True)


async def test_what_was_pretended_is_seen_only_by_who_pretends(conn: TrioConnection) -> None:
    assert await registry.put(conn, NewRouter(id="r1", host="h"), Sealer(()), dry_run=True)
    assert await registry.load(conn, SETTINGS) == {}
    assert set(await registry.load(conn, DRY)) == {"r1"}
    with pytest.raises(RouterNotFound):
        await registry.find(conn, SETTINGS, "r1")
    assert (await registry.find(conn, DRY, "r1")).host == "h"
    with pytest.raises(RouterNotFound):
        await registry.remove(conn, "r1")
    await registry.remove(conn, "r1", dry_run=True)
    assert await registry.load(conn, DRY) == {}


async def test_who_pretends_changes_nothing_of_a_router_that_is_there(conn: TrioConnection) -> None:
    await put(conn)
    assert not await registry.put(conn, NewRouter(id="r1", host="other"), Sealer(()), dry_run=True)
    assert (await spec_of(conn)).host == "10.0.0.1"
    with pytest.raises(RouterNotFound):
        await registry.remove(conn, "r1", dry_run=True)
    assert (await registry.find(conn, DRY, "r1")).host == "10.0.0.1"


async def test_a_router_that_was_pretended_becomes_one_that_is_there(conn: TrioConnection) -> None:
    await registry.put(conn, NewRouter(id="r1", host="h"), Sealer(()), dry_run=True)
    await put(conn)
    assert (await spec_of(conn)).host == "10.0.0.1"
    assert not await registry.put(conn, NewRouter(id="r1", host="h"), Sealer(()), dry_run=True)
