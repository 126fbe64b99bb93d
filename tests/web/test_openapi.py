"""`schemas/openapi.json`, which is published, is what the program says and does. UPDATE_SCHEMA=1 writes it anew."""

from collections.abc import Iterator
from copy import deepcopy
import json
import os
from pathlib import Path
import re
from typing import Any

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from opendesk.errors import OpenDeskError
from opendesk.network.tunnels.takeover.taking_over import CannotTakeOver
from tests.network.access.test_every_call import ROOTS
from tests.web.conformance import ANYWHERE, Conformance
from tests.web.site import HOLDER, PASSWORD, PC, Json, Site

PUBLISHED = Path(__file__).parents[2] / "schemas" / "openapi.json"

# The shapes of the contract: what each thing has, and in an answer nothing may be missing.
SHAPES = {
    "User": "id email username displayName role createdAt",
    "Host": "id userId displayName reliabilityScore reliabilityBadge sessionsTotal sessionsCompleted sessionsDropped lastDropAt "
    "lastSeenAt createdAt",
    "Pc": "id hostId localPcId name level cpu ramGb gpu vramGb storageType internetUploadMbps pricePerHour currency categories "
    "softwareTags description networkProvider status lastSeenAt createdAt",
    "Session": "id pcId hostId clientUserId status minutesPurchased minutesUsed priceTotal currency platformFeeRate penaltyRate "
    "startAt endAt endedAt endReason failureReason claimedFailureReason settlement createdAt",
    "Settlement": "total proportional platformFee hostPayout penalty unused clientCredit retained currency",
    "Tx": "id userId type amount reason sessionId createdAt",
    "Wallet": "userId balance currency",
    "Welcome": "token user userId role hostProfileId needsUsername",
    "Me": "user wallet hostProfileId",
    "BeatAnswer": "ok lastSeenAt sessions",
    "LiveSession": "id pcId status endAt",
    "PcPage": "items nextCursor",
    "SessionCreated": "session code",
    "SessionEnded": "session settlement",
    "TxAnswer": "tx balance",
    "StreamStarted": "sessionId sessionStatus streamState host videoPort inputPort streamId token tokenExpiresAt connectAddress transport",
    "Transport": "recommended relay lan",
    "RelayWay": "mode url roleClient roleHost sessionId streamId token tokenExpiresAt",
    "LanWay": "mode host videoPort inputPort",
    # Of the network's, all tell of a dry run as well.
    "DeviceDone": "ok deviceId dryRun",
    "DeviceRotating": "ok deviceId rotation dryRun",
    "DeviceStatus": "ok device hasPeer peer mikStatus dryRun",
    "ManagerRegistered": "success mikrotikScript createdPeer tunnelIp rotation dryRun",
    "KeyNeeded": "ok needPublicKey instructions dryRun",
    "Bootstrapped": "ok createdPeer commands rotation dryRun",
    "PeersStatus": "timestamp interface peers dryRun",
    "PeerShown": "publicKey handshakeAge status rx tx allowedIps endpoint device",
    "BindingDone": "ok binding dryRun",
    "PeerRemoved": "ok removed dryRun",
    "BindingsListed": "ok bindings dryRun",
    "ProbeAnswer": "ok deviceId identity version board dryRun",
}
MONEY = {"pricePerHour", "priceTotal", "amount", "balance", *SHAPES["Settlement"].split()} - {"currency"}


@pytest.fixture
def document(site: Site) -> Json:
    return site.conformance.document


def inside(thing: Any) -> Iterator[Json]:
    """Every object within."""
    if isinstance(thing, dict):
        yield thing
    for item in thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ():
        yield from inside(item)


def references(thing: Any) -> set[str]:
    return {each["$ref"] for each in inside(thing) if "$ref" in each}


async def test_published_document_is_what_the_daemon_says(document: Json) -> None:
    made = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SCHEMA") == "1":
        PUBLISHED.write_text(made, "utf-8")
    published = PUBLISHED.read_text("utf-8") if PUBLISHED.exists() else ""
    assert made == published, "run scripts/schemas and look at the difference"


async def test_it_is_openapi_3_1(document: Json) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


async def test_every_reference_leads_somewhere_and_every_component_is_used(document: Json) -> None:
    conformance = Conformance(document)
    for reference in references(document):
        assert conformance.resolved({"$ref": reference})
    names = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "headers")
        for name in document["components"][kind]
    }
    assert names == references(document)


async def test_every_route_is_in_it_and_the_other_way_round(site: Site) -> None:
    rules = site.app._quart.url_map.iter_rules()
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)) for rule in rules for method in rule.methods or ()
    }
    documented = {(method, path) for method, path, _ in site.conformance.operations()}
    assert {route for route in routes if route[0] != "HEAD"} == documented


async def test_the_document_s_names_are_fit_for_a_client_s_methods(document: Json) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-zA-Z]+", name) for name in ids)
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert all(re.fullmatch(r"[A-Z][a-zA-Z]+", name) for name in document["components"]["schemas"])


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_an_answer_has_all_that_the_contract_names(document: Json, name: str) -> None:
    schema = document["components"]["schemas"][name]
    assert sorted(schema["properties"]) == sorted(SHAPES[name].split())
    assert sorted(schema["required"]) == sorted(schema["properties"])


async def test_money_is_an_integer_wherever_it_stands(document: Json) -> None:
    properties = [each["properties"] for each in inside(document["components"]["schemas"]) if "properties" in each]
    found = {name: schema for each in properties for name, schema in each.items() if name in MONEY}
    assert set(found) == MONEY
    assert {name: schema["type"] for name, schema in found.items()} == dict.fromkeys(MONEY, "integer")
    # What may be a fraction is taken from hosts and not used.
    fractions = {name for each in properties for name, schema in each.items() if '"number"' in json.dumps(schema)}
    assert fractions == {"timestamp", "intervalMs", "seq", "sentAtMs"}


def requested(document: Json) -> dict[str, Json]:
    """The schemas of all bodies, by their names."""
    conformance, found = Conformance(document), {}
    for _, _, operation in conformance.operations():
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            found[reference.rpartition("/")[2]] = conformance.resolved({"$ref": reference})
    return found


async def test_requests_are_closed_and_bounded(document: Json) -> None:
    for name, schema in requested(document).items():
        assert schema["additionalProperties"] is False, name
        for part in inside(schema["properties"]):
            kinds = {part["type"]} if isinstance(part.get("type"), str) else set(part.get("type", ()))
            if "integer" in kinds:
                assert {"minimum", "maximum"} <= part.keys(), part
            if "string" in kinds:
                assert "pattern" in part or part.get("format") == "uuid", part
            if "array" in kinds:
                assert "maxItems" in part, part


async def test_examples_fit(document: Json) -> None:
    examples = 0
    for each in inside(document["components"]["schemas"]):
        for example in each.get("examples", ()) if isinstance(each.get("examples"), list) else ():
            jsonschema_rs.Draft202012Validator(each, validate_formats=True).validate(example)
            examples += 1
    assert examples > 10


async def test_every_error_of_ours_is_in_it_with_one_status(document: Json) -> None:
    def all_of(cls: type[OpenDeskError]) -> Iterator[type[OpenDeskError]]:
        yield cls
        for sub in cls.__subclasses__():
            yield from all_of(sub)

    documented = {
        (part["status"]["const"], code)
        for response in document["components"]["responses"].values()
        for part in [response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]]
        for code in part["code"]["enum"]
    }
    # What the front door says when it is not HTTP that it hears, too much of it, or another WebSocket.
    at_the_door = ANYWHERE | {
        (426, "UPGRADE_REQUIRED"),
        (500, "INTERNAL"),
        (501, "UNKNOWN_TRANSFER_CODING"),
        (505, "HTTP_VERSION_NOT_SUPPORTED"),
    }
    # Of routers whose passwords nobody can open: callers are told that the router can't be reached, and the log and the command line why.
    # Why an entry of an earlier system's files isn't taken over is told by the command that reads them.
    inside = {(500, "SEAL_NOT_OPENED"), (CannotTakeOver.status, CannotTakeOver.code)}
    ours = {(error.status, error.code) for error in all_of(OpenDeskError) if error.__module__.startswith("opendesk.")}
    assert ours == documented | at_the_door | inside
    # The clients of the network API expect 400 where all others expect 422.
    assert len({code for _, code in ours - {(400, "VALIDATION_FAILED")}}) == len(ours) - 1


async def test_everything_good_that_it_promises_happens(site: Site) -> None:
    """Each answer is judged as it comes; here is that there is one of each. Of routers, tests/network/test_promises.py has it."""
    await _a_day(site)
    promised = {
        (operation["operationId"], int(status))
        for _, path, operation in site.conformance.operations()
        for status in operation["responses"]
        if status.startswith("2") and (not path.startswith(ROOTS) or path in {"/relay/health", "/relay/metrics"})
    }
    assert site.conformance.seen >= promised
    assert {status for _, status in site.conformance.seen} == {200, 201, 204}


async def _a_day(site: Site) -> None:
    host, ana, admin = await site.host(), await site.user(), await site.admin()
    for path in (
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/hosts",
        "/pcs",
        f"/hosts/{host.host_id}",
    ):
        await site.client.get(path)
    await site.client.get("/relay/health", headers=HOLDER)
    await site.client.get("/relay/metrics")
    await site.client.post("/auth/register", json={"email": "b@example.org", "password": PASSWORD, "username": "bob"})
    await site.client.post("/auth/login", json={"email": "b@example.org", "password": PASSWORD})
    await ana.get("/auth/me")
    await ana.post("/hosts")
    await ana.post("/hosts")
    pc = await site.pc(host, localPcId="1")
    for method, path, body in [
        ("POST", "/pcs", {**PC, "localPcId": "1"}),
        ("PUT", f"/pcs/{pc}", PC),
        ("POST", f"/pcs/{pc}/network", {"networkProvider": "RELAY"}),
        ("GET", f"/pcs/{pc}", None),
        ("GET", f"/hosts/{host.host_id}/pcs", None),
        ("POST", f"/hosts/{host.host_id}/heartbeat", {}),
    ]:
        await host.call(method, path, json=body)
    await admin.post(f"/wallets/{ana.id}/tx", json={"type": "CREDIT", "amount": 10_000, "reason": "TOP_UP"})
    await ana.get(f"/wallets/{ana.id}")
    await ana.get(f"/wallets/{ana.id}/transactions")
    await ana.post(f"/sessions/{await site.reserved(ana, pc)}/cancel")
    session = await site.running(ana, pc)
    await ana.post(f"/sessions/{session}/stream/start")
    await admin.get("/stream/rooms")
    await ana.post(f"/sessions/{session}/end")
    await admin.post(f"/sessions/{session}/refund", json={"amount": 1, "reason": "GOODWILL"})
    await ana.get(f"/sessions/{session}")
    await ana.get("/sessions")
    await host.delete(f"/pcs/{pc}")
    await ana.post("/auth/logout")
    await host.post("/auth/password", json={"current": PASSWORD, "password": PASSWORD + "!"})


async def test_the_judge_sees_what_differs(site: Site) -> None:
    """A test of the tests: an answer that isn't as the document says is found out."""
    # Others are judged by the one that was read.
    site.conformance.document, site.conformance._validators = deepcopy(site.conformance.document), {}
    site.conformance.document["components"]["schemas"]["Alive"]["required"].append("more")
    with pytest.raises(AssertionError, match="more"):
        await site.client.get("/health/live")
    problem = {"type": "about:blank", "title": "?", "status": 404, "detail": "?", "code": "NOT_FOUND", "error": "?"}
    headers = {"X-Request-ID": "x", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    answer = httpx.Response(404, json=problem, request=httpx.Request("GET", f"{site.url}/nowhere"))
    answer.headers.update({**headers, "Content-Type": "application/problem+json"})
    with pytest.raises(AssertionError, match="traceId"):
        site.conformance.check(answer)
