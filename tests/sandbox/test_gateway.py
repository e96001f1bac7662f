import asyncio
import time

import aiohttp
import pytest

from shard_node.sandbox import gateway
from tests.support.aio import async_test
from tests.support.sandbox import GatewayClient, Sandbox, eventually, sandbox

ZLIB = "?v=10&encoding=json&compress=zlib-stream"
PLAIN = "?v=10&encoding=json"
HEARD_MEANWHILE = 5
"""Events that another shard hears while one gets its thousands of guilds: one, if it is held up."""


def guild_of(box: Sandbox, shard: int, num_shards: int) -> int:
    return next(g for g in box.state.world.guild_ids() if (g >> 22) % num_shards == shard)


@pytest.mark.parametrize("query", [PLAIN, ZLIB])
@async_test
async def test_identify_events_and_resume(query: str) -> None:
    async with sandbox(guilds=6, max_concurrency=2) as box:
        guild_id = guild_of(box, 1, 2)
        async with box.gateway(query=query) as ws:
            ready = await ws.identify((1, 2))
            await ws.send(1, ws.seq)
            assert (await ws.until(11))["d"] is None
            assert box.state.hub.dispatch("TYPING_START", {"n": 0}, guild_id=guild_id) == 1
            assert (await ws.until("TYPING_START"))["d"] == {"n": 0}
            seen = ws.seq
            await ws.ws.close(code=4900)
        (session,) = box.state.hub.sessions.values()
        await eventually(lambda: not session.connected)
        for n in (1, 2):
            box.state.hub.dispatch("TYPING_START", {"n": n}, guild_id=guild_id)
        async with box.gateway(ready["resume_gateway_url"], query) as ws:
            await ws.resume(ready["session_id"], seen)
            got = [await ws.receive() for _ in range(3)]
            assert [(p["t"], p["d"].get("n")) for p in got] == [
                ("TYPING_START", 1),
                ("TYPING_START", 2),
                ("RESUMED", None),
            ]


@async_test
async def test_two_shard_counts_side_by_side() -> None:
    async with (
        sandbox(guilds=12, identify_window_s=0.0) as box,
        box.gateway() as two,
        box.gateway(query=ZLIB) as three,
    ):
        await two.identify((0, 2))
        await three.identify((2, 3))
        shared = next(
            g for g in box.state.world.guild_ids() if (g >> 22) % 2 == 0 and (g >> 22) % 3 == 2
        )
        assert box.state.hub.dispatch("TYPING_START", {}, guild_id=shared) == 2
        assert (await two.until("TYPING_START"))["d"] == {}
        assert (await three.until("TYPING_START"))["d"] == {}


@async_test
async def test_a_close_with_1000_ends_the_session() -> None:
    async with sandbox() as box:
        async with box.gateway() as ws:
            await ws.identify()
            await ws.ws.close(code=1000)
        await eventually(lambda: not box.state.hub.sessions)


@async_test
async def test_a_lost_connection_keeps_the_session() -> None:
    async with sandbox() as box:
        async with box.gateway() as ws:
            await ws.identify()
            (session,) = box.state.hub.sessions.values()
            ws.ws._writer.transport.abort()
            await eventually(lambda: not session.connected)
        assert session.id in box.state.hub.sessions


@async_test
async def test_a_session_expires_by_itself() -> None:
    async with sandbox(session_ttl_s=0.05) as box:
        async with box.gateway() as ws:
            await ws.identify()
            await ws.ws.close(code=4000)
        await eventually(lambda: not box.state.hub.sessions)


@pytest.mark.parametrize(
    "query", ["", "?v=9&encoding=json", "?v=x", "?encoding=json", "?v=10&encoding=etf"]
)
@async_test
async def test_4012_other_versions_and_encodings(query: str) -> None:
    async with sandbox() as box, box.http.ws_connect(box.state.gateway_url + query) as ws:
        await ws.receive()
        assert ws.close_code == 4012


@async_test
async def test_4009_when_heartbeats_stay_away() -> None:
    async with sandbox(heartbeat_interval_ms=100) as box, box.gateway() as ws:
        await ws.identify()
        began = time.monotonic()
        assert await ws.closed() == 4009
        assert 0.1 < time.monotonic() - began < 2.0
        assert not box.state.hub.sessions


@async_test
async def test_4009_even_before_identify() -> None:
    async with sandbox(heartbeat_interval_ms=50) as box, box.gateway() as ws:
        assert await ws.closed() == 4009


@async_test
async def test_4002_and_4008_over_a_real_socket() -> None:
    async with sandbox(sends_max=3) as box:
        async with box.gateway() as ws:
            await ws.ws.send_str("{")
            assert await ws.closed() == 4002
        async with box.gateway() as ws:
            for _ in range(4):
                await ws.send(1)
            assert await ws.closed() == 4008


@async_test
async def test_a_payload_over_the_websocket_limit_only_ends_its_connection() -> None:
    async with sandbox() as box:
        async with box.gateway() as ws:
            await ws.ws.send_str("x" * (gateway.MESSAGE_BYTES_MAX + 10))
            assert await ws.closed() in (1009, 1006)
        async with box.gateway() as ws:
            await ws.identify()


@async_test
async def test_drop_is_no_close_frame() -> None:
    async with sandbox() as box, box.gateway() as ws:
        await ws.identify()
        await box.trouble("drop")
        assert await ws.closed() in (1006, None)
        (session,) = box.state.hub.sessions.values()
        await eventually(lambda: not session.connected)


@async_test
async def test_trouble_over_the_wire() -> None:
    async with sandbox() as box, box.gateway() as ws:
        await ws.identify()
        await box.trouble("reconnect")
        assert (await ws.until(7))["d"] is None
        await box.trouble("heartbeat")
        await ws.until(1)
        await box.trouble("invalid_session", resumable=True)
        assert (await ws.until(9))["d"] is True


@async_test
async def test_close_with_a_code_of_ones_own() -> None:
    async with sandbox() as box, box.gateway(query=ZLIB) as ws:
        await ws.identify()
        await box.trouble("close", code=4011)
        assert await ws.closed() == 4011


@async_test
async def test_delay_keeps_the_order_and_lets_acknowledgements_pass() -> None:
    async with sandbox() as box, box.gateway() as ws:
        await ws.identify()
        await box.trouble("delay", delay_s=0.3)
        began = time.monotonic()
        box.state.hub.dispatch("TYPING_START", {"n": 1}, guild_id=None)
        await box.trouble("delay", off=True)
        box.state.hub.dispatch("TYPING_START", {"n": 2}, guild_id=None)
        await ws.send(1)
        got = [await ws.receive() for _ in range(3)]
        assert [p["op"] for p in got] == [11, 0, 0]
        assert [p["d"]["n"] for p in got[1:]] == [1, 2]
        assert time.monotonic() - began >= 0.3


@async_test
async def test_dead_resume_url_refuses_and_the_old_one_drops() -> None:
    async with sandbox(identify_window_s=0.0) as box:
        async with box.gateway() as ws:
            alive = (await ws.identify())["resume_gateway_url"]
        await box.trouble("dead_resume_url")
        async with box.gateway() as ws:
            dead = (await ws.identify())["resume_gateway_url"]
        with pytest.raises(aiohttp.ClientConnectorError):
            await box.http.ws_connect(dead + PLAIN)
        with pytest.raises(aiohttp.ClientError):
            await box.http.ws_connect(alive + PLAIN)
        await box.trouble("dead_resume_url", off=True)
        async with box.gateway(alive) as ws:
            assert (await ws.identify())["resume_gateway_url"] == alive


@async_test
async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with sandbox(outbox_bytes_max=200_000) as box, box.gateway() as ws:
        await ws.identify()
        (session,) = box.state.hub.sessions.values()
        big = {"x": "y" * 50_000}
        while session.connected:
            box.state.hub.dispatch("USER_UPDATE", big, guild_id=None)
            await asyncio.sleep(0)
        assert session.id in box.state.hub.sessions


@async_test
async def test_a_browser_gets_a_word() -> None:
    async with sandbox() as box, box.http.get(box.info["rest_url"].split("/api")[0]) as response:
        assert "stand-in for Discord" in await response.text()


@async_test
async def test_wrong_trouble_answers() -> None:
    async with sandbox() as box:
        url = box.info["control_url"] + "/trouble"
        for body, status in [
            (b"{", 400),
            (b"[]", 400),
            (b'{"kind":"drop"}', 404),
            (b'{"kind":"x"}', 400),
            (b"\xff", 400),
        ]:
            async with box.http.post(url, data=body) as response:
                assert response.status == status, body
                assert (await response.json())["message"]
        async with box.http.post(
            box.info["rest_url"] + "/sandbox/trouble", json={"kind": "budget", "remaining": 1}
        ) as response:
            assert (await response.json())["remaining"] == 1


async def drain(client: GatewayClient, count: int) -> None:
    for _ in range(count):
        await client.until("MESSAGE_CREATE")


@pytest.mark.slow
@pytest.mark.parametrize("query", [PLAIN, ZLIB])
@async_test
async def test_thousands_of_events_a_second(query: str) -> None:
    count, floor_per_s = 6_000, 2_000
    data = {"content": "x" * 300, "author": {"id": "1"}, "embeds": [], "mentions": []}
    async with sandbox() as box, box.gateway(query=query) as one, box.gateway(query=query) as two:
        box.state.gate.window_s = 0.0
        await one.identify((0, 2))
        await two.identify((1, 2))
        guilds = [guild_of(box, shard, 2) for shard in (0, 1)]
        began = time.monotonic()
        reading = asyncio.gather(drain(one, count // 2), drain(two, count // 2))
        for n in range(count):
            box.state.hub.dispatch("MESSAGE_CREATE", data, guild_id=guilds[n % 2])
            if n % 50 == 0:
                await asyncio.sleep(0)
        await reading
        assert count / (time.monotonic() - began) > floor_per_s


@pytest.mark.slow
@async_test
async def test_thousands_of_guilds_do_not_hold_up_others() -> None:
    async with (
        sandbox(guilds=2_400, identify_window_s=0.0) as box,
        box.gateway() as big,
        box.gateway() as small,
    ):
        await small.identify((0, 48))
        startup = asyncio.create_task(big.identify((0, 1)))
        heard = 0
        while not startup.done():
            box.state.hub.dispatch("TYPING_START", {}, guild_id=guild_of(box, 0, 48))
            await small.until("TYPING_START")
            heard += 1
        assert len((await startup)["guilds"]) == 2_400
        assert heard >= HEARD_MEANWHILE
