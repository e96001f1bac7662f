"""Processes and connections that hang or go deaf, in a whole fleet: noticed, counted, replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

HANG_S = 3.0
KILLED_WITHIN_S = 1.5
"""Of the hang time being over, on a machine with other work."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        (made.bot_folder / "shardctl.toml").write_text(f"[lifecycle]\nhang_s = {HANG_S:g}\n")
        made.start(shards=4, nodes=2)
        made.wait_ready()
        yield made


def counts(fleet: Fleet) -> dict[str, int]:
    found: dict[str, int] = fleet.status()["broker"]["counts"]
    return found


def test_a_stopped_process_is_killed_at_its_hang_time_and_replaced(fleet: Fleet) -> None:
    before = fleet.status()["nodes"]
    pid = before[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    since = time.monotonic()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for("its end", gone, HANG_S + 10)
    took_s = time.monotonic() - since
    # Its last beat was up to 1 s before it was stopped.
    assert HANG_S - 1.2 <= took_s <= HANG_S + KILLED_WITHIN_S

    def back() -> dict[str, Any] | None:
        node: dict[str, Any] = fleet.status()["nodes"][0]
        return node if node["epoch"] > before[0]["epoch"] and node["state"] == "up" else None

    wait_for("another process", back, 30)
    fleet.wait_ready()
    assert counts(fleet)["shard_hung"] == 2
    assert f"node a is killed: hangs: silent for {HANG_S:g} s" in fleet.logs()
    assert fleet.status()["nodes"][1]["pid"] == before[1]["pid"]


@pytest.mark.skipif(not os.environ.get("SHARDCTL_HEARING"), reason="runs in make soak")
def test_a_deaf_shard_is_named_counted_and_cured_within_30_s(fleet: Fleet) -> None:
    fleet.load(0, 90, events_per_s=40)
    time.sleep(12)  # what is learned is a rate, over real time
    identifies = fleet.audit()["identifies"]
    fleet.control("trouble", {"kind": "deaf", "shard": 2, "sticky": True})
    since = time.monotonic()
    wait_for("it to be named", lambda: "shard 2 of node b is deaf" in fleet.logs(), 25)
    wait_for("its IDENTIFY", lambda: fleet.audit()["identifies"] == identifies + 1, 30)
    assert time.monotonic() - since < 30
    fleet.wait_ready()
    assert counts(fleet)["shard_deaf"] == 2
    assert fleet.audit()["resumes"] == 1
