"""Records go to bytes and back, each under a key of its own."""

from __future__ import annotations

import pytest

from store.records import (
    TABLES,
    CommandsRecord,
    Durable,
    EpochRecord,
    FleetReadyRecord,
    Forget,
    GuildRecord,
    LeaseRecord,
    LedgerRecord,
    OperationRecord,
    PermitRecord,
    PlanNode,
    PlanRecord,
    Record,
    StepRecord,
    collect,
    key_of,
    read_record,
    value_of,
)

SAMPLES: tuple[Record, ...] = (
    EpochRecord("a", 7, 2),
    PlanRecord(4, (PlanNode("a", 0, (0, 1)), PlanNode("b", 1, (2, 3)))),
    LedgerRecord(
        "app", "boot", 1000, 990, 5.5, 2, 12, {0: 1.25}, (PermitRecord(11, 3, "b", 2, 9.0),)
    ),
    CommandsRecord("app", "digest"),
    LeaseRecord("daily", "a", 7, 99.0, "boot"),
    OperationRecord(
        "op-3", "respawn", "running", {}, (StepRecord("a", (0, 1), "running", 5, 6),), 3, 9, "boot"
    ),
    GuildRecord(7, 3, "c", -1, "c#9", "operator", 5, 1),
    FleetReadyRecord("boot-7"),
)


@pytest.mark.parametrize("record", SAMPLES, ids=lambda r: type(r).__name__)
def test_a_record_comes_back(record: Record) -> None:
    assert read_record(key_of(record), value_of(record)) == record


def test_every_table_has_a_sample() -> None:
    assert {type(record) for record in SAMPLES} == TABLES.keys()


def test_no_key_is_the_beginning_of_another_table() -> None:
    prefixes = [table.prefix for table in TABLES.values()]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]


def test_collect_puts_each_in_its_place() -> None:
    durable = Durable()
    for record in SAMPLES:
        collect(durable, record)
    assert durable.epochs["a"].epoch == 7
    assert durable.plan == SAMPLES[1]
    assert durable.ledger == SAMPLES[2]
    assert durable.digests == {"app": "digest"}
    assert durable.leases["daily"].node == "a"
    assert durable.operations == {"op-3": SAMPLES[5]}
    assert durable.fleet_ready == "boot-7"


def test_a_strange_key_is_not_ours_and_a_strange_value_is_refused() -> None:
    assert read_record(b"other", b"\xc0") is None
    with pytest.raises(ValueError, match="Expected"):
        read_record(b"epoch/a", b"\xc0")


def test_forget_has_the_key_of_the_record() -> None:
    assert key_of(Forget(LeaseRecord, "daily")) == key_of(SAMPLES[4])


def test_an_unknown_type_has_no_place() -> None:
    class Planted(Record, frozen=True):
        x: int

    with pytest.raises(KeyError):
        key_of(Planted(1))
    with pytest.raises(TypeError):
        collect(Durable(), Planted(1))
