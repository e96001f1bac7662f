"""How many nodes a machine bears, and what the dry run makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shard_node.wire import memory
from shardctl import machine
from shardctl.cli.plan import Gateway, make_plan
from shardctl.launch import Bot, Record, Sandbox


def test_meminfo() -> None:
    assert memory.meminfo_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 << 20
    assert memory.meminfo_bytes("") is None


def test_the_narrowest_cgroup_counts(tmp_path: Path) -> None:
    inner = tmp_path / "system" / "bot"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("400\n")
    assert memory.cgroup_bytes("0::/system/bot\n", tmp_path) == 600
    assert memory.cgroup_bytes("0::/\n", tmp_path) is None
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("300")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("400")
    assert memory.cgroup_bytes("4:cpu,memory:/x\n", tmp_path) == 0


def test_this_machine_bears_a_node() -> None:
    assert 1 <= machine.nodes_max() <= max(1, machine.cores() - 1)


@pytest.mark.parametrize(
    ("sandbox", "asked", "nodes"), [(None, "auto", 3), (None, 7, 7), (Sandbox(), "auto", 2)]
)
def test_the_dry_run_counts_nodes_by_the_record(
    sandbox: Sandbox | None, asked: int | str, nodes: int
) -> None:
    record = Record(
        "f", "e", "d", "r", Bot("/b", "m.py"), nodes=asked, nodes_max=3, sandbox=sandbox
    )
    assert make_plan(record, Gateway(64, 1, 1000, 1000, 0.0)).nodes == nodes
