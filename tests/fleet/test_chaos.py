"""What the message plane keeps when processes are killed, stopped, or take nothing in.

SHARDCTL_KILLS=20 kills the broker as often as the figures ask for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node.errors import Undeliverable
from tests.bench import checks, unread
from tests.bench.kills import KILLS_QUICK, Ordeal
from tests.support.aio import async_test
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

BOT = Path(__file__).resolve().parents[1] / "bots" / "chaos.py"
SERVING_MAX_S = 2.0
AT_ONCE_S = 2.0
LIMIT_S = 60.0
ACKED_MIN_S = 2500.0
"""Half the rate: the machine of a test may be busy."""
NOISE_US = 10_000.0
"""Of a busy machine. Whoever waits for one that takes nothing waits much longer."""
QUEUES_MAX_MB = 96.0
SENDER_MAX_MB = 192.0


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("chaos"), "chaos") as fleet:
        shutil.copy(BOT, fleet.bot_folder / "main.py")
        # A node that is killed here has its shards again with its next process.
        settings = '[lifecycle]\nsurvivors = "never"\n'
        (fleet.bot_folder / "shardctl.toml").write_text(settings)
        fleet.start("main.py")
        yield fleet


def shown(figures: dict[str, float]) -> dict[str, float]:
    for key, value in figures.items():
        print(f"{key:40} {value:,.3f}")
    return figures


@pytest.mark.timeout(300)
def test_a_broker_killed_under_load_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    kills = int(os.environ.get("SHARDCTL_KILLS", KILLS_QUICK))
    figures = shown(Ordeal(tmp_path).run(kills))
    faults = {key: figures[key] for key in ("lost", "twice", "late", "left", "undelivered")}
    assert faults == dict.fromkeys(faults, 0)
    # By a short name a client is unknown until it is back: refused, to be tried again.
    assert figures["unreachable"] < 0.05 * figures["acked"]
    assert figures["acked_s"] > ACKED_MIN_S
    assert figures["serving_max_s"] < SERVING_MAX_S


def test_a_node_that_stands_still_does_not_slow_the_others() -> None:
    figures = shown(checks.stopped(quick=True))
    assert figures["still_p99_us"] < 2 * max(figures["quiet_p99_us"], NOISE_US)
    assert figures["grown_mb"] < QUEUES_MAX_MB


@pytest.mark.parametrize("consumer", unread.CONSUMERS)
def test_a_consumer_that_takes_nothing_in_fills_no_memory_and_slows_nobody(consumer: str) -> None:
    figures = shown(unread.one(consumer, unread.FLOOD_QUICK_S))
    assert figures["broker_grown_mb"] < QUEUES_MAX_MB
    assert figures["sender_mb"] < SENDER_MAX_MB
    assert figures["begun"] > figures["full"] > 0
    assert figures["bounced"] > 0
    assert figures["without_hint"] == 0
    assert figures["dropped"] > 0
    assert figures["handled"] == 0
    assert figures["after_p50_us"] < 2 * max(figures["quiet_p50_us"], NOISE_US)


# --- a fleet of real nodes


def written(fleet: Fleet) -> dict[str, list[str]]:
    """What the bots wrote down, by file."""
    return {path.name: path.read_text().splitlines() for path in fleet.bot_folder.glob("heard-*")}


class Said:
    """Messages of one client, and what became of them."""

    def __init__(self, node: Any, stream: str) -> None:
        self._node, self._stream = node, stream
        self._tasks: list[asyncio.Task[Any]] = []

    def say(self, target: Any, count: int) -> None:
        for _ in range(count):
            body = {"stream": self._stream, "n": len(self._tasks) + 1}
            work = self._node.send(target, "chaos.message", body, ttl_s=LIMIT_S)
            self._tasks.append(asyncio.create_task(work))

    async def receipts(self) -> dict[str, Any]:
        """By what the bots write down for each; raises for one that could not be delivered."""
        found = await asyncio.gather(*self._tasks)
        return {f"{self._stream} {place}": receipt for place, receipt in enumerate(found, 1)}


async def _calm(fleet: Fleet, node: Any) -> None:
    await asyncio.to_thread(fleet.wait_ready)
    async with asyncio.timeout(10):
        while not node.broker_up:
            await asyncio.sleep(0.01)


@async_test
async def test_requests_to_a_killed_node_fail_at_once_and_its_messages_wait(
    standing: Fleet,
) -> None:
    async with shard_node.connect(standing.paths.endpoint, "probe") as probe:
        await _calm(standing, probe)
        targets = (shard_node.Node("b"), shard_node.Shard(3))
        asked = [
            asyncio.create_task(probe.request(target, "chaos.hang", timeout_s=LIMIT_S))
            for target in targets
            for _ in range(20)
        ]
        async with asyncio.timeout(10):
            while await probe.request(targets[0], "chaos.begun") < len(asked):
                await asyncio.sleep(0.01)
        before, guild = set(written(standing)), _guild_of(standing, 3)
        standing.kill("node:b")
        killed = time.monotonic()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        took_s = time.monotonic() - killed
        assert Counter(type(error) for error in ended) == {Undeliverable: len(asked)}
        print(f"{len(asked)} requests failed {took_s * 1000:.0f} ms after the kill")
        assert took_s < AT_ONCE_S
        said = Said(probe, "parked")
        for target in (shard_node.Shard(2), shard_node.Shard(3), guild):
            said.say(target, 50)
        receipts = await said.receipts()
        assert standing.status()["broker"]["counts"]["parked"] > 0
        lines = written(standing)
        (successor,) = (name for name in set(lines) - before if name.startswith("heard-b-"))
        assert Counter(lines[successor]) == dict.fromkeys(receipts, 1)
        everything = Counter(line for found in lines.values() for line in found)
        assert all(everything[line] == 1 for line in receipts)


def _guild_of(fleet: Fleet, shard: int) -> Any:
    guild = next(int(g["id"]) for g in fleet.control("guilds") if g["shard"] == shard)
    return shard_node.Guild(guild)


@async_test
async def test_what_is_on_its_way_to_a_node_that_is_killed_is_handled(standing: Fleet) -> None:
    """Twice only where the dead one had no time to say so, and then the receipt tells."""
    async with shard_node.connect(standing.paths.endpoint, "flow") as flow:
        await _calm(standing, flow)
        said = Said(flow, f"flow{time.monotonic_ns()}")
        for tick in range(60):
            said.say(shard_node.Shard(tick % 4), 10)
            if tick == 30:
                standing.kill("node:b")
            await asyncio.sleep(0.01)
        receipts = await said.receipts()
        handled = Counter(line for found in written(standing).values() for line in found)
        assert [line for line in receipts if not handled[line]] == []
        twice = [line for line in receipts if handled[line] > 1]
        assert [line for line in twice if not receipts[line].rerouted] == []
        print(f"{len(receipts)} handled, {len(twice)} by the dead one too")


@async_test
async def test_the_supervisors_broker_is_killed_and_nothing_is_lost(standing: Fleet) -> None:
    async with shard_node.connect(standing.paths.endpoint, "kill") as client:
        await _calm(standing, client)
        said = Said(client, f"kill{time.monotonic_ns()}")
        back: list[float] = []
        for _ in range(3):
            await _talk(said, 0.5)
            await asyncio.to_thread(standing.kill, "broker")
            back.append(await _served(client, lambda: said.say(shard_node.Shard(1), 1)))
        await _talk(said, 0.5)
        receipts = await said.receipts()
        handled = Counter(line for found in written(standing).values() for line in found)
        assert {line: handled[line] for line in receipts} == dict.fromkeys(receipts, 1)
        print(f"{len(receipts)} messages, serving again after", [f"{s:.2f} s" for s in back])
        assert max(back) < SERVING_MAX_S


async def _talk(said: Said, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for shard in range(4):
            said.say(shard_node.Shard(shard), 2)
        await asyncio.sleep(0.01)


async def _served(client: Any, meanwhile: Callable[[], None]) -> float:
    """Seconds until a request that began after the kill is answered."""
    killed = time.monotonic()
    while time.monotonic() < killed + 10:
        meanwhile()
        try:
            await client.request(shard_node.Shard(3), "chaos.begun", timeout_s=0.2)
        except shard_node.ShardNodeError:
            continue
        return time.monotonic() - killed
    raise AssertionError("nothing was answered for 10 s")


def test_a_bystander_is_not_hurt_by_a_stopped_bot(standing: Fleet) -> None:
    """SIGSTOP of a real node, shorter than its heartbeats may be silent."""
    pid = standing.pid("node:a")
    os.kill(pid, signal.SIGSTOP)
    try:
        asyncio.run(_asked_while_stopped(standing))
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("node a", lambda: standing.status()["nodes"][0]["state"] == "up")


async def _asked_while_stopped(fleet: Fleet) -> None:
    async with shard_node.connect(fleet.paths.endpoint, "bystander") as node:
        stuck = [
            asyncio.create_task(
                node.send(shard_node.Shard(0), "chaos.message", {"stream": "still", "n": 0})
            )
            for _ in range(100)
        ]
        for _ in range(200):
            await node.request(shard_node.Shard(3), "chaos.begun", timeout_s=AT_ONCE_S)
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
