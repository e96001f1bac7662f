"""Whole fleets in virtual time, broker and nodes with their real shells: seeds, and proof that
each checker can fail (tests.support.plane_sim).

SHARDCTL_SEEDS=2000 plays more of them. The planted faults are all found within PLANT_SEEDS.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane_sim import plants
from tests.support.plane_sim.scenario import Failed, Fleet, played

SEEDS = int(os.environ.get("SHARDCTL_SEEDS", "300"))
GROUP = 100
LARGE = max(1, SEEDS // 600)
PLANT_SEEDS = 60
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("group", range(SEEDS // GROUP))
def test_seeds_of_small_fleets(group: int) -> None:
    """Half of them with limits that are soon reached."""
    with played(tight=group % 2 == 1) as play:
        for seed in range(group * GROUP, (group + 1) * GROUP):
            play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(LARGE))
def test_seeds_of_a_large_fleet(seed: int) -> None:
    """10,000 shards on 500 nodes."""
    with played() as play:
        fleet = play(seed, large=True)
    assert len(fleet.names) == 500
    assert fleet.book.counts["message: delivered"] > 1000


def test_a_seed_is_the_same_each_time() -> None:
    """Within a process, whatever was played before, and in another one with other hashes."""
    with played() as play:
        prints = [play(seed).world.digest for seed in (3, 4, 3)]
    assert prints[0] == prints[2] != prints[1]
    replay = subprocess.run(
        [sys.executable, "-m", "tests.support.plane_sim.replay", "3"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{prints[0] & (1 << 64) - 1:016x}" in replay.stdout


def test_the_faults_are_really_met() -> None:
    """What is checked has happened: resends, doubles, other owners, full queues, errors."""
    seen: dict[str, int] = {}
    for tight in (False, True):
        with played(tight=tight) as play:
            for seed in range(2, 62, 4):
                fleet = play(seed)
                counts = {**fleet.book.counts, **fleet.watch.counts}
                for name, count in counts.items():
                    seen[name] = seen.get(name, 0) + count
    wanted = ("resent", "bounced", "message: delivered", "request: answered",
              "message: RemoteError E_REMOTE", "message: NoHandler E_NO_HANDLER",
              "message: Undeliverable E_EXPIRED", "request: RequestTimeout E_TIMEOUT",
              "message: QueueFull E_QUEUE_FULL")  # fmt: skip
    assert [name for name in wanted if not seen.get(name)] == []


@pytest.mark.parametrize(("plant", "tight", "text"), plants.ON_THE_WIRE)
def test_a_fault_on_the_wire_is_found(
    plant: Callable[[Fleet], None], tight: bool, text: str
) -> None:
    assert text in first_fault(tight, text, plant)


@pytest.mark.parametrize(("place", "name", "value", "tight", "text"), plants.IN_THE_CODE)
def test_a_fault_in_the_code_is_found(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, value: Any, tight: bool, text: str
) -> None:
    monkeypatch.setattr(place, name, value)
    assert text in first_fault(tight, text, None)


def test_a_failing_seed_says_how_to_see_it_again() -> None:
    plant, tight, text = plants.ON_THE_WIRE[0]
    found = first_fault(tight, text, plant)
    lines = found.splitlines()
    assert lines[0].startswith("seed ")
    assert "FAULT" in found
    assert lines[-1].startswith("replay: python -m tests.support.plane_sim.replay ")


def first_fault(tight: bool, text: str, plant: Callable[[Fleet], None] | None) -> str:
    """The words of the first seed that fails for this reason; a seed may fail for another
    one that the same fault has, and may not come to it at all."""
    with played(tight=tight) as play:
        for seed in range(PLANT_SEEDS):
            try:
                play(seed, plant=plant)
            except Failed as failed:
                if any(text in fault for fault in failed.faults):
                    return str(failed)
    return ""
