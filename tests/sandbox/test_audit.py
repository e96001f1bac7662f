from __future__ import annotations

import json

import pytest

from shard_node.sandbox import witness
from shard_node.sandbox.audit import Audit
from shard_node.sandbox.interactions import Interaction

ISSUE_KEYS = [
    "interactions_sent",
    "answered_once",
    "answered_late",
    "answered_never",
    "answered_twice",
    "interactions_pending",
    "messages_sent",
    "messages_answered_once",
    "messages_answered_late",
    "messages_answered_never",
    "messages_answered_twice",
    "events_sent",
    "events_handled_once",
    "events_handled_never",
    "events_handled_twice",
    "events_out_of_order",
    "events_handled_out_of_order",
    "events_pending",
    "identifies",
    "identifies_rejected",
    "resumes",
    "resumes_failed",
    "invalid_requests",
    "rest_429",
    "guild_joins_seen",
]


def test_every_promised_key_is_there_from_the_start() -> None:
    report = Audit().report(0.0)
    assert set(ISSUE_KEYS) <= set(report)
    assert all(report[key] == 0 for key in ISSUE_KEYS)


def test_plain_counters_show() -> None:
    audit = Audit()
    audit.counters["identifies"] += 3
    audit.counters["something_else"] += 1
    report = audit.report(0.0)
    assert (report["identifies"], report["something_else"]) == (3, 1)


def test_each_planted_fault_of_an_interaction_is_seen() -> None:
    audit = Audit()
    for number in range(4):
        audit.interactions.open(Interaction(number, f"t{number}", 2, 1, 2, 3, 0.0), 0.0)
    find = audit.interactions.find
    for number, times in ((0, (1.0,)), (1, (1.0, 2.0)), (2, (3.5,))):
        for at in times:
            interaction = find(number, f"t{number}", at)
            assert interaction is not None
            audit.interactions.acknowledge(interaction, 4, at)
    report = audit.report(4.0)
    seen = [report[f"answered_{how}"] for how in ("once", "twice", "late", "never")]
    assert (report["interactions_sent"], seen) == (4, [1, 1, 1, 1])


def test_each_planted_fault_of_a_message_is_seen() -> None:
    audit = Audit()
    for number in range(4):
        audit.messages.ask(number, 0.0)
    for number, at in ((0, 1.0), (1, 1.0), (1, 1.1), (2, 9.0)):
        audit.messages.answer(number, at)
    report = audit.report(9.0)
    seen = [report[f"messages_answered_{how}"] for how in ("once", "twice", "late", "never")]
    assert (report["messages_sent"], seen) == (4, [1, 1, 1, 1])


def test_witness_faults() -> None:
    audit = Audit()
    nonces = [audit.new_nonce(5) for _ in range(3)]
    for nonce in nonces:
        audit.event_sent(nonce, 0.0)
    audit.event_started(nonces[1], 1.0)
    audit.event_started(nonces[0], 2.0)
    audit.event_started(nonces[0], 3.0)
    audit.event_started("5:77", 3.0)
    audit.event_started("garbage", 3.0)
    report = audit.report(10.0)
    assert report["events_handled_once"] == 1
    assert report["events_handled_twice"] == 1
    assert report["events_handled_never"] == 1
    assert report["events_out_of_order"] == report["events_handled_out_of_order"] == 1
    assert report["witness_unknown"] == 2


def test_direct_messages_are_guild_zero() -> None:
    assert Audit().new_nonce(None) == "0:0"


def test_reset() -> None:
    audit = Audit()
    nonce = audit.new_nonce(1)
    audit.event_sent(nonce, 0.0)
    audit.membership_seen("guild_join")
    audit.counters["resumes"] += 1
    audit.messages.ask(1, 0.0)
    audit.reset()
    audit.event_started(nonce, 0.1)
    report = audit.report(100.0)
    reports = report.pop("witness_reports")
    assert (reports, report.pop("schema"), any(report.values())) == (1, 1, False)


def test_a_join_told_again_is_the_same_join() -> None:
    audit = Audit()
    for told in (("a#1", 1.0), ("a#1", 1.0), ("b#1", 1.0), ("a#1", 2.0)):
        audit.membership_seen("guild_join", told)
    assert audit.report(0.0)["guild_joins_seen"] == 3


def test_what_the_bot_is_told_of_a_guild_it_left_is_counted_too() -> None:
    audit = Audit()
    gone = {"kind": "guild_remove", "node": "a#1", "at": 1.0}
    assert witness.take(audit, [gone, gone, gone | {"at": 2.0}]) == 3
    assert audit.report(0.0)["guild_removes_seen"] == 2


def starts(audit: Audit, guild: int, count: int) -> list[dict[str, object]]:
    nonces = [audit.new_nonce(guild) for _ in range(count)]
    for nonce in nonces:
        audit.event_sent(nonce, 0.0)
    return [
        {"nonce": nonce, "node": "a#1", "phase": "start", "at": 1.0 + number}
        for number, nonce in enumerate(nonces)
    ]


def test_numbered_reports_that_are_told_again_count_once() -> None:
    """Without the number, ends would count twice, and starts once the memory of them is full."""
    audit, told = Audit(), []
    reports = starts(audit, 5, 4)
    for first, some in ((0, reports[:3]), (0, reports[:1]), (2, reports[2:]), (0, reports)):
        batch = [{"kind": "from", "source": "a#1@9", "first": first}, *some]
        answer = witness.taken_from(audit, json.dumps(batch))
        assert answer is not None
        told.append(answer["told"])
    assert told == [3, 3, 4, 4]
    report = audit.report(0.0)
    assert (report["events_handled_once"], report["witness_reports"]) == (4, 4)
    assert (report["witness_retold"], report["witness_malformed"]) == (6, 0)


@pytest.mark.parametrize("head", [{"source": 1}, {"source": "a" * 129}, {"first": -1}, {}])
def test_a_head_that_names_no_source_is_malformed(head: dict[str, object]) -> None:
    audit = Audit()
    batch = [{"kind": "from", "first": 0} | head, *starts(audit, 5, 1)]
    assert witness.taken_from(audit, json.dumps(batch)) is None
    report = audit.report(0.0)
    assert (report["witness_malformed"], report["events_handled_once"]) == (1, 1)


def test_what_was_never_handled_or_answered_is_named() -> None:
    audit = Audit()
    reports = starts(audit, 5, 3)
    witness.take(audit, reports[:1])
    for number in range(3):
        audit.interactions.open(Interaction(number, f"t{number}", 2, 1, 2, 3, 0.0), 0.0)
    late = audit.interactions.find(1, "t1", 3.5)
    assert late is not None
    audit.interactions.acknowledge(late, 4, 3.5)
    assert audit.named(1.0)["events_never"] == []
    found = audit.named(10.0)
    assert found["events_never"] == ["5:1", "5:2"]
    assert (found["interactions_never"], found["interactions_late"]) == (["0", "2"], ["1"])
    assert audit.events.never(10.0, 1) == ["5:1"]


def test_a_witness_that_lost_reports_shows() -> None:
    audit = Audit()
    lost = {"kind": "dropped", "node": "a#1"}
    assert witness.take(audit, [lost | {"count": 7}, lost | {"count": "x"}, lost]) == 1
    assert audit.report(0.0)["witness_dropped"] == 7
