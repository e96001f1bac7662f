"""How many nodes a machine bears, and that the dry run says what the broker does."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.core import plan as brokers
from broker.core.settings import Settings
from shardctl import machine
from shardctl.cli.plan import Gateway, make_plan
from shardctl.launch import Bot, Record, Sandbox


def test_meminfo() -> None:
    assert machine.meminfo_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 << 20
    assert machine.meminfo_bytes("") is None


def test_the_narrowest_cgroup_counts(tmp_path: Path) -> None:
    inner = tmp_path / "system" / "bot"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "1000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("400\n")
    assert machine.cgroup_bytes("0::/system/bot\n", tmp_path) == 600
    assert machine.cgroup_bytes("0::/\n", tmp_path) is None
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("300")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("400")
    assert machine.cgroup_bytes("4:cpu,memory:/x\n", tmp_path) == 0


def test_this_machine_bears_a_node() -> None:
    assert 1 <= machine.nodes_max() <= max(1, machine.cores() - 1)


@pytest.mark.parametrize("sandbox", [None, Sandbox()])
@pytest.mark.parametrize("asked", ["auto", 1, 2, 7, 200])
@pytest.mark.parametrize("nodes_max", [1, 2, 3, 15])
def test_the_dry_run_says_what_the_broker_does(
    nodes_max: int, asked: int | str, sandbox: Sandbox | None
) -> None:
    record = Record(
        "f", "e", "d", "r", Bot("/b", "m.py"), nodes=asked, nodes_max=nodes_max, sandbox=sandbox
    )
    settings = Settings("f", "a", "b", nodes_max=nodes_max, sandbox=sandbox is not None)
    for shards in range(1, 130):
        told = make_plan(record, Gateway(shards, 1, 1000, 1000, 0.0))
        done = brokers.node_count(
            shards,
            asked=None if asked == "auto" else int(asked),
            nodes_max=settings.nodes_max,
            sandbox=settings.sandbox,
        )
        assert told.nodes == done
