"""A real broker on a long log: it answers at once, and what memory it takes does not grow with
the log.

SHARDCTL_RECORDS=10000000 makes the log as long as it is meant to be; SHARDCTL_STATE names a
state of that length that is there already (``python -m tests.support.state_fill``).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shard_node
from shard_node.peer.connect import Client
from shard_node.shared.changes import AccountChanged
from store.check import check
from tests.support import state_fill
from tests.support.broker_rig import ROOT, Rig
from tests.support.state_fill import NAMES, anonymous_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECORDS = int(os.environ.get("SHARDCTL_RECORDS", "200000"))
READY_STATE = os.environ.get("SHARDCTL_STATE", "")
FEW = 70_000
"""More than the transactions whose ids are remembered, which is memory that has an end."""
BYTES_PER_RECORD = 700
START_MAX_S = 3.0
GROWN_MAX_BYTES = 4 << 20
TRANSFERS = 2000
MISSED = 5000
WAIT_S = 60.0


class Seen(NamedTuple):
    """What a broker took: seconds to its first answer, bytes of memory after each step."""

    start_s: float
    started: int
    transfers: int
    log: int
    restart_s: float
    caught_up: int

    def text(self) -> str:
        mib = [f"{size / (1 << 20):.1f}" for size in (self.started, self.transfers, self.log)]
        return (
            f"start {self.start_s:.2f} s, anonymous MiB {' '.join(mib)}, "
            f"again {self.restart_s:.2f} s, {self.caught_up / (1 << 20):.1f}"
        )


def fill(folder: Path, records: int) -> None:
    """In a process of its own: here the file is open."""
    words = [sys.executable, "-m", "tests.support.state_fill", str(folder), str(records)]
    subprocess.run(words, cwd=ROOT, check=True)


def start(rig: Rig) -> float:
    """Seconds from the start of the process to its answer to `status`."""
    begun = time.perf_counter()
    rig.launch()
    assert rig.status()["state"]["lsn"] > 0
    return time.perf_counter() - begun


def size(rig: Rig) -> int:
    assert rig.process is not None
    return anonymous_bytes(rig.process.pid)


async def transfers(node: Client, count: int) -> None:
    rng = random.Random(count)
    for _ in range(0, count, 100):
        pairs = [rng.sample(NAMES, 2) for _ in range(100)]
        await asyncio.gather(*(node.economy.transfer(a, b, 1) for a, b in pairs))


async def read_log(node: Client) -> None:
    """The last records, those in the middle, and some of an account and of a user, for which
    many are looked at."""
    last = await node.state.sync()
    for after in (0, last // 2, max(0, last - 5000)):
        for page in range(5):
            assert (await node.state.log(after=after + page * 1000, limit=1000)) is not None
    assert len(await node.state.log(limit=1000)) == 1000
    assert len(await node.economy.history(NAMES[0], limit=20)) == 20
    await node.state.log(filter="SetValue")


async def use(rig: Rig) -> Seen:
    """A node's work; then it misses records, and hears of what they changed."""
    start_s = start(rig)
    changed: set[str] = set()
    async with shard_node.connect(rig.endpoint, "reader") as node:
        started = size(rig)
        await transfers(node, TRANSFERS)
        after_transfers = size(rig)
        await read_log(node)
        after_log = size(rig)
        node.on(AccountChanged, lambda message: changed.add(message.body.account))
        await node.economy.transfer(NAMES[0], NAMES[1], 1)
        await until(lambda: changed == {NAMES[0], NAMES[1]}, "the first change")
        rig.terminate()
        await asyncio.to_thread(fill, rig.data / "state", MISSED)
        restart_s = await asyncio.to_thread(start, rig)
        await until(lambda: len(changed) == len(NAMES), "what was missed")
        await transfers(node, TRANSFERS)
        return Seen(start_s, started, after_transfers, after_log, restart_s, size(rig))


async def until(what: Any, name: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(0.02)
    assert what(), name


def seen_with(rig: Rig, records: int) -> Seen:
    fill(rig.data / "state", records)
    return asyncio.run(use(rig))


def wrong(few: Seen, many: Seen) -> list[str]:
    """Where the long log costs more than the short one."""
    slow = max(many.start_s, many.restart_s) >= START_MAX_S
    steps = ("started", "transfers", "log", "caught_up")
    grown = max(getattr(many, step) - getattr(few, step) for step in steps)
    found = ["it starts slowly"] if slow else []
    return [*found, "its memory grows with the log"] if grown >= GROWN_MAX_BYTES else found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Gone after the test: the files are large."""
    need = RECORDS * BYTES_PER_RECORD
    if shutil.disk_usage(tmp_path).free < need:
        pytest.skip(f"{need >> 20} MiB are needed on the disk")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What a short log costs."""
    with Rig(tmp_path_factory.mktemp("few")) as rig:
        return seen_with(rig, FEW)


def test_a_long_log_costs_neither_time_nor_memory(folder: Path, few: Seen) -> None:
    with Rig(folder) as rig:
        if READY_STATE:
            shutil.copytree(READY_STATE, rig.data / "state")
        many = seen_with(rig, 1000 if READY_STATE else RECORDS)
    told = f"{FEW} records: {few.text()}; {RECORDS}: {many.text()}"
    print(told)
    assert wrong(few, many) == [], told


PLANTED = """
from broker.ports.state import StateKeeper
opened = StateKeeper.__init__
def keeps_all(self, *words):
    opened(self, *words)
    self.all = list(self._store.entries(0, 1 << 30))
StateKeeper.__init__ = keeps_all
"""


def test_the_check_sees_a_broker_that_keeps_the_log_in_memory(folder: Path, few: Seen) -> None:
    """The planted fault."""
    with Rig(folder) as rig:
        rig.prelude = PLANTED
        assert "its memory grows with the log" in wrong(few, seen_with(rig, 2 * FEW))


def test_what_is_filled_in_is_what_a_broker_would_have_written(tmp_path: Path) -> None:
    """In one go or in several: replayed, its log gives its rows."""
    for records in (1500, 300, 2000):
        state_fill.fill(tmp_path / "data" / "state", records)
    report = check(tmp_path / "data" / "state")
    assert (report.problems, report.notes, report.records) == ([], [], 3800)
    assert report.replayed
