"""TLS at the front door, with certificates that are replaced while it serves."""

from contextlib import suppress
from pathlib import Path
import shutil
import ssl

import httpx
import pytest
from structlog.testing import capture_logs
import trio

from opendesk.web.http.certificate import Certificate
from opendesk.web.http.limits import MIB, Limits
from tests.web.serving import ECHO, GET, POST, Served, answers, ask, closed, read_all, serving

PAIRS = Path(__file__).parent / "certificates"


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with the first certificate in place."""
    install("first", tmp_path)
    return tmp_path


def install(name: str, folder: Path, *, key: str | None = None) -> None:
    shutil.copy(PAIRS / f"{name}.pem", folder / "tls.pem")
    shutil.copy(PAIRS / f"{key or name}.key", folder / "tls.key")


def certificate(folder: Path) -> Certificate:
    return Certificate(folder / "tls.pem", folder / "tls.key")


def trusting(*names: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in names:
        context.load_verify_locations(PAIRS / f"{name}.pem")
    return context


async def connect(served: Served, *names: str, host: str | None = "localhost") -> trio.SSLStream[trio.SocketStream]:
    """With SNI, or by address without."""
    context = trusting(*(names or ("first",)))
    context.check_hostname = host is not None
    context.set_alpn_protocols(["h2", "http/1.1"])
    stream = trio.SSLStream(await served.connect(), context, server_hostname=host, https_compatible=True)
    await stream.do_handshake()
    return stream


async def subject(stream: trio.SSLStream[trio.SocketStream]) -> str:
    return str(dict(field[0] for field in stream.getpeercert()["subject"])["commonName"])


async def test_http_is_served_over_tls(pair: Path) -> None:
    async with serving(ECHO, tls=certificate(pair)) as served:
        assert served.url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(base_url=served.url, verify=trusting("first")) as client:
            assert (await client.get("/a")).text == "/a "
            assert (await client.post("/a", content=b"x" * MIB)).content == b"/a " + b"x" * MIB


async def test_only_http_1_1_is_offered(pair: Path) -> None:
    async with serving(ECHO, tls=certificate(pair)) as served, await connect(served) as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"
        assert stream.version() == "TLSv1.3"


async def test_requests_in_a_row_and_refusals_work_over_tls(pair: Path) -> None:
    async with serving(ECHO, tls=certificate(pair)) as served, await connect(served) as stream:
        await stream.send_all(GET * 3)
        assert len(await answers(stream, 3)) == 3
        assert (await ask(stream, POST % (2 * MIB))).problem == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("host", ["localhost", None])
async def test_new_connections_see_a_new_certificate_and_old_ones_live_on(pair: Path, host: str | None) -> None:
    shown = certificate(pair)
    async with serving(ECHO, tls=shown) as served, await connect(served, "first", "second", host=host) as old:
        install("second", pair)
        assert await shown.reload()
        async with await connect(served, "first", "second", host=host) as new:
            assert (await subject(old), await subject(new)) == ("first", "second")
            assert (await ask(new)).status == 200
        assert (await ask(old)).status == 200


@pytest.mark.parametrize("fault", ["missing", "garbage", "mismatch", "locked"])
async def test_a_faulty_pair_is_reported_and_the_old_one_stays(pair: Path, fault: str) -> None:
    shown = certificate(pair)
    match fault:
        case "missing":
            (pair / "tls.key").unlink()
        case "garbage":
            (pair / "tls.pem").write_text("no certificate")
        case "mismatch":
            install("first", pair, key="second")
        case "locked":
            install("first", pair, key="locked")
    with capture_logs() as logs:
        assert not await shown.reload()
    assert [line["event"] for line in logs] == ["http.certificate_refused"]
    async with serving(ECHO, tls=shown) as served, await connect(served) as stream:
        assert await subject(stream) == "first"


def test_a_faulty_pair_is_an_error_at_the_start(pair: Path) -> None:
    install("first", pair, key="second")
    with pytest.raises(ssl.SSLError):
        certificate(pair)
    (pair / "tls.key").unlink()
    with pytest.raises(FileNotFoundError):
        certificate(pair)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", GET])
async def test_no_handshake_no_connection(pair: Path, said: bytes) -> None:
    limits = Limits(handshake_s=0.2)
    with capture_logs() as logs:
        async with serving(ECHO, tls=certificate(pair), limits=limits) as served, await served.connect() as stream:
            if said:
                await stream.send_all(said)
            with suppress(trio.BrokenResourceError):
                assert b"HTTP" not in await read_all(stream)
    assert [line for line in logs if line["log_level"] in {"error", "warning"}] == []


async def test_a_client_that_drops_tls_harms_nobody(pair: Path) -> None:
    with capture_logs() as logs:
        async with serving(ECHO, tls=certificate(pair)) as served:
            stream = await connect(served)
            await ask(stream)
            await stream.transport_stream.send_all(b"no tls record")
            assert await closed(stream)
            await stream.transport_stream.aclose()
            async with await connect(served) as other:
                assert (await ask(other)).status == 200
    assert [line for line in logs if line["log_level"] in {"error", "warning"}] == []


async def test_silent_tls_connections_make_room(pair: Path) -> None:
    limits = Limits(connections=1)
    async with serving(ECHO, tls=certificate(pair), limits=limits) as served, await served.connect() as silent:
        async with await connect(served) as stream:
            assert (await ask(stream)).status == 200
        assert await closed(silent)


async def test_stopping_says_good_bye(pair: Path) -> None:
    async with serving(ECHO, tls=certificate(pair)) as served, await connect(served) as stream:
        await ask(stream)
        served.stop.set()
        assert await closed(stream)
        await served.stopped.wait()
