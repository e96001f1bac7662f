"""A broker that is started on a full disk: what was confirmed lies in its journal, is there for
all that ask it, and comes into the file by itself when there is room."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shard_node import sync
from shard_node.shared.changes import GuildConfigChanged
from shard_node.shared.reader import Reader
from shard_node.state.errors import StoreFull
from store.check import check
from store.state import settle_at_rest
from tests.support.broker_rig import Rig
from tests.support.mounts import mounted
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DISK_MIB = 48
WRITES = 40
WAIT_S = 30.0
HOLDS = """
from store.errors import StoreFull
from store.state import StateStore
commit = StateStore.commit
def refusing(self, batches, frames=None):
    if frames is not None and frames.last > 2:
        raise StoreFull("planted: no room")
    return commit(self, batches, frames)
StateStore.commit = refusing
"""
"""The file takes nothing but the first words, so that a known number lies in the journal."""
DROPS = """
from store.state import StateStore
opened = StateStore.open.__func__
def dropping(cls, *words, **how):
    store = opened(cls, *words, **how)
    store.left.clear()
    return store
StateStore.open = classmethod(dropping)
"""


@contextmanager
def full(tmp_path: Path) -> Iterator[tuple[Rig, Path]]:
    """A broker was killed that confirmed WRITES changes, most of them in the journal alone; now
    its disk has no room."""
    where = tmp_path / "disk"
    with (
        mounted(where, "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs") as disk,
        Rig(disk) as rig,
    ):
        rig.prelude = HOLDS
        rig.launch()
        rig.hear("serving")
        with sync.connect(rig.endpoint, "first") as node:
            for number in range(WRITES):
                write(node, number)
        rig.kill()
        rig.prelude = ""
        fill(disk)
        yield rig, disk / "ballast"


def write(node: sync.SyncClient, number: int) -> None:
    with node.transaction() as tx:
        tx.economy.deposit("bank", 1)
        tx.guild_config(number + 1).update(text="x" * 3000, number=number)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("ab") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()


def again(rig: Rig) -> None:
    rig.launch()
    rig.hear("serving")


def file_lsn(rig: Rig) -> int:
    """Up to where the file is, as a node reads it."""
    reader = Reader(rig.data / "state")
    try:
        return reader.mark().lsn
    finally:
        reader.close()


def sees_all(rig: Rig, node: sync.SyncClient) -> None:
    """What the broker has, and that the file has less."""
    assert node.economy.fetch("bank") == WRITES
    assert node.guild_config(WRITES).fetch()["number"] == WRITES - 1
    assert len(node.state.log(limit=1000)) == WRITES
    assert 0 < file_lsn(rig) < WRITES


def test_it_starts_serves_what_is_in_the_journal_and_settles_it_when_there_is_room(
    tmp_path: Path,
) -> None:
    with full(tmp_path) as (rig, ballast):
        for _ in range(3):  # a kill in this condition, and a start again
            again(rig)
            with sync.connect(rig.endpoint, "one") as node:
                sees_all(rig, node)
                with pytest.raises(StoreFull) as caught:
                    write(node, 0)
                assert (caught.value.code, caught.value.retryable) == ("E_STORE_FULL", True)
                sees_all(rig, node)
            assert "takes nothing for now" in str(rig.status()["warnings"])
            rig.kill()
        again(rig)
        changed: dict[int, int] = {}
        with sync.connect(rig.endpoint, "two") as node:
            node.on(GuildConfigChanged, lambda message: changed.update({message.body.guild: 1}))
            sees_all(rig, node)
            ballast.unlink()
            wait_for("the file", lambda: file_lsn(rig) == WRITES, WAIT_S)
            node.state.sync()
            write(node, WRITES)
            assert node.economy.fetch("bank") == WRITES + 1
            assert len(node.state.log(limit=1000)) == WRITES + 1
            wait_for("what changed", lambda: WRITES in changed, WAIT_S)
        rig.kill()
        settle_at_rest(rig.data / "state")
        report = check(rig.data / "state")
        assert (report.problems, report.replayed, report.mark.lsn) == ([], True, WRITES + 1)


def test_a_start_that_forgets_what_the_journal_has_is_seen(tmp_path: Path) -> None:
    """The planted fault."""
    with full(tmp_path) as (rig, _):
        rig.prelude = DROPS
        again(rig)
        with sync.connect(rig.endpoint, "one") as node, pytest.raises(AssertionError):
            sees_all(rig, node)
