"""Records: their bytes, the chain, and payloads that can be erased from it."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from shard_node.state.economy import Deposit, Transfer
from shard_node.state.log import GENESIS, Entry, erased, fault, read_entry, write_entry
from tests.support.state import START_MS, World

GOLDEN_BODY = (
    "9593a161cf011d76e8b6401000a57072697a659194a76465706f736974a6757365723a3164a7646"
    "5706f736974929302a6757365723a31d09c9403a6736f75726365a76465706f736974d09c009181"
    "a762616c616e636564"
)
GOLDEN_DIGEST = "18ef4e04892f30bf6d5c8ef119e361cbf137e641335967905496785d8d0cdced"


def chain_fault(entries: list[Entry]) -> str:
    previous = GENESIS
    for entry in entries:
        found = fault(entry, previous)
        if found:
            return found
        previous = entry.digest
    return ""


@pytest.fixture
def world() -> World:
    world = World()
    world.do(Deposit("user:1", 100), user=80351110224678912, reason="prize")
    world.do(Transfer("user:1", "user:2", 30))
    world.do(Transfer("user:2", "user:1", 10))
    return world


def test_a_record_has_the_bytes_that_stores_out_there_have(world: World) -> None:
    entry = world.log()[0]
    assert entry.body is not None
    assert entry.body.hex() == GOLDEN_BODY
    assert entry.digest.hex() == GOLDEN_DIGEST
    header = (1, START_MS, entry.op_id, ("Deposit",), entry.payload_hash, GENESIS, 100)
    assert entry.digest == hashlib.sha256(msgspec.msgpack.encode(header)).digest()
    assert entry.payload_hash == hashlib.sha256(entry.salt + entry.body).digest()


def test_a_record_is_read_as_it_was_written(world: World) -> None:
    for entry in world.log():
        assert read_entry(write_entry(entry)) == entry
        assert write_entry(read_entry(write_entry(entry))) == write_entry(entry)


def test_the_chain_is_whole_with_erased_payloads_too(world: World) -> None:
    entries = world.log()
    assert chain_fault(entries) == ""
    for place in range(len(entries)):
        entries[place] = erased(entries[place])
        assert chain_fault(entries) == ""
        assert entries[place].payload() is None
        assert entries[place].salt == b""


@pytest.mark.parametrize(
    "change",
    [
        {"lsn": 7},
        {"at_ms": 7},
        {"op_id": bytes(16)},
        {"kinds": ("Deposit",)},
        {"payload_hash": bytes(32)},
        {"digest": bytes(32)},
        {"salt": bytes(16)},
        {"body": b"\x94"},
        {"minted": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_value_in_a_record_is_found(world: World, change: dict) -> None:
    entries = world.log()
    entries[1] = msgspec.structs.replace(entries[1], **change)
    assert chain_fault(entries) != ""


def test_a_record_that_was_left_out_swapped_or_doubled_is_found(world: World) -> None:
    one, two, three = world.log()
    for entries in ([one, three], [one, three, two], [one, two, two, three], [two, three]):
        assert chain_fault(entries) != ""


def test_each_bit_of_a_record_counts(world: World) -> None:
    entries = world.log()
    good = write_entry(entries[1])
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            entries[1] = read_entry(bytes(bad))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        assert chain_fault(entries) != "", f"bit {bit}"
