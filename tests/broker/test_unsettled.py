"""What is durable and not in the state's file yet: seen by the broker and by who wrote it."""

from __future__ import annotations

import random

import msgspec

from broker.core.events import StateCommitted, StateSettled
from broker.core.stateport import ERASED, MemoryPort
from broker.core.unsettled import Unsettled
from shard_node.state.economy import Account, Deposit
from shard_node.state.keys import Table, key_of
from shard_node.state.log import Entry
from shard_node.state.machine import MemoryState
from shard_node.state.rows import read
from shard_node.state.tx import Tx
from shard_node.state.values import DeleteValue, SetValue
from shard_node.wire import topics
from shard_node.wire.state import StateDone, StateLog, StateMark, StateRead
from tests.support.state_world import A, B, StateWorld

KEY = key_of(Table.ACCOUNT, "a")


def balance(row: bytes | None) -> int:
    account = read(Account, row)
    return -1 if account is None else account.balance


def test_it_is_the_model_whatever_is_settled_so_far() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        model, port = MemoryState(), MemoryPort()
        unsettled, waiting, token = Unsettled(port), list[tuple[int, dict, list[Entry]]](), 0
        for _ in range(30):
            if rng.random() < 0.6:
                token += 1
                writes: dict[bytes, bytes | None] = {}
                entries: list[Entry] = []
                for _ in range(rng.randrange(1, 4)):
                    name = f"n{rng.randrange(5)}"
                    there = model.view.get(key_of(Table.VALUE, name)) is not None
                    made = (
                        DeleteValue(name)
                        if there and rng.random() < 0.5
                        else SetValue(name, rng.random())
                    )
                    tx = Tx(rng.randbytes(16), rng.randbytes(16), (made,))
                    applied = model.submit(tx, 0)
                    assert applied.entry is not None
                    writes |= applied.writes
                    entries.append(applied.entry)
                unsettled.add(token, writes, entries, model.place)
                waiting.append((token, writes, entries))
            elif waiting:
                upto = rng.randrange(1, len(waiting) + 1)
                for _, writes, entries in waiting[:upto]:
                    port.commit(writes, entries)
                unsettled.settle(waiting[upto - 1][0])
                del waiting[:upto]
            assert unsettled.place() == model.place
            assert dict(unsettled.scan(b"")) == model.view.rows
            assert all(unsettled.get(key) == row for key, row in model.view.rows.items())
            every = list(model.entries.values())
            after, limit = rng.randrange(len(every) + 1), rng.randrange(40)
            assert list(unsettled.entries(after, limit)) == every[after : after + limit]
            assert unsettled.op_ids(after, 99) == [
                (entry.op_id, entry.at_ms) for entry in every[after:]
            ]
            assert [unsettled.entry(entry.lsn) for entry in every] == every
        unsettled.settle(token)
        assert not unsettled._rows or waiting


def test_the_broker_and_the_writer_see_it_others_are_told_once_the_file_shows_it() -> None:
    world = StateWorld()
    world.subscribe(B, topics.STATE_UPDATE, topics.STATE_COMMITTED)
    number = world.send(
        A, topics.STATE_DO, topics.TOPICS[topics.STATE_DO].body((world.tx(Deposit("a", 5)),), True)
    )
    keep = world.durable()
    answer = world.answer(number)
    assert isinstance(answer, StateDone)
    row = msgspec.msgpack.decode(answer.outcomes[0].rows)[KEY]
    assert balance(row) == 5
    assert balance(world.ask(topics.STATE_READ, StateRead((KEY,))).rows[0]) == 5
    assert len(world.ask(topics.STATE_LOG, StateLog(0, 10)).entries) == 1
    assert world.ask(topics.STATE_MARK, StateMark()).lsn == 0
    waits, all_of_it = (world.send(A, topics.STATE_MARK, StateMark(lsn)) for lsn in (1, -1))
    world.tick(1.0)
    assert world.answer(waits) is world.answer(all_of_it) is None
    assert not world.events(topics.STATE_UPDATE) + world.events(topics.STATE_COMMITTED)
    world.settle(keep)
    assert world.answer(waits).lsn == world.answer(all_of_it).lsn == 1
    assert world.events(topics.STATE_UPDATE, B)
    assert world.events(topics.STATE_COMMITTED, B)[-1].lsn == 1


def test_the_word_of_the_file_may_come_first() -> None:
    world = StateWorld()
    number = world.send(A, topics.STATE_MARK, StateMark(1))
    world.outcome(Deposit("a", 5))
    keep = world.keeps.popleft()
    world.port.commit(keep.writes, keep.entries)
    world.give(StateSettled(keep.token))
    assert world.answer(number) is None
    world.give(StateCommitted(keep.token))
    assert world.shared.unsettled == 0
    assert world.answer(number).lsn == 1
    assert world.shared.shown.lsn == 1


def test_what_fails_beside_the_journal_fails_nobody() -> None:
    """An erasing that the file does not take."""
    world = StateWorld()
    number = world.do(world.tx(Deposit("a", 5)))
    world.give(StateCommitted(ERASED, "E_STORE_FULL", "no room"))
    assert world.answer(number) is None
    world.commit()
    assert isinstance(world.answer(number), StateDone)
    assert world.outcome(Deposit("a", 6)) is None
    world.commit()
    assert balance(world.port.view.get(KEY)) == 11


def test_a_file_that_takes_nothing_is_told_in_the_status() -> None:
    world = StateWorld()
    world.outcome(Deposit("a", 5))
    keep = world.durable()
    world.give(StateSettled(keep.token, "no room"))
    assert any("takes nothing" in text for text in world.broker.fleet.warnings.values())
    assert balance(world.ask(topics.STATE_READ, StateRead((KEY,))).rows[0]) == 5
    world.settle(keep)
    assert not world.broker.fleet.warnings
