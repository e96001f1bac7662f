"""The audit for people: the verdict first, all of it within 80x24."""

from __future__ import annotations

from typing import Any

import pytest

from shard_node.sandbox.audit import Audit
from shardctl.cli.sandbox_audit import audit_lines, verdict


def report(**counts: int) -> dict[str, Any]:
    return {**Audit().report(0.0), **counts}


def test_it_fits_a_small_terminal() -> None:
    huge = dict.fromkeys(report(), 1_000_000)
    lines = audit_lines(huge)
    assert len(lines) <= 23
    assert all(len(line) <= 80 for line in lines)


def test_every_counter_is_shown() -> None:
    names = [name for name in report() if name not in ("schema", "events_handled_out_of_order")]
    for number, name in enumerate(names, 7_000):
        assert str(number) in "\n".join(audit_lines(report(**{name: number}))), name
    assert "other: troubles 3" in audit_lines(report(troubles=3))


def test_what_unwanted_means_is_said() -> None:
    assert "no session has the intent" in "\n".join(audit_lines(report(events_unwanted=2)))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "nothing was sent yet"),
        ({"interactions_sent": 500, "answered_once": 500}, "all once: 500 interactions"),
        (
            {"events_sent": 2, "events_handled_once": 1, "events_pending": 1},
            "all once so far, 1 still pending: 2 events",
        ),
        (
            {"interactions_sent": 3, "answered_never": 1, "events_handled_twice": 2},
            "NOT all once: 1 interaction answered never, 2 events handled twice",
        ),
        ({"messages_answered_late": 1}, "NOT all once: 1 message answered late"),
        ({"events_out_of_order": 1}, "NOT all once: 1 event out of order"),
        ({"identifies_rejected": 4}, "NOT all once: 4 IDENTIFY rejected"),
    ],
)
def test_the_verdict(counts: dict[str, int], said: str) -> None:
    assert verdict(report(**counts)) == said
