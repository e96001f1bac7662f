"""Changes that are lost on real sockets are noticed within about a second, and told once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import shard_node
from shard_node import sync
from shard_node.peer.connect import Client
from shard_node.wire.topics import STATE_COMMITTED, STATE_UPDATE
from tests.peer.nodes import until
from tests.support.aio import async_test
from tests.support.broker_rig import Rig

pytestmark = pytest.mark.slow

GUILD = 81384788765712384
NOTICED_MAX_S = 2.5
"""A heartbeat, and what a busy machine adds to it."""


class MyConfig(msgspec.Struct):
    number: int = 0
    other: int = 0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        rig.launch()
        rig.hear("serving")
        yield rig


class Listener:
    """A client that hears of configurations, and loses frames of these topics when told to."""

    def __init__(self, rig: Rig, *, reads: bool = True) -> None:
        self.client = Client(rig.endpoint, "two", rig.data / "state" if reads else None)
        self.heard: list[Any] = []
        self.losing: tuple[str, ...] = ()
        self.lost = 0
        self.client.on(shard_node.GuildConfigChanged, lambda m: self.heard.append(m.body))
        take = self.client._state_event

        def state_event(head: Any, body: bytes) -> bool:
            if head.topic in self.losing:
                self.lost += 1
                return True
            return take(head, body)

        self.client._state_event = state_event  # type: ignore[method-assign]

    def check(self) -> None:
        """Each version of each guild follows the one before it."""
        version: dict[int, int] = {}
        for change in self.heard:
            assert change.old_version == version.get(change.guild, 0)
            assert change.new_version > change.old_version
            version[change.guild] = change.new_version


@asynccontextmanager
async def both(rig: Rig, *, reads: bool = True) -> AsyncIterator[tuple[Client, Listener]]:
    one, two = Client(rig.endpoint, "one", rig.data / "state"), Listener(rig, reads=reads)
    await one.open()
    await two.client.open()
    try:
        await two.client.state.sync()
        await until(lambda: two.client._fleet_state._intake.known)
        yield one, two
    finally:
        one.close()
        two.client.close()


@pytest.mark.parametrize("reads", [True, False], ids=["file", "copy"])
@async_test
async def test_a_lost_change_is_seen_at_the_next_one(rig: Rig, reads: bool) -> None:
    async with both(rig, reads=reads) as (one, two):
        cfg = one.guild_config(GUILD, MyConfig)
        await cfg.update(number=1)
        await until(lambda: len(two.heard) == 1)
        two.losing = (STATE_UPDATE, STATE_COMMITTED)
        await cfg.update(other=5)
        await until(lambda: two.lost >= 2)
        two.losing = ()
        began = time.monotonic()
        await cfg.update(number=2)
        await until(lambda: two.heard[-1].new_version == 3)
        assert time.monotonic() - began < 0.5
        assert two.heard[-1].changed == {"number": 2, "other": 5}
        two.check()
        await two.client.state.sync()
        assert two.client.guild_config(GUILD, MyConfig).get() == MyConfig(2, 5)


@pytest.mark.parametrize("topics", [(STATE_UPDATE,), (STATE_UPDATE, STATE_COMMITTED)])
@async_test
async def test_a_lost_last_change_is_seen_by_itself(rig: Rig, topics: tuple[str, ...]) -> None:
    async with both(rig) as (one, two):
        cfg = one.guild_config(GUILD, MyConfig)
        await cfg.update(number=1)
        await until(lambda: len(two.heard) == 1)
        two.losing = topics
        began = time.monotonic()
        await cfg.update(number=2)
        await until(lambda: len(two.heard) == 2)
        took_s = time.monotonic() - began
        assert took_s < (NOTICED_MAX_S if STATE_COMMITTED in topics else 0.5)
        assert two.lost
        two.losing = ()
        await cfg.update(number=3)
        await until(lambda: len(two.heard) == 3)
        two.check()


@async_test
async def test_a_process_that_stood_still_lost_what_did_not_fit(rig: Rig) -> None:
    """The broker really drops: the receiver reads nothing while 12,000 changes come."""
    async with both(rig) as (_, two):
        frames = two.client._fleet_state._intake.number

        def write() -> None:
            with sync.connect(endpoint=rig.endpoint) as writer:
                for block in range(60):
                    with writer.transaction() as tx:
                        for guild in range(1, 201):
                            tx.guild_config(guild, MyConfig).update(number=block + 1)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()  # the loop stands still meanwhile, on purpose
        await until(
            lambda: (
                {c.guild: c.changed["number"] for c in two.heard}
                == dict.fromkeys(range(1, 201), 60)
            ),
            20,
        )
        await asyncio.sleep(0.1)
        assert two.client._fleet_state._intake.number == frames + 12_000
        assert two.client._fleet_state._intake.gaps >= 1
        assert len(two.heard) < 12_000
        two.check()


@async_test
async def test_a_broker_that_stood_still_loses_nothing(rig: Rig) -> None:
    async with both(rig) as (one, two):
        assert rig.process is not None
        cfg = one.guild_config(GUILD, MyConfig)
        await cfg.update(number=1)
        os.kill(rig.process.pid, signal.SIGSTOP)
        try:
            pending = [asyncio.ensure_future(cfg.update(number=n)) for n in range(2, 50)]
            await asyncio.sleep(0.3)
        finally:
            os.kill(rig.process.pid, signal.SIGCONT)
        await asyncio.gather(*pending)
        await until(lambda: two.heard and two.heard[-1].new_version == 49)
        two.check()
