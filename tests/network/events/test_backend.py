"""What the backend's client sends, byte for byte, and what it takes for an answer."""

from collections.abc import AsyncIterator
import hashlib
import hmac
import json

import httpx
import pytest
import trio

from opendesk.network.events import backend as subject
from opendesk.network.events.backend import MAX_PIECES, BackendClient
from opendesk.network.events.connections import KeptConnections
from opendesk.network.events.refusals import NotFetched, NotTaken
from opendesk.settings import load
from opendesk.settings.secret import Secret
from opendesk.simulators.event_backend import EventBackend, Fault
from tests.network.behind import NOBODY_S_PORT
from tests.network.events.pretending import SECRETS, client_of, event

STAMP = 1_767_225_600_123
ACK = b'{"eventId":"e-1","ok":true,"payload":{"note":"caf\xc3\xa9"}}'


def by_hand(secret: str, text: bytes) -> str:
    """HMAC as RFC 2104 has it, without the library that we use."""
    key = secret.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + text).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


async def fetched(backend: EventBackend, *, short: bool = False) -> bytes:
    async with client_of(backend, short=short) as client:
        try:
            return await client.fetch()
        except NotFetched as error:
            failed = error
    raise failed  # not from within the nursery of the backend, which would make a group of it


async def test_a_fetch_is_signed_over_its_time_with_the_first_secret() -> None:
    backend = EventBackend(SECRETS)
    async with client_of(backend, clock=lambda: STAMP) as client:
        assert await client.fetch() == b"[]"
    (asked,) = backend.fetches
    assert asked.headers["x-relay-ts"] == str(STAMP)
    assert asked.headers["x-relay-hmac"] == by_hand(SECRETS[0], str(STAMP).encode())
    assert asked.headers["accept-encoding"] == "identity"
    assert "x-backend-hmac" not in asked.headers


async def test_an_ack_is_signed_over_its_very_bytes_with_the_first_secret() -> None:
    backend = EventBackend(SECRETS)
    async with client_of(backend, clock=lambda: STAMP) as client:
        assert await client.acknowledge(ACK) == 200
    (ack,) = backend.acks
    assert ack.asked.body == ACK
    assert ack.asked.headers["x-relay-hmac"] == by_hand(SECRETS[0], ACK)
    assert ack.asked.headers["x-relay-ts"] == str(STAMP)
    assert ack.asked.headers["content-type"] == "application/json"


async def test_without_a_secret_nothing_is_signed_and_nothing_is_checked() -> None:
    backend = EventBackend()
    backend.put(event("e-1"))
    async with client_of(backend, secrets=()) as client:
        assert json.loads(await client.fetch()) == [event("e-1")]
        assert await client.acknowledge(ACK) == 200
    assert "x-relay-hmac" not in backend.fetches[0].headers
    assert "x-relay-hmac" not in backend.acks[0].asked.headers


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(("old",), ("old", "new"), id="the backend has the new one as well"),
        pytest.param(("new", "old"), ("old", "new"), id="so have we"),
        pytest.param(("new", "old"), ("new",), id="the backend has forgotten the old one"),
        pytest.param(("new",), ("new",), id="so have we, and it is done"),
    ],
)
async def test_a_secret_is_rotated_without_a_gap(ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    backend = EventBackend(theirs)
    backend.put(event("e-1"))
    async with client_of(backend, secrets=ours) as client:
        assert json.loads(await client.fetch()) == [event("e-1")]
        assert await client.acknowledge(ACK) == 200


WHOLE = [
    pytest.param(None, id="as it should be"),
    pytest.param(Fault.SIGNED_WITH_LAST, id="signed with the second secret"),
]


@pytest.mark.parametrize("fault", WHOLE)
async def test_a_batch_that_is_signed_with_any_of_the_secrets_is_taken(fault: Fault | None) -> None:
    backend = EventBackend(SECRETS, every_fetch=fault)
    backend.put(event("e-1"))
    assert json.loads(await fetched(backend)) == [event("e-1")]


REFUSED = {
    Fault.SIGNED_WRONGLY: "x-backend-hmac is wrong",
    Fault.SIGNED_BEFORE: "x-backend-hmac is wrong",
    Fault.UNSIGNED: "x-backend-hmac is missing",
    Fault.REDIRECTED: "302",
    Fault.COMPRESSED: "compressed",
    Fault.HUGE: "longer than",
}


@pytest.mark.parametrize(("fault", "why"), REFUSED.items(), ids=[fault.name for fault in REFUSED])
async def test_what_is_no_answer_of_the_backend_is_refused_whole(fault: Fault, why: str) -> None:
    backend = EventBackend(SECRETS, every_fetch=fault)
    backend.put(event("e-1"))
    with pytest.raises(NotFetched, match=why) as refused:
        await fetched(backend)
    assert refused.value.outcome == "refused"
    assert len(backend.fetches) == 1


FAILED = {
    Fault.FAILING: "500",
    Fault.CUT_OFF: "peer closed connection",
    Fault.HUNG_UP: "without sending a response",
    Fault.SILENT: "took more than",
    Fault.DRIPPED: "took more than",
}


@pytest.mark.parametrize(("fault", "why"), FAILED.items(), ids=[fault.name for fault in FAILED])
async def test_a_backend_that_is_not_well_fails_the_fetch_within_its_time(fault: Fault, why: str) -> None:
    backend = EventBackend(SECRETS, every_fetch=fault)
    backend.put(event("e-1"))
    with pytest.raises(NotFetched, match=why) as failed:
        await fetched(backend, short=fault in {Fault.SILENT, Fault.DRIPPED})
    assert failed.value.outcome == "failed"


async def test_a_backend_that_is_not_there_fails_the_fetch_and_the_ack() -> None:
    url = httpx.URL(f"http://127.0.0.1:{NOBODY_S_PORT}/")
    client = BackendClient(url, url)
    with pytest.raises(NotFetched, match="all attempts to connect"):
        await client.fetch()
    with pytest.raises(NotTaken, match="all attempts to connect"):
        await client.acknowledge(ACK)
    await client.aclose()


async def test_a_name_that_no_name_server_can_be_asked_for_fails_the_fetch_and_the_ack() -> None:
    """Settings refuse it; a resolver has limits of its own."""
    url = httpx.URL("http://exa..mple/")
    client = BackendClient(url, url)
    with pytest.raises(NotFetched, match="label"):
        await client.fetch()
    with pytest.raises(NotTaken, match="label"):
        await client.acknowledge(ACK)
    await client.aclose()


async def test_who_closes_waits_for_what_is_under_way_and_nothing_new_begins() -> None:
    backend = EventBackend(every_ack=Fault.SILENT)
    async with client_of(backend, secrets=(), short=True) as client, trio.open_nursery() as nursery:

        async def acknowledge() -> None:
            with pytest.raises(NotTaken, match="took more than"):
                await client.acknowledge(ACK)

        nursery.start_soon(acknowledge)
        await backend.until(lambda: backend.acks)
        await client.aclose()
        assert client._under_way == 0
        with pytest.raises(NotTaken, match="closing"):
            await client.acknowledge(ACK)
    assert len(backend.acks) == 1


def pretended(answer: httpx.Response, *secrets: str) -> BackendClient:
    url = httpx.URL("http://backend")
    transport = httpx.MockTransport(lambda _request: answer)
    return BackendClient(url, url, tuple(Secret(secret) for secret in secrets), transport)


async def test_no_content_is_no_events_if_it_is_signed_too() -> None:
    assert await pretended(httpx.Response(204)).fetch() == b"[]"
    with pytest.raises(NotFetched, match="missing"):
        await pretended(httpx.Response(204), "secret").fetch()
    signed = httpx.Response(204, headers={"x-backend-hmac": by_hand("secret", b"")})
    assert await pretended(signed, "secret").fetch() == b"[]"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("", id="empty"),
        pytest.param("0" * 64, id="another"),
        pytest.param(by_hand("secret", b"[]")[:-1], id="cut"),
        pytest.param(by_hand("secret", b"[]") + ", x", id="two"),
        pytest.param("é" * 32, id="no hexadecimal"),
    ],
)
async def test_what_is_no_signature_is_refused(sent: str) -> None:
    answer = httpx.Response(200, content=b"[]", headers=[(b"x-backend-hmac", sent.encode())])
    with pytest.raises(NotFetched, match="wrong"):
        await pretended(answer, "secret").fetch()


async def test_a_signature_in_capitals_is_one() -> None:
    answer = httpx.Response(200, content=b"[]", headers={"x-backend-hmac": by_hand("secret", b"[]").upper()})
    assert await pretended(answer, "secret").fetch() == b"[]"


class Crumbs(httpx.AsyncByteStream):
    """Bytes one by one, for as long as anybody reads them."""

    def __init__(self) -> None:
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await trio.lowlevel.checkpoint()
            self.given += 1
            yield b" "


async def test_an_answer_in_crumbs_is_not_read_to_its_end() -> None:
    crumbs = Crumbs()
    with pytest.raises(NotFetched, match="longer than"):
        await pretended(httpx.Response(200, stream=crumbs)).fetch()
    assert crumbs.given == MAX_PIECES + 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_takes_an_ack(status: int) -> None:
    assert await pretended(httpx.Response(status)).acknowledge(ACK) == status


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 409, 429, 500, 503])
async def test_any_other_answer_does_not_take_it(status: int) -> None:
    with pytest.raises(NotTaken) as not_taken:
        await pretended(httpx.Response(status, headers={"location": "/"})).acknowledge(ACK)
    assert not_taken.value.status == status


@pytest.mark.parametrize(
    "fault", [Fault.SILENT, Fault.HUNG_UP, Fault.CUT_OFF, Fault.FAILING, Fault.REDIRECTED], ids=lambda fault: fault.name
)
async def test_an_ack_whose_answer_does_not_come_is_not_taken_and_can_be_sent_again(fault: Fault) -> None:
    backend = EventBackend(SECRETS, ack_faults=[fault])
    async with client_of(backend, short=fault is Fault.SILENT) as client:
        with pytest.raises(NotTaken):
            await client.acknowledge(ACK)
        assert await client.acknowledge(ACK) == 200
    assert {ack.asked.body for ack in backend.acks} == {ACK}
    assert len(backend.acks) == 2


async def test_the_answer_to_an_ack_may_say_as_much_as_it_likes_and_is_not_read() -> None:
    assert await pretended(httpx.Response(200, stream=Crumbs())).acknowledge(ACK) == 200


async def test_one_who_asks_at_a_time_has_one_connection() -> None:
    backend = EventBackend(SECRETS)
    async with client_of(backend) as client:
        transport = client._transport
        assert isinstance(transport, KeptConnections)
        for _ in range(3):
            await client.fetch()
            await client.acknowledge(ACK)
        assert len(transport._all) == 1


async def test_settings_make_one() -> None:
    settings = load(
        {
            "OPENDESK_DATA_DIR": "/nowhere",
            "BACKEND_EVENTS_URL": "http://127.0.0.1:1/events?token=hush",
            "BACKEND_ACK_URL": "http://127.0.0.1:1/acks",
            "BACKEND_HMAC_SECRET": "hush1,hush2",
        }
    )
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(
            200, content=b"[]", headers={"x-backend-hmac": hmac.digest(b"hush2", b"[]", "sha256").hex()}
        )

    client = BackendClient.of(settings, httpx.MockTransport(answer), lambda: STAMP)
    assert await client.fetch() == b"[]"
    assert asked[0].url.raw_path == b"/events?token=hush"
    assert asked[0].headers["x-relay-hmac"] == by_hand("hush1", str(STAMP).encode())
    assert "hush" not in repr(client._secrets)


async def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    backend = EventBackend(SECRETS)
    assert await fetched(backend) == b"[]"
    assert subject.now_ms() > STAMP
