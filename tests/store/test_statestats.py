"""Sizes, partitions, readers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shard_node.state.keys import PARTITIONS
from store.statestats import Readers, partition_stats, sizes
from tests.support.state_store import opened

READER = """
import sys, lmdb
env = lmdb.open(sys.argv[1], readonly=True, max_dbs=3, lib_version=0)
txn = env.begin()
print(txn.id(), flush=True)
sys.stdin.read()
"""


def test_sizes_are_those_of_the_model(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(200)
        found = sizes(rig.store)
        assert found.databases["rows"].entries == len(rig.model.view.rows)
        assert found.databases["log"].entries == 200
        assert (found.first, found.last) == (1, 200)
        assert 0 < found.used_bytes <= found.file_bytes <= found.map_bytes
        assert found.file_bytes == (tmp_path / "state" / "data.mdb").stat().st_size


def test_partitions_add_up(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(200)
        every = [partition_stats(rig.store.view, number) for number in range(PARTITIONS)]
        rows = rig.model.view.rows
        assert sum(one.rows for one in every) == len(rows)
        assert sum(one.bytes for one in every) == sum(len(k) + len(v) for k, v in rows.items())
        assert sum(one.tables.get("account", 0) for one in every) == 6
        assert all(sum(one.tables.values()) == one.rows for one in every)
        with pytest.raises(ValueError, match="0 to 255"):
            partition_stats(rig.store.view, -1)


@pytest.mark.slow
def test_an_old_reader_is_seen_and_a_dead_one_cleared(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(10)
        readers = Readers()
        assert {one.pid for one in readers.observe(rig.store, 1.0)} == {os.getpid()}
        child = subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdin is not None
        try:
            assert child.stdout.readline()
            (first,) = (one for one in readers.observe(rig.store, 5.0) if one.pid != os.getpid())
            assert (first.pid, first.since_s, first.behind) == (child.pid, 5.0, 0)
            rig.fill(rig.model.place.lsn + 6)
            (mine,) = (one for one in readers.observe(rig.store, 9.0) if one.pid != os.getpid())
            assert (mine.pid, mine.since_s) == (child.pid, 5.0)
            assert mine.behind > 0
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
        assert [one for one in readers.observe(rig.store, 13.0) if one.pid != os.getpid()] == []
