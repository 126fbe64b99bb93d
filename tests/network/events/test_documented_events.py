"""docs/backend-contract.md and docs/security.md say what the program does; what they have as code does what the program expects."""

from collections.abc import Sequence
import json
from pathlib import Path
import re
import shutil
import subprocess
import time
from types import SimpleNamespace
from typing import Any, Final, get_args

import httpx
import jsonschema_rs
import pytest

from opendesk import errors
from opendesk.cli import COMMANDS
from opendesk.network.events import acks, backend, batches, file_queue, polling, stored, types
from opendesk.network.events.backend import BackendClient
from opendesk.network.events.refusals import NotFetched, NotTaken
from opendesk.network.events.types import Event, Reason, Type
from opendesk.network.hotspots import requests
from opendesk.network.jobs.shapes import LONGEST_PAUSE_S
from opendesk.network.signatures import Fault, Signable, Stamp, verify
from opendesk.ops.redaction import is_secret
from opendesk.rental.users import LOGIN_FAILURES, LOGIN_WINDOW_S
from opendesk.settings import SettingsError, load
from opendesk.settings.secret import Secret
from opendesk.settings.table import DECLARED
from opendesk.simulators.event_backend import EACH
from opendesk.web.wire import camel

ROOT: Final = Path(__file__).parents[3]
CONTRACT: Final = (ROOT / "docs" / "backend-contract.md").read_text()
SECURITY: Final = (ROOT / "docs" / "security.md").read_text()
VALIDATION: Final = (ROOT / "docs" / "validation.md").read_text()
PAGES: Final = {"backend-contract.md": CONTRACT, "security.md": SECURITY, "validation.md": VALIDATION}

# The secrets of the page's code.
SHARED: Final = "the-secret-shared-with-the-daemon"
API_SECRET: Final = b"the-secret-that-signs-calls"
NOT_YET: Final = {Reason.CIRCUIT_OPEN, Reason.PEER_OFFLINE}
MIB: Final = 2**20
# What names of settings begin with.
FAMILIES: Final = {declared.name.partition("_")[0] for declared in DECLARED} - {"SESSION"}


def blocks(language: str, page: str = CONTRACT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def rows(page: str) -> list[list[str]]:
    """Of all tables: their cells."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]


def told_acks() -> list[Any]:
    lines = [line for block in blocks("json") for line in block.splitlines() if line.startswith('{"eventId"')]
    return [json.loads(line) for line in lines]


# ---- what is told of events and ACKs


def test_the_events_that_are_shown_are_taken_as_they_stand() -> None:
    found = [types.read(member) for member in batches.split(blocks("json")[0].encode())]
    assert [event.type for event in found if isinstance(event, Event)] == list(Type)


@pytest.mark.parametrize("kind", list(Type))
def test_members_are_told_that_are_taken(kind: Type) -> None:
    (row,) = [row for row in rows(CONTRACT) if row[0] == f"`{kind}`"]
    told = set(re.findall(r"`(\w+)`", row[1]))
    assert told == {camel(attribute.name) for attribute in types.PAYLOADS[kind].__attrs_attrs__}  # type: ignore[attr-defined]  # attrs' own


def test_every_reason_has_a_row_and_an_ack() -> None:
    section = CONTRACT.split("| `reason` | `ok` |")[1]
    told = dict(re.findall(r"^\| (?:`(\w+)`|none) \| (true|false) \|", section, re.MULTILINE))
    assert set(told) - {""} == set(Reason) - NOT_YET
    shown = {ack["payload"].get("reason", ""): str(ack["ok"]).lower() for ack in told_acks()}
    assert shown == told
    assert all(f"(`{reason}`)" in CONTRACT.split("**Not yet**")[1] for reason in NOT_YET)


def test_events_and_acks_that_are_shown_fit_the_published_schema() -> None:
    schema = jsonschema_rs.validator_for(json.loads((ROOT / "schemas" / "events.schema.json").read_text()))
    shown = [*json.loads(blocks("json")[0]), *told_acks()]
    assert [each for each in shown if not schema.is_valid(each)] == []


def test_an_error_that_is_shown_is_that_of_the_program() -> None:
    unknown = types.read(b'{"eventId": "evt-5", "type": "REBOOT", "payload": {}}')
    assert isinstance(unknown, types.Invalid)
    (shown,) = [ack["payload"]["error"] for ack in told_acks() if ack["payload"].get("reason") == unknown.reason]
    assert shown == unknown.error


def test_limits_are_those_of_the_program() -> None:
    assert (backend.CONNECT_S, backend.FETCH_S, backend.ACK_S, backend.MAX_BODY) == (5, 30, 10, 8 * MIB)
    assert (polling.LONGEST_PAUSE_S, polling.MOST_WAITING) == (60, 100_000)
    assert (acks.AT_ONCE, acks.PATIENCE_S, LONGEST_PAUSE_S) == (30, 7 * 86_400, 3600)
    assert (types.MOST_ID, types.TRIAL_MINUTES, file_queue.MAX_FILE, EACH) == (256, 5, 64 * MIB, 20)
    assert get_args(requests.Minutes)[1].le == 345_600
    assert (types.MOST_ID_TOLD, types.MOST_MEMBER, stored.ACK_AGAIN_S) == (2048, 256 * 1024, 60)
    assert (batches.BYTES_A_MARK, batches.MARKS_BESIDES) == (10, 10_000)


def test_defaults_are_those_of_the_program() -> None:
    settings = load({"OPENDESK_DATA_DIR": "/nowhere"})
    assert (settings.backend_events_poll_ms, settings.relay_job_backoff_base_ms) == (3000, 30_000)
    assert settings.relay_job_max_attempts == 5


# ---- the code


def written_in_python() -> SimpleNamespace:
    (block,) = blocks("python")
    found: dict[str, Any] = {}
    exec(compile(block, "backend-contract.md", "exec"), found)
    return SimpleNamespace(**found)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Backend:
    """Answers by what the page has in Python."""

    def __init__(self) -> None:
        self.page = written_in_python()
        self.told: list[Any] = []
        self.spoils = False

    def client(self, *secrets: str) -> BackendClient:
        return BackendClient(
            httpx.URL("http://backend/events"),
            httpx.URL("http://backend/acks"),
            tuple(map(Secret, secrets)),
            httpx.MockTransport(self.answer),
        )

    async def answer(self, request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        if request.method == "GET":
            if not self.page.may_fetch(headers, now_ms()):
                return httpx.Response(401)
            body, more = self.page.batch([{"eventId": "é"}])
            return httpx.Response(200, content=body + b" " * self.spoils, headers=more)
        ack = self.page.read_ack(await request.aread(), headers)
        self.told.append(ack)
        return httpx.Response(401 if ack is None else 204)


async def test_a_backend_as_it_is_written_there_understands_the_daemon_and_is_understood() -> None:
    on = Backend()
    client = on.client(SHARED)
    assert json.loads(await client.fetch()) == [{"eventId": "é"}]
    assert await client.acknowledge(b'{"eventId": "\xc3\xa9", "ok": true, "payload": {}}') == 204
    assert on.told == [{"eventId": "é", "ok": True, "payload": {}}]
    on.spoils = True
    with pytest.raises(NotFetched, match="x-backend-hmac is wrong"):
        await client.fetch()


async def test_it_believes_nobody_who_has_not_the_secret() -> None:
    on = Backend()
    for secrets in ((), ("another",)):
        client = on.client(*secrets)
        with pytest.raises(NotFetched, match="401"):
            await client.fetch()
        with pytest.raises(NotTaken, match="401"):
            await client.acknowledge(b"{}")
    page = on.page
    old = str(now_ms() - page.WINDOW_MS - 1000)
    for stamp in (old, "1" * 5000, "٣"):  # which int() would raise at, or is no digit of ours
        assert not page.may_fetch({"x-relay-ts": stamp, "x-relay-hmac": page.sign(SHARED, stamp.encode())}, now_ms())


async def test_each_step_of_changing_a_secret_is_without_a_gap() -> None:
    on = Backend()
    old, new = "the-old-one-of-some-length", "the-new-one-of-some-length"
    for theirs, ours in (([old], [old, new]), ([new, old], [old, new]), ([new, old], [new, old]), ([new], [new])):
        on.page.SECRETS[:] = theirs
        client = on.client(*ours)
        assert await client.fetch()
        assert await client.acknowledge(b"{}") == 204


def signed_with(headers: dict[str, str], method: str, target: str, body: bytes) -> Stamp | Fault | None:
    return verify(headers, Signable(method, target.encode(), body), [API_SECRET], plain_allowed=True)


CALLS: Final = [("POST", "/relay/revoke", b'{"mikId": "\xc3\xa9"}'), ("DELETE", "/devices/a?limit=1", b"")]


@pytest.mark.parametrize(("method", "target", "body"), CALLS, ids=["with a body", "without"])
def test_calls_signed_as_it_is_written_there_are_taken(method: str, target: str, body: bytes) -> None:
    page = written_in_python()
    assert isinstance(signed_with(page.call(method, target, body), method, target, body), Stamp)
    assert signed_with(page.call_plain(body), method, target, body) is (None if body else Fault.NO_BODY)


def run_in_node(code: str, *arguments: str) -> Any:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NODE IS NOT INSTALLED: the code for Node in docs/backend-contract.md was not run")
    (block,) = blocks("js")
    script = f"{block}\nconst given = process.argv.slice(1);\nconsole.log(JSON.stringify({code}));\n"
    command: Sequence[str] = [node, "--input-type=module", "-e", script, "--", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def test_node_does_what_python_does() -> None:
    page = written_in_python()
    stamp, ack = str(now_ms()), '{"eventId": "é", "ok": true, "payload": {}}'
    signatures = [page.sign(SHARED, stamp.encode()), page.sign(SHARED, ack.encode())]
    told = run_in_node(
        "[mayFetch({'x-relay-ts': given[0], 'x-relay-hmac': given[2]}, Date.now()),"
        " mayFetch({'x-relay-ts': '1' + given[0], 'x-relay-hmac': given[2]}, Date.now()), mayFetch({}, 0),"
        " readAck(Buffer.from(given[1]), {'x-relay-hmac': given[3]}), readAck(Buffer.from(given[1] + ' '), {'x-relay-hmac': given[3]}),"
        " batch([{eventId: 'é'}]).map((each) => Buffer.isBuffer(each) ? each.toString() : each),"
        " call('POST', '/relay/revoke', given[1]), call('DELETE', '/devices/a?limit=1')]",
        *(stamp, ack, *signatures),
    )
    may, not_so, nobody, read, spoiled, (body, headers), posted, deleted = told
    assert (may, not_so, nobody, read, spoiled) == (True, False, False, json.loads(ack), None)
    assert headers["x-backend-hmac"] == page.sign(SHARED, body.encode())
    assert isinstance(signed_with(posted, "POST", "/relay/revoke", ack.encode()), Stamp)
    assert isinstance(signed_with(deleted, "DELETE", "/devices/a?limit=1", b""), Stamp)


# ---- security


def test_every_refusal_of_a_caller_is_told() -> None:
    told = {(int(row[0]), row[1].strip("`")) for row in rows(SECURITY) if row[0].isdigit()}
    kinds = (
        errors.Unauthenticated,
        errors.Unauthorized,
        errors.InvalidSignature,
        errors.Forbidden,
        errors.InternalTokenNotConfigured,
        errors.RateLimited,
        errors.NetworkApiDisabled,
    )
    assert told == {(kind.status, kind.code) for kind in kinds}


def test_what_anybody_may_call_is_told_and_nothing_else_is_open() -> None:
    document = json.loads((ROOT / "schemas" / "openapi.json").read_text())
    open_to_all = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not operation["security"]
    }
    told = {row[0]: set(re.findall(r"`([A-Z]+ /\S*)`", row[1])) for row in rows(SECURITY) if len(row) > 1}
    assert told["anybody"] | told["Prometheus"] == open_to_all


def test_a_strict_daemon_starts_with_what_is_told_and_not_without() -> None:
    given = {
        "OPENDESK_DATA_DIR": "/nowhere",
        "RELAY_STRICT_SECURITY": "1",
        "RELAY_TOKEN": "t" * 16,
        "RELAY_API_SECRET": "s" * 16,
        "RELAY_INTERNAL_TOKEN": "i" * 16,
    }
    assert load(given).relay_strict_security
    for worse in ({"RELAY_API_SECRET": ""}, {"RELAY_INTERNAL_TOKEN": ""}, {"BACKEND_HMAC_SECRET": "b" * 15}):
        with pytest.raises(SettingsError):
            load({**given, **worse})
    with pytest.raises(SettingsError, match="BACKEND_REQUIRE_HMAC=1 needs it"):
        load({"OPENDESK_DATA_DIR": "/nowhere", "BACKEND_REQUIRE_HMAC": "1"})


def test_what_is_said_to_be_masked_is() -> None:
    masked = ("deviceToken", "apiPassword", "secret", "presharedKey", "authorization", "cookie", "x-relay-signature")
    assert [name for name in masked if not is_secret(name)] == []
    assert [name for name in ("publicKey", "mac", "ip", "pedidoId", "eventId") if is_secret(name)] == []


def test_figures_of_users_passwords_are_those_of_the_program() -> None:
    assert (LOGIN_FAILURES, LOGIN_WINDOW_S) == (5, 300)


# ---- all pages


@pytest.mark.parametrize("name", PAGES)
def test_settings_and_commands_that_are_named_are_there(name: str) -> None:
    page = PAGES[name]
    named = set(re.findall(rf"\b((?:{'|'.join(FAMILIES)})_[A-Z_]+)\b", page))
    fields = {"OPENDESK_AUDIT", "OPENDESK_ENV_FILE"}  # a field of the journal, and of the command line
    assert named - fields <= {declared.name for declared in DECLARED}
    assert set(re.findall(r"`?(?:opendesk|scripts/run) ([a-z]+)\b", page)) <= set(COMMANDS)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", PAGES[name]):
        path = ROOT / "docs" / (target or name)
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}, anchor
