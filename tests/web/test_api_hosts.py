"""Hosts and their PCs: what is offered, what is shown to whom."""

import pytest

from opendesk.rental import pcs
from tests.web.site import PC, Json, Site, problem

PRIVATE = {"connectAddress", "connectHint", "connectionHost", "connectionPort"}
NOBODY = "018f9a2e-0000-7000-8000-000000000000"
NETWORK: Json = {
    "networkProvider": "RELAY",
    "connectAddress": "203.0.113.7:5004",
    "connectHint": "behind the router",
    "connectionHost": "pc.example.org",
    "connectionPort": 5004,
}


# Hosts


@pytest.fixture
def few_pcs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcs, "MAX_PCS", 2)


@pytest.mark.usefixtures("few_pcs")
async def test_a_host_offers_so_many_pcs_and_no_more(site: Site) -> None:
    host, other = await site.host(), await site.host()
    first, _ = [await site.pc(host, localPcId=name) for name in ("1", "2")]
    assert problem(await host.post("/pcs", json={**PC, "localPcId": "3"})) == (409, "TOO_MANY_PCS")
    assert (await host.post("/pcs", json={**PC, "localPcId": "2"})).status_code == 200
    assert (await other.post("/pcs", json=PC)).status_code == 201
    await host.delete(f"/pcs/{first}")
    assert (await host.post("/pcs", json=PC)).status_code == 201


async def test_becoming_a_host_is_201_once_and_200_with_the_same_profile_after(site: Site) -> None:
    ana = await site.user(name="ana")
    first, second = await ana.post("/hosts"), await ana.post("/hosts", json={})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    profile = first.json()["hostProfile"]
    assert profile == {
        "id": profile["id"],
        "userId": str(ana.id),
        "displayName": "ana",
        "reliabilityScore": 100,
        "reliabilityBadge": "NOVO",
        "sessionsTotal": 0,
        "sessionsCompleted": 0,
        "sessionsDropped": 0,
        "lastDropAt": None,
        "lastSeenAt": None,
        "createdAt": profile["createdAt"],
    }
    me = (await ana.get("/auth/me")).json()
    assert (me["user"]["role"], me["hostProfileId"]) == ("HOST", profile["id"])


async def test_a_new_host_can_offer_a_pc_with_the_token_from_before(site: Site) -> None:
    ana = await site.user()
    assert problem(await ana.post("/pcs", json=PC)) == (403, "FORBIDDEN")
    await ana.post("/hosts")
    assert (await ana.post("/pcs", json=PC)).status_code == 201


async def test_an_admin_who_becomes_a_host_stays_an_admin(site: Site) -> None:
    admin = await site.admin()
    await admin.post("/hosts")
    assert (await admin.get("/auth/me")).json()["user"]["role"] == "ADMIN"


async def test_no_list_or_profile_has_an_e_mail_address(site: Site) -> None:
    host = await site.host()
    pc = await site.pc(host)
    for path in ("/hosts", f"/hosts/{host.host_id}", f"/hosts/{host.host_id}/pcs", "/pcs", f"/pcs/{pc}"):
        answer = await site.client.get(path)
        assert answer.status_code == 200
        assert "@" not in answer.text
        assert "email" not in answer.text.lower()


@pytest.mark.parametrize("path", [f"/hosts/{NOBODY}", f"/hosts/{NOBODY}/pcs"])
async def test_an_unknown_host_is_404(site: Site, path: str) -> None:
    assert problem(await site.client.get(path)) == (404, "HOST_NOT_FOUND")


# PCs


async def test_a_new_pc_is_offline_and_all_its_host_said(site: Site) -> None:
    host = await site.host()
    more = {"categories": ["games"], "softwareTags": ["Blender"], "description": "Fast.\nQuiet.", "localPcId": "pc-1"}
    answer = await host.post("/pcs", json={**PC, **more, "connectionHost": "10.0.0.1", "connectionPort": 22})
    assert answer.status_code == 201
    pc = answer.json()["pc"]
    own = {"connectAddress": None, "connectHint": None, "connectionHost": "10.0.0.1", "connectionPort": 22}
    made = {"id": pc["id"], "hostId": str(host.host_id), "currency": "BRL", "createdAt": pc["createdAt"]}
    state = {"status": "OFFLINE", "lastSeenAt": None, "networkProvider": "DIRECT"}
    assert pc == {**PC, **more, **own, **made, **state}


async def test_the_same_local_id_gives_the_same_pc(site: Site) -> None:
    host, other = await site.host(), await site.host()
    first = await host.post("/pcs", json={**PC, "localPcId": "1"})
    again = await host.post("/pcs", json={**PC, "localPcId": "1", "name": "Another"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await other.post("/pcs", json={**PC, "localPcId": "1"})).status_code == 201
    assert (await host.post("/pcs", json=PC)).status_code == 201


async def test_a_pc_is_changed_whole_save_its_name_for_the_host_and_the_way_to_it(site: Site) -> None:
    host = await site.host()
    way: Json = {"localPcId": "1", "connectionHost": "10.0.0.1", "connectionPort": 22}
    pc = await site.pc(host, description="Old", categories=["games"], **way)
    answer = await host.put(f"/pcs/{pc}", json={**PC, "name": "New", "pricePerHour": 1})
    assert answer.status_code == 200
    changed = answer.json()["pc"]
    assert (changed["id"], changed["name"], changed["pricePerHour"]) == (pc, "New", 1)
    assert (changed["description"], changed["categories"], changed["status"]) == ("", [], "ONLINE")
    assert {name: changed[name] for name in way} == way
    other_way = {"localPcId": "2", "connectionHost": "pc.example.org", "connectionPort": 23}
    changed = (await host.put(f"/pcs/{pc}", json={**PC, **other_way})).json()["pc"]
    assert {name: changed[name] for name in way} == other_way


async def test_a_local_id_can_not_be_taken_from_another_pc(site: Site) -> None:
    host = await site.host()
    await site.pc(host, localPcId="1")
    second = await site.pc(host, localPcId="2")
    answer = await host.put(f"/pcs/{second}", json={**PC, "localPcId": "1"})
    assert problem(answer) == (409, "LOCAL_PC_ID_TAKEN")


async def test_a_deleted_pc_is_gone_and_its_local_id_free(site: Site) -> None:
    host = await site.host()
    pc = await site.pc(host, localPcId="1")
    answer = await host.delete(f"/pcs/{pc}")
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in (await host.get(f"/pcs/{pc}"), await host.delete(f"/pcs/{pc}"), await host.put(f"/pcs/{pc}", json=PC)):
        assert problem(gone) == (404, "PC_NOT_FOUND")
    assert (await host.get("/pcs")).json()["items"] == []
    assert await site.pc(host, localPcId="1") != pc


async def test_a_pc_with_a_live_session_can_not_be_deleted(site: Site) -> None:
    host, ana = await site.host(), await site.user(money=10_000)
    pc = await site.pc(host)
    session = await site.reserved(ana, pc)
    assert problem(await host.delete(f"/pcs/{pc}")) == (409, "PC_BUSY")
    await ana.post(f"/sessions/{session}/start")
    assert problem(await host.delete(f"/pcs/{pc}")) == (409, "PC_BUSY")
    await ana.post(f"/sessions/{session}/end")
    assert (await host.delete(f"/pcs/{pc}")).status_code == 204
    assert (await ana.get(f"/sessions/{session}")).json()["session"]["pcId"] == pc


async def test_where_a_pc_is_reached_is_told_to_its_host_only(site: Site) -> None:
    host, ana = await site.host(), await site.user(money=10_000)
    pc = await site.pc(host)
    answer = await host.post(f"/pcs/{pc}/network", json=NETWORK)
    assert answer.status_code == 200
    told = answer.json()["pc"]
    assert {name: told[name] for name in NETWORK} == NETWORK
    await site.running(ana, pc)
    for caller in (ana, host, await site.admin()):
        for path in (f"/pcs/{pc}", "/pcs", f"/hosts/{host.host_id}/pcs", "/sessions"):
            shown = await caller.get(path)
            assert "203.0.113.7" not in shown.text
            assert "pc.example.org" not in shown.text
            assert not [name for name in PRIVATE if name in shown.text]
    assert (await ana.get(f"/pcs/{pc}")).json()["pc"]["networkProvider"] == "RELAY"


async def test_the_network_is_said_whole(site: Site) -> None:
    host = await site.host()
    pc = await site.pc(host)
    await host.post(f"/pcs/{pc}/network", json=NETWORK)
    answer = await host.post(f"/pcs/{pc}/network", json={"networkProvider": "DIRECT"})
    assert {name: answer.json()["pc"][name] for name in PRIVATE} == dict.fromkeys(PRIVATE)


# Heartbeats


async def test_a_beat_brings_all_pcs_online_and_tells_of_their_sessions(site: Site) -> None:
    host, ana = await site.host(), await site.user(money=10_000)
    pc, other = await site.pc(host), await site.pc(host, online=False)
    session = await site.running(ana, pc)
    answer = await host.post(f"/hosts/{host.host_id}/heartbeat")
    assert answer.status_code == 200
    beat = answer.json()
    shown = (await ana.get(f"/sessions/{session}")).json()["session"]
    live = {"id": session, "pcId": pc, "status": "ACTIVE", "endAt": shown["endAt"]}
    assert beat == {"ok": True, "lastSeenAt": beat["lastSeenAt"], "sessions": [live]}
    assert (await host.get(f"/pcs/{pc}")).json()["pc"]["status"] == "BUSY"
    now_online = (await host.get(f"/pcs/{other}")).json()["pc"]
    assert (now_online["status"], now_online["lastSeenAt"]) == ("ONLINE", beat["lastSeenAt"])
    assert (await host.get(f"/hosts/{host.host_id}")).json()["hostProfile"]["lastSeenAt"] == beat["lastSeenAt"]


async def test_a_beat_may_say_all_that_older_hosts_say(site: Site) -> None:
    host = await site.host()
    pc, silent = await site.pc(host, online=False), await site.pc(host, online=False)
    said = {"status": "ONLINE", "pcId": pc, "timestamp": "2026-01-01T00:00:00Z", "intervalMs": 10_000, "seq": 1}
    answer = await host.post(f"/hosts/{host.host_id}/heartbeat", json={**said, "sentAtMs": 1_767_225_600_000})
    assert answer.json()["sessions"] == []
    assert (await host.get(f"/pcs/{pc}")).json()["pc"]["status"] == "ONLINE"
    assert (await host.get(f"/pcs/{silent}")).json()["pc"]["status"] == "OFFLINE"


async def test_of_what_a_beat_says_and_nobody_uses_any_number_will_do(site: Site) -> None:
    host = await site.host()
    for number in (0, -1, 1.5, 1_767_225_600_000.125, 2**53, 2**70, -1e308):
        said = dict.fromkeys(("timestamp", "intervalMs", "seq", "sentAtMs"), number)
        answer = await host.post(f"/hosts/{host.host_id}/heartbeat", json=said)
        assert answer.status_code == 200, number


@pytest.mark.parametrize("body", [b"", b"{}", b" \n", b'{"timestamp": 1767225600000}', b'{"status": null}'])
async def test_a_beat_may_say_nothing(site: Site, body: bytes) -> None:
    host = await site.host()
    answer = await host.post(f"/hosts/{host.host_id}/heartbeat", content=body)
    assert answer.json()["ok"] is True


async def test_a_beat_for_a_pc_of_another_host_is_for_none(site: Site) -> None:
    host, other = await site.host(), await site.host()
    pc = await site.pc(other, online=False)
    answer = await host.post(f"/hosts/{host.host_id}/heartbeat", json={"pcId": pc})
    assert problem(answer) == (404, "PC_NOT_FOUND")
    assert (await other.get(f"/pcs/{pc}")).json()["pc"]["status"] == "OFFLINE"


async def test_a_beat_of_an_unknown_host_is_404(site: Site) -> None:
    for caller in (await site.host(), await site.admin()):
        assert problem(await caller.post(f"/hosts/{NOBODY}/heartbeat")) == (404, "HOST_NOT_FOUND")
