from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from uuid import UUID

from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.stream.admission import Admitted, Asked, Reason, Refusal, SessionState, admit, parse_query
from opendesk.stream.control import Scope
from opendesk.stream.tokens import Role, own_token, shared_token, stream_id

KEY = bytes(range(32))
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLIENT = UUID("c1c1c1c1-0000-4000-8000-000000000001")
HOST = UUID("40404040-0000-4000-8000-000000000002")
STRANGER = UUID("99999999-0000-4000-8000-000000000003")
SESSION = SessionState(
    UUID("7d4b5b5e-6b1c-4a53-9a35-0f2f0b1b7c11"), "ACTIVE", CLIENT, HOST, NOW + timedelta(seconds=60)
)
OTHER = evolve(SESSION, id=UUID("0e0e0e0e-0000-4000-8000-00000000000e"))
PARTY = {Role.CLIENT: CLIENT, Role.HOST: HOST}

SHARED = shared_token(KEY, SESSION.id)
CLIENTS = own_token(KEY, SESSION.id, Role.CLIENT, CLIENT)
HOSTS = own_token(KEY, SESSION.id, Role.HOST, HOST)


def asked(role: Role, token: str, user: UUID | None = None, *, stream: str | None = None) -> Asked:
    return Asked(role, SESSION.id, stream_id(token) if stream is None else stream, token, user or PARTY[role])


def reason(verdict: Admitted | Refusal) -> Reason | None:
    if isinstance(verdict, Admitted):
        return None
    assert verdict.code == 1008
    return verdict.reason


# Queries

QUERY = {
    "role": "client",
    "sessionId": str(SESSION.id),
    "streamId": stream_id(CLIENTS),
    "token": CLIENTS,
    "userId": str(CLIENT),
}


def parsed(**changed: str) -> Asked | None:
    return parse_query(list({**QUERY, **changed}.items()))


def test_a_query_parses() -> None:
    assert parsed() == Asked(Role.CLIENT, SESSION.id, stream_id(CLIENTS), CLIENTS, CLIENT)
    assert parsed(role="host") == Asked(Role.HOST, SESSION.id, stream_id(CLIENTS), CLIENTS, CLIENT)


def test_the_order_and_case_of_a_query_do_not_matter() -> None:
    assert parse_query(list(reversed(QUERY.items()))) == parsed()
    assert parsed(sessionId=str(SESSION.id).upper(), userId=str(CLIENT).upper()) == parsed()


@pytest.mark.parametrize("name", QUERY)
def test_every_parameter_is_needed_once(name: str) -> None:
    assert parse_query([pair for pair in QUERY.items() if pair[0] != name]) is None
    assert parse_query([*QUERY.items(), (name, QUERY[name])]) is None
    assert parse_query([*((n, v) for n, v in QUERY.items() if n != name), (name.upper(), QUERY[name])]) is None
    assert parsed(**{name: ""}) is None


def test_unknown_parameters_do_not_matter() -> None:
    assert parse_query([("v", "1"), *QUERY.items(), ("v", "2"), ("Role", "host"), ("", "")]) == parsed()


@pytest.mark.parametrize("role", ["Client", "HOST", "admin", " client", "client\0", "host,client", "None"])
def test_no_other_role_parses(role: str) -> None:
    assert parsed(role=role) is None


@pytest.mark.parametrize("name", ["sessionId", "userId"])
def test_only_the_usual_spelling_of_a_uuid_parses(name: str) -> None:
    usual = QUERY[name]
    for other in (
        usual.replace("-", ""),
        f"{{{usual}}}",
        f"urn:uuid:{usual}",
        usual + "\n",
        f" {usual}",
        usual[:-1],
        usual[:-1] + "g",
        "٣" + usual[1:],
    ):
        assert parsed(**{name: other}) is None


def test_lengths_are_bounded() -> None:
    assert [n for n in (0, 11, 12, 64, 65, 10_000) if parsed(streamId="a" * n)] == [12, 64]
    assert [n for n in (0, 15, 16, 256, 257, 10_000) if parsed(token="a" * n)] == [16, 256]


@given(st.lists(st.tuples(st.sampled_from([*QUERY, "x"]), st.text() | st.sampled_from(list(QUERY.values())))))
def test_any_query_has_an_answer_and_so_has_what_it_asks(pairs: list[tuple[str, str]]) -> None:
    assert isinstance(admit(parse_query(pairs), KEY, None, NOW), Refusal)


@given(
    st.text(alphabet=st.characters(codec=None), min_size=16, max_size=256),
    st.text(alphabet=st.characters(codec=None), min_size=12, max_size=64),
)
def test_no_text_for_a_token_or_a_stream_raises(token: str, stream: str) -> None:
    assert reason(admit(parsed(token=token), KEY, SESSION, NOW)) is Reason.INVALID_TOKEN
    assert reason(admit(parsed(streamId=stream), KEY, SESSION, NOW)) is Reason.STREAM_MISMATCH


# Who gets in

YES, CLIENT_NO, HOST_NO = None, Reason.CLIENT_FORBIDDEN, Reason.HOST_FORBIDDEN

WHO: list[tuple[str, Role, UUID, Reason | None]] = [
    # token, role, user
    (SHARED, Role.CLIENT, CLIENT, YES),
    (SHARED, Role.CLIENT, HOST, CLIENT_NO),
    (SHARED, Role.CLIENT, STRANGER, CLIENT_NO),
    (SHARED, Role.HOST, HOST, YES),
    (SHARED, Role.HOST, CLIENT, HOST_NO),
    (SHARED, Role.HOST, STRANGER, HOST_NO),
    (CLIENTS, Role.CLIENT, CLIENT, YES),
    (CLIENTS, Role.CLIENT, HOST, CLIENT_NO),
    (CLIENTS, Role.CLIENT, STRANGER, CLIENT_NO),
    (CLIENTS, Role.HOST, CLIENT, HOST_NO),
    (CLIENTS, Role.HOST, HOST, HOST_NO),
    (CLIENTS, Role.HOST, STRANGER, HOST_NO),
    (HOSTS, Role.HOST, HOST, YES),
    (HOSTS, Role.HOST, CLIENT, HOST_NO),
    (HOSTS, Role.HOST, STRANGER, HOST_NO),
    (HOSTS, Role.CLIENT, HOST, CLIENT_NO),
    (HOSTS, Role.CLIENT, CLIENT, CLIENT_NO),
    (HOSTS, Role.CLIENT, STRANGER, CLIENT_NO),
    # Genuine, but of someone who is no party, or made for the other's user: as a token of before a PC changed hands would be.
    (own_token(KEY, SESSION.id, Role.CLIENT, STRANGER), Role.CLIENT, STRANGER, CLIENT_NO),
    (own_token(KEY, SESSION.id, Role.CLIENT, STRANGER), Role.CLIENT, CLIENT, CLIENT_NO),
    (own_token(KEY, SESSION.id, Role.HOST, STRANGER), Role.HOST, STRANGER, HOST_NO),
    (own_token(KEY, SESSION.id, Role.HOST, STRANGER), Role.HOST, HOST, HOST_NO),
    (own_token(KEY, SESSION.id, Role.CLIENT, HOST), Role.CLIENT, CLIENT, CLIENT_NO),
    (own_token(KEY, SESSION.id, Role.HOST, CLIENT), Role.HOST, HOST, HOST_NO),
]


@pytest.mark.parametrize("status", ["PENDING", "ACTIVE"])
@pytest.mark.parametrize(("token", "role", "user", "expected"), WHO)
def test_who_gets_in(token: str, role: Role, user: UUID, expected: Reason | None, status: str) -> None:
    verdict = admit(asked(role, token, user), KEY, evolve(SESSION, status=status), NOW)
    assert reason(verdict) is expected
    if isinstance(verdict, Admitted):
        scope = Scope(token=token, session_id=str(SESSION.id), stream_id=stream_id(token))
        assert verdict == Admitted(role, user, own=token != SHARED, scope=scope)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("of", Role)
def test_who_rents_a_pc_of_their_own_has_a_token_for_each_side(role: Role, of: Role) -> None:
    session = evolve(SESSION, client_user_id=HOST)
    verdict = admit(asked(role, own_token(KEY, SESSION.id, of, HOST), HOST), KEY, session, NOW)
    assert isinstance(verdict, Admitted) is (role is of)


def test_a_scope_has_the_ids_as_signaling_gave_them() -> None:
    spelled = asked(Role.CLIENT, CLIENTS, stream=stream_id(CLIENTS).replace("-", "").upper())
    verdict = admit(spelled, KEY, SESSION, NOW)
    assert isinstance(verdict, Admitted)
    assert verdict.scope.stream_id == stream_id(CLIENTS)


# Tokens


def test_another_keys_token_is_invalid() -> None:
    assert reason(admit(asked(Role.CLIENT, CLIENTS), bytes(32), SESSION, NOW)) is Reason.INVALID_TOKEN


def test_a_token_admits_until_it_expires() -> None:
    at = SESSION.stream_expires_at
    assert at is not None
    moment = timedelta(microseconds=1)
    assert [reason(admit(asked(Role.HOST, HOSTS), KEY, SESSION, now)) for now in (at - moment, at, at + moment)] == [
        None,
        Reason.EXPIRED_TOKEN,
        Reason.EXPIRED_TOKEN,
    ]


def test_where_no_token_was_given_out_none_admits() -> None:
    assert (
        reason(admit(asked(Role.HOST, HOSTS), KEY, evolve(SESSION, stream_expires_at=None), NOW))
        is Reason.EXPIRED_TOKEN
    )


@pytest.mark.parametrize("given_out", [None, NOW, NOW + timedelta(seconds=60)])
@pytest.mark.parametrize("token", [shared_token(KEY, OTHER.id), own_token(KEY, OTHER.id, Role.CLIENT, CLIENT)])
def test_another_sessions_token_expires_when_that_session_says(token: str, given_out: datetime | None) -> None:
    """What the session asked for says of its own tokens is of no account."""
    session = evolve(SESSION, stream_expires_at=given_out)
    mine = asked(Role.CLIENT, token)
    for issuer, expected in (
        (OTHER, Reason.TOKEN_SESSION_MISMATCH),
        (None, Reason.TOKEN_SESSION_MISMATCH),
        (evolve(OTHER, stream_expires_at=NOW), Reason.EXPIRED_TOKEN),
        (evolve(OTHER, stream_expires_at=None), Reason.EXPIRED_TOKEN),
    ):
        assert reason(admit(mine, KEY, session, NOW, token_session=issuer)) is expected


def test_the_tokens_session_is_not_looked_at_where_it_is_the_one_asked_for() -> None:
    expired = evolve(SESSION, stream_expires_at=NOW)
    assert isinstance(admit(asked(Role.HOST, HOSTS), KEY, SESSION, NOW, token_session=expired), Admitted)
    assert reason(admit(asked(Role.HOST, HOSTS), KEY, expired, NOW, token_session=SESSION)) is Reason.EXPIRED_TOKEN


@pytest.mark.parametrize("status", ["ENDED", "FAILED", "", "active"])
def test_a_session_that_is_over_has_no_stream(status: str) -> None:
    assert (
        reason(admit(asked(Role.HOST, HOSTS), KEY, evolve(SESSION, status=status), NOW))
        is Reason.SESSION_NOT_STREAMABLE
    )


def test_a_stream_goes_with_its_own_token_only() -> None:
    for stream in (stream_id(SHARED), stream_id(HOSTS), "0" * 32, stream_id(CLIENTS)[:-1], "-" * 40):
        assert reason(admit(asked(Role.CLIENT, CLIENTS, stream=stream), KEY, SESSION, NOW)) is Reason.STREAM_MISMATCH


# The order


@frozen
class Opening:
    """All that decides, so that several things can be wrong at once."""

    role: Role
    token_of: SessionState = SESSION
    genuine: bool = True
    known: bool = True
    well_formed: bool = True
    expired: bool = False
    status: str = "ACTIVE"
    stream: str | None = None
    user: UUID | None = None

    def reason(self) -> Reason | None:
        token = own_token(KEY if self.genuine else bytes(32), self.token_of.id, self.role, PARTY[self.role])
        expires_at = NOW if self.expired else NOW + timedelta(seconds=1)
        issuer = evolve(self.token_of, stream_expires_at=expires_at)
        session = evolve(SESSION, status=self.status)
        if self.token_of.id == SESSION.id:
            session = evolve(session, stream_expires_at=expires_at)
        query = asked(self.role, token, self.user, stream=self.stream) if self.well_formed else None
        return reason(admit(query, KEY, session if self.known else None, NOW, token_session=issuer))


Fault = Callable[[Opening], Opening]
ORDER: list[tuple[Fault, Reason | None]] = [
    (lambda o: evolve(o, well_formed=False), Reason.INVALID_QUERY),
    (lambda o: evolve(o, known=False), Reason.INVALID_TOKEN),
    (lambda o: evolve(o, genuine=False), Reason.INVALID_TOKEN),
    (lambda o: evolve(o, expired=True), Reason.EXPIRED_TOKEN),
    (lambda o: evolve(o, token_of=OTHER), Reason.TOKEN_SESSION_MISMATCH),
    (lambda o: evolve(o, status="ENDED"), Reason.SESSION_NOT_STREAMABLE),
    (lambda o: evolve(o, stream="0" * 32), Reason.STREAM_MISMATCH),
    (lambda o: evolve(o, user=STRANGER), None),  # the role's own word
]
FORBIDDEN = {Role.CLIENT: Reason.CLIENT_FORBIDDEN, Role.HOST: Reason.HOST_FORBIDDEN}


@pytest.mark.parametrize("role", Role)
def test_without_a_fault_it_opens(role: Role) -> None:
    assert Opening(role).reason() is None


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("together", range(1, len(ORDER) + 1))
def test_the_first_check_that_fails_decides(role: Role, together: int) -> None:
    """Each fault alone, every pair, and all other combinations."""
    for faults in combinations(ORDER, together):
        opening = Opening(role)
        for make, _ in faults:
            opening = make(opening)
        assert opening.reason() is (faults[0][1] or FORBIDDEN[role])
