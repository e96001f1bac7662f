"""Gaps between the processes of a shard, from reports in any order."""

from __future__ import annotations

import random

import pytest

from shard_node.sandbox import handovers as module
from shard_node.sandbox.audit import Audit
from shard_node.sandbox.handovers import HandoverCounts, Handovers, Sources

ONE_SHARD = [
    *((at / 10, "a#1") for at in range(10, 20)),
    *((at / 10, "a#2") for at in range(23, 30)),
    *((at / 10, "b#1") for at in range(30, 35)),
]


@pytest.mark.parametrize("seed", range(30))
def test_the_order_of_the_reports_changes_nothing(seed: int) -> None:
    told = ONE_SHARD * 2
    random.Random(seed).shuffle(told)
    handovers = Handovers()
    for at, who in told:
        handovers.started(4, who, at)
    assert [round(gap) for gap in handovers.gaps_ms(4)] == [400, 100]
    assert handovers.counts() == HandoverCounts(2, 250.0, 400.0)


def test_shards_do_not_mix() -> None:
    handovers = Handovers()
    for shard in range(3):
        handovers.started(shard, "a#1", 1.0)
        handovers.started(shard, "a#2", 2.0 + shard)
    assert handovers.counts() == HandoverCounts(3, 2000.0, 3000.0)


def test_a_process_that_gets_its_shard_back_is_a_handover() -> None:
    handovers = Handovers()
    for at, who in ((1.0, "a#1"), (2.0, "a#2"), (3.0, "a#1")):
        handovers.started(0, who, at)
    assert handovers.counts().count == 2


def test_two_that_handle_at_once_have_no_gap() -> None:
    handovers = Handovers()
    for at, who in ((1.0, "a#1"), (2.0, "a#1"), (1.5, "a#2")):
        handovers.started(0, who, at)
    assert handovers.counts().count == 2
    assert [run.who for run in handovers.runs()[0]] == ["a#1", "a#2", "a#1"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS_MAX", 3)
    monkeypatch.setattr(module, "SHARDS_MAX", 2)
    monkeypatch.setattr(module, "SOURCES_MAX", 2)
    handovers, sources = Handovers(), Sources()
    for shard in range(3):
        for number in range(9):
            handovers.started(shard, f"a#{number}", float(number))
    assert {len(runs) for runs in handovers.runs().values()} == {3}
    assert len(handovers.runs()) == 2
    assert all(sources.take(name, 0) for name in "abc")
    assert (sources.told("a"), sources.told("c")) == (0, 1)


def test_the_audit_knows_the_shard_and_a_reset_keeps_who_handles_it() -> None:
    audit = Audit()
    audit.shard_of = lambda guild: guild % 2

    def started(guild: int, who: str, at: float) -> None:
        nonce = audit.new_nonce(guild)
        audit.event_sent(nonce, 0.0)
        audit.event_started(nonce, at, who)

    for guild, who, at in ((2, "a#1", 1.0), (3, "b#1", 1.1), (2, "a#2", 1.5), (3, "b#1", 1.6)):
        started(guild, who, at)
    report = audit.report(2.0)
    assert (report["handovers"], report["handover_max_ms"]) == (1, 500)
    audit.reset()
    assert audit.report(2.0)["handovers"] == 0
    started(3, "b#2", 2.0)
    report = audit.report(2.0)
    assert (report["handovers"], report["handover_median_ms"]) == (1, 400)
