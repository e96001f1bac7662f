"""/sandbox/*: looking, loads, witnesses; also under the REST base."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from shard_node.sandbox import load as loads
from tests.support.sandbox_client import WAIT_S, Box, in_sandbox

PING = [{"name": "ping", "description": "Answers."}]


def report(nonce: str, phase: str = "start", at: float = 1.0, node: str = "a#1") -> dict[str, Any]:
    return {"nonce": nonce, "node": node, "phase": phase, "at": at}


async def finished(box: Box, load_id: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            state: dict[str, Any] = (await box.ask("GET", f"/load/{load_id}")).json
            if state["done"]:
                return state
            await asyncio.sleep(0.02)


@in_sandbox(guilds=5, shards=3)
async def test_info_guilds_sessions(box: Box) -> None:
    info = (await box.ask("GET", "/info")).json
    assert info["token"] == box.world.token
    guilds = (await box.ask("GET", "/guilds")).json
    assert [int(g["id"]) for g in guilds] == box.world.guild_ids()
    assert all((int(g["id"]) >> 22) % 3 == g["shard"] for g in guilds)
    assert guilds[0]["members"] == len(box.guild.members)
    assert (await box.ask("GET", "/sessions")).json == []
    async with box.gateway(shard=(1, 3)):
        (session,) = (await box.ask("GET", "/sessions")).json
    assert (session["shard"], session["num_shards"], session["connected"]) == (1, 3, True)


@in_sandbox()
async def test_also_under_the_rest_base_without_token_or_limits(box: Box) -> None:
    for _ in range(60):
        answer = await box.call("GET", "/sandbox/audit", token="none")
        assert answer.status == 200
    assert answer.json["invalid_requests"] == 0
    assert answer.json["rest_requests"] == 0


@in_sandbox()
async def test_audit_reset(box: Box) -> None:
    await box.play("role")
    assert (await box.audit(reset=True))["events_sent"] == 1
    assert (await box.audit())["events_sent"] == 0


@in_sandbox()
async def test_witness_planted_missing_doubled_and_out_of_order(box: Box) -> None:
    async with box.gateway() as client:
        await box.play("role", count=5)
        await client.until("GUILD_ROLE_UPDATE", 5)
    nonces = [data["sandbox_nonce"] for _, data in client.events]
    await box.witness(
        report(nonces[0], at=1.0),
        report(nonces[0], "end", at=1.1),
        report(nonces[2], at=2.0),
        report(nonces[1], at=3.0),
        report(nonces[3], at=4.0),
        report(nonces[3], at=5.0, node="b#1"),
    )
    audit = await box.audit()
    assert audit["events_sent"] == 5
    assert audit["events_handled_once"] == 3
    assert audit["events_handled_twice"] == 1
    assert audit["events_pending"] == 1
    assert audit["events_out_of_order"] == 1
    assert audit["events_unfinished"] == 3


@in_sandbox()
async def test_witness_by_websocket_and_garbage(box: Box) -> None:
    await box.play("role")
    url = box.state.info()["witness_url"]
    async with box.http.ws_connect(url) as socket:
        await socket.send_json(report(f"{box.guild.id}:0"))
        await socket.send_json([{"kind": "guild_join", "guild": "1", "node": "a#1"}, 5, {}])
        await socket.send_str("{")
        await socket.send_json([report("1:99"), report(f"{box.guild.id}:0", "middle")])
        for at in ("NaN", "Infinity", "9" * 400):
            await socket.send_str(f'{{"nonce": "{box.guild.id}:0", "phase": "start", "at": {at}}}')
        async with asyncio.timeout(WAIT_S):
            while (await box.audit()).get("witness_malformed", 0) < 7:
                await asyncio.sleep(0.01)
    audit = await box.audit()
    assert (audit["events_handled_once"], audit["guild_joins_seen"]) == (1, 1)
    assert (audit["witness_unknown"], audit["witness_malformed"]) == (1, 7)


@in_sandbox()
async def test_an_open_witness_does_not_hold_up_the_end(box: Box) -> None:
    await box.http.ws_connect(box.state.info()["witness_url"])


@in_sandbox()
async def test_load_is_exact_and_on_time(box: Box) -> None:
    await box.call("PUT", f"/applications/{box.app}/commands", PING)
    async with box.gateway() as client:
        began = time.monotonic()
        body = {"interactions_per_s": 40, "events_per_s": 400, "seconds": 0.5}
        load_id = (await box.ask("POST", "/load", body)).json["id"]
        await client.until("INTERACTION_CREATE", 20)
        state = await finished(box, load_id)
        took_s = time.monotonic() - began
    assert (state["interactions_sent"], state["events_sent"]) == (20, 200)
    assert state["error"] is None
    assert 0.5 <= took_s < 2.0
    audit = await box.audit()
    assert (audit["interactions_sent"], audit["events_sent"]) == (20, 200)


@in_sandbox(guilds=6)
async def test_load_in_one_guild(box: Box) -> None:
    async with box.gateway() as client:
        body = {"events_per_s": 100, "seconds": 0.2, "guild": str(box.guild.id)}
        await finished(box, (await box.ask("POST", "/load", body)).json["id"])
        await box.play("role")
        await client.until("GUILD_ROLE_UPDATE")
    guilds = {d["guild_id"] for _, d in client.events if "sandbox_nonce" in d}
    assert guilds == {str(box.guild.id)}


@in_sandbox()
async def test_load_that_cannot_be(box: Box) -> None:
    answer = await box.ask("POST", "/load", {"interactions_per_s": 1, "seconds": 1})
    assert answer.status == 409
    for body in (
        {"events_per_s": -1, "seconds": 1},
        {"events_per_s": 1},
        {"events_per_s": 1e9, "seconds": 1},
        [],
    ):
        assert (await box.ask("POST", "/load", body)).status == 400
    assert (await box.ask("POST", "/load", {"seconds": 1, "guild": "7"})).status == 404
    assert (await box.ask("GET", "/load/77")).status == 404
    async with box.http.post(box.state.info()["control_url"] + "/load", data=b"{") as response:
        assert response.status == 400


@in_sandbox()
async def test_loads_are_bounded(box: Box) -> None:
    body = {"seconds": 60}
    answers = [await box.ask("POST", "/load", body) for _ in range(loads.LOADS_MAX + 1)]
    assert {a.status for a in answers[:-1]} == {200}
    assert answers[-1].status == 409


@pytest.mark.slow
@in_sandbox(guilds=50)
async def test_a_thousand_events_a_second_are_sent_and_witnessed(box: Box) -> None:
    async with box.gateway() as client:
        body = {"events_per_s": 1000, "seconds": 2}
        load_id = (await box.ask("POST", "/load", body)).json["id"]
        async with box.http.ws_connect(box.state.info()["witness_url"]) as witness:
            seen = 0
            while seen < 2000:
                client.events.clear()
                await client.until("MESSAGE_CREATE")
                batch = [d["sandbox_nonce"] for _, d in client.events if "sandbox_nonce" in d]
                seen += len(batch)
                now = time.monotonic()
                await witness.send_json([report(nonce, at=now) for nonce in batch])
                await witness.send_json([report(nonce, "end", at=now) for nonce in batch])
                if seen >= 1995:
                    break
            state = await finished(box, load_id)
    assert state["events_sent"] == 2000
    audit = await box.audit()
    assert audit["events_sent"] == 2000
    assert audit["events_handled_once"] >= 1995
    assert (audit["events_handled_twice"], audit["events_out_of_order"]) == (0, 0)


@in_sandbox(identify_window_s=0.0)
async def test_one_event_handled_on_both_sides_of_a_handover_was_handled_twice(box: Box) -> None:
    assert box.guild is not None
    shards = [((box.guild.id >> 22) % count, count) for count in (2, 4)]
    async with box.gateway(shard=shards[0]) as old, box.gateway(shard=shards[1]) as new:
        await box.play("role", count=2)
        copies = [(await side.until("GUILD_ROLE_UPDATE", 2)) for side in (old, new)]
        assert copies[0] == copies[1]
        both = report(f"{box.guild.id}:0") | {"at": 5.0}
        await box.witness(both, both | {"node": "b#1"}, report(f"{box.guild.id}:1") | {"at": 6.0})
    audit = await box.audit()
    assert (audit["events_sent"], audit["events_handled_twice"]) == (2, 1)
    assert audit["events_handled_once"] == 1
