"""The state's writes in the broker, one machine at a time: groups, failures, outcomes."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from broker.core.effects import Quit
from broker.core.events import Event, StateCommitted, StateSettled
from broker.core.logtime import LogClock, LogMark
from broker.core.stateport import ERASED
from broker.services import state
from broker.services.stopping import EXIT_STORE, PANIC
from shard_node.state.deltas import delta_of
from shard_node.state.economy import Account, Deposit, Transfer, Withdraw
from shard_node.state.errors import BY_CODE
from shard_node.state.guild_config import UpdateConfig
from shard_node.state.keys import Table, key_of
from shard_node.state.log import GENESIS, fault
from shard_node.state.machine import MemoryState
from shard_node.state.members import UpdateMember
from shard_node.state.moderation import BanUser
from shard_node.state.premium import GrantPremium
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read
from shard_node.state.tx import Actor, Tx
from shard_node.state.values import DeleteValue, SetValue, Value
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.state import StateAt, StateDo, StateDone, StateOutcome
from tests.support.state_world import OP, WALL_MS, A, B, StateWorld


def balance(world: StateWorld, name: str) -> int | None:
    row = read(Account, world.port.view.get(key_of(Table.ACCOUNT, name)))
    return None if row is None else row.balance


# --- groups: persist, then send


def test_an_answer_comes_after_the_commit() -> None:
    world = StateWorld()
    number = world.do(world.tx(Deposit("ann", 5)))
    assert world.answer(number) is None
    assert balance(world, "ann") is None
    world.commit()
    assert world.answer(number) == StateDone((StateOutcome(1, ({"balance": 5},)),))
    assert balance(world, "ann") == 5


def test_what_comes_during_a_commit_is_the_next_one() -> None:
    world = StateWorld()
    numbers = [world.do(world.tx(Deposit("ann", 1))) for _ in range(10)]
    assert [len(keep.entries) for keep in world.keeps] == [1]
    world.commit()
    assert [len(keep.entries) for keep in world.keeps] == [9]
    world.commit()
    balances = [world.answer(number).outcomes[0].results[0]["balance"] for number in numbers]
    assert balances == list(range(1, 11))
    assert world.shared.commits == 2
    assert world.shared.waiting == 0


def test_a_commit_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "GROUP_MAX_TXS", 4)
    world = StateWorld()
    numbers = [world.do(world.tx(Deposit("ann", 1))) for _ in range(11)]
    refused = world.do(world.tx(Transfer("ann", "bob", 12)))
    sizes = []
    while world.keeps:
        sizes.append(len(world.keeps[0].entries))
        assert len(world.keeps) == 1
        world.commit()
    assert sizes == [1, 4, 4, 2]
    assert [world.answer(number).outcomes[0].lsn for number in numbers] == list(range(1, 12))
    assert world.answer(refused).outcomes[0].error.code == "E_FUNDS"
    assert world.shared.waiting == 0


def test_all_that_was_sealed_fails_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "GROUP_MAX_TXS", 2)
    world = StateWorld()
    numbers = [world.do(world.tx(Deposit("ann", 1))) for _ in range(9)]
    world.fail()
    assert {world.answer(number).code for number in numbers} == {"E_STORE_FULL"}
    number = world.do(world.tx(Deposit("ann", 1)))
    world.commit()
    assert world.answer(number).outcomes == (StateOutcome(1, ({"balance": 1},)),)


def test_a_note_that_is_not_kept_fails_what_the_writer_fails_with_it() -> None:
    world = StateWorld()
    number = world.do(world.tx(Deposit("ann", 1)))
    world.give(StateCommitted(state.NOTE))
    assert world.answer(number) is None
    world.give(StateCommitted(state.NOTE, "E_STORE_FULL", "no room"))
    assert (world.answer(number).code, world.resets) == ("E_STORE_FULL", 1)


def test_a_group_holds_the_last_of_each_row_and_the_chain_is_whole() -> None:
    world = StateWorld()
    for _ in range(20):
        world.do(world.tx(Deposit("ann", 1)), world.tx(Deposit("bob", 1)))
    while world.keeps:
        world.commit()
    previous = GENESIS
    for lsn in range(1, 41):
        entry = world.port.entry(lsn)
        assert entry is not None
        assert fault(entry, previous) == ""
        previous = entry.digest
    assert (balance(world, "ann"), balance(world, "bob")) == (20, 20)


def test_a_refusal_waits_for_what_it_was_refused_for() -> None:
    world = StateWorld()
    deposit = world.do(world.tx(Deposit("ann", 5)))
    refused = world.do(world.tx(Transfer("ann", "bob", 6)))
    assert world.answer(refused) is None
    world.commit()
    assert world.answer(deposit).outcomes[0].lsn == 1
    assert world.answer(refused).outcomes[0].error.details["balance"] == 5


def test_a_refusal_where_nothing_waits_is_answered_at_once() -> None:
    world = StateWorld()
    assert world.outcome(Transfer("ann", "bob", 6)).error.code == "E_NO_ACCOUNT"
    assert not world.keeps


def test_transactions_of_a_request_are_each_by_itself_and_in_order() -> None:
    world = StateWorld(auto=True)
    number = world.do(
        world.tx(Deposit("ann", 5)),
        b"\xc1 no transaction",
        world.tx(Transfer("ann", "bob", 9)),
        world.tx(Transfer("ann", "bob", 4)),
        world.tx(Deposit("ann", 1), Transfer("ann", "bob", 100)),
        world.tx(Deposit("ann", 1)),
    )
    outcomes = world.answer(number).outcomes
    assert [outcome.lsn for outcome in outcomes] == [1, 0, 0, 2, 0, 3]
    codes = [outcome.error.code if outcome.error else "" for outcome in outcomes]
    assert codes == ["", "E_BAD_VALUE", "E_FUNDS", "", "E_FUNDS", ""]
    assert (balance(world, "ann"), balance(world, "bob")) == (2, 4)


def test_sent_again_it_is_applied_once_committed_or_not() -> None:
    world = StateWorld()
    tx = world.tx(Deposit("ann", 5))
    first, second = world.do(tx), world.do(tx)
    both = world.do(tx, tx)
    world.commit()
    assert world.answer(first) == world.answer(second)
    assert world.answer(both).outcomes == world.answer(first).outcomes * 2
    third = world.do(tx)
    assert world.answer(third) == world.answer(first)
    assert not world.keeps
    assert (balance(world, "ann"), world.port.place().lsn) == (5, 1)


def test_the_same_rows_as_the_model() -> None:
    """What overlays, groups and commits come to is what a dict comes to, one after another."""
    world, model = StateWorld(), MemoryState()
    for number in range(300):
        source, target = f"u{number % 7}", f"u{(number * 5 + 1) % 7}"
        ops: tuple[Any, ...] = (Transfer(source, target, number % 11),)
        if number % 3 == 0:
            ops = (Deposit(source, number + 1), SetValue("last", number))
        elif number % 17 == 0:
            ops = (Rollback(number // 2, force=True), DeleteValue("last"))
        actor = Actor("a", number, "why")
        data = world.tx(*ops, actor=actor)
        world.do(data)
        if number % 4 == 1 and world.keeps:
            world.commit()
        try:
            model.submit(msgspec.msgpack.decode(data, type=Tx), WALL_MS)
        except tuple(BY_CODE.values()):
            continue
    while world.keeps:
        world.commit()
    assert world.port.view.rows == model.view.rows
    assert world.port.place() == model.place


# --- a commit that fails


def test_what_was_computed_on_a_failed_commit_fails_with_it() -> None:
    world = StateWorld()
    numbers = [world.do(world.tx(Deposit("ann", 1))) for _ in range(5)]
    assert len(world.keeps) == 1
    world.fail()
    for number in numbers:
        error = world.answer(number)
        assert (error.code, error.retryable) == ("E_STORE_FULL", True)
        assert "no room" in error.message
    assert (world.resets, world.shared.waiting, world.port.place().lsn) == (1, 0, 0)
    assert world.outcome(Transfer("ann", "bob", 1)).error.code == "E_NO_ACCOUNT"


def test_after_a_failure_it_goes_on_where_the_log_is() -> None:
    world = StateWorld()
    world.do(world.tx(Deposit("ann", 5)))
    world.commit()
    lost = world.tx(Deposit("ann", 7))
    number = world.do(lost)
    world.fail()
    assert world.answer(number).code == "E_STORE_FULL"
    assert "keeps nothing" in world.ask(topics.STATUS, [], OP)["warnings"][0]
    number = world.do(lost)
    world.commit()
    assert world.answer(number).outcomes[0] == StateOutcome(2, ({"balance": 12},))
    assert world.ask(topics.STATUS, [], OP)["warnings"] == []
    assert world.shared.failed == 1


def test_reads_go_on_where_nothing_can_be_kept() -> None:
    world = StateWorld()
    world.do(world.tx(SetValue("x", 1)))
    world.commit()
    world.do(world.tx(SetValue("x", 2)))
    world.fail()
    rows = world.ask(topics.STATE_READ, [[key_of(Table.VALUE, "x")]])
    assert read(Value, rows.rows[0]).value == 1


def test_a_second_failure_of_the_same_batch_is_nothing_new() -> None:
    world = StateWorld()
    for _ in range(3):
        world.do(world.tx(Deposit("ann", 1)))
    failed = list(world.keeps)
    world.fail()
    number = world.do(world.tx(Deposit("ann", 1)))
    (mine,) = world.keeps
    assert mine.token not in {keep.token for keep in failed}
    assert mine.entries[0].lsn == 1
    world.commit()
    assert world.answer(number).outcomes[0].lsn == 1
    assert world.resets == 1


# --- limits and errors


def test_more_than_may_wait_is_busy_and_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STATE_WAITING_MAX", 10)
    world = StateWorld()
    numbers = [world.do(world.tx(Deposit("ann", 1))) for _ in range(12)]
    for number in numbers[10:]:
        error = world.answer(number)
        assert (error.code, error.retryable) == ("E_BUSY", True)
    while world.keeps:
        world.commit()
    assert all(isinstance(world.answer(number), StateDone) for number in numbers[:10])
    assert balance(world, "ann") == 10
    assert isinstance(world.outcome(Deposit("ann", 1)), None.__class__)


def test_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STATE_WAITING_MAX_BYTES", 1000)
    world = StateWorld()
    first = world.do(world.tx(SetValue("x", "y" * 800)))
    second = world.do(world.tx(SetValue("x", "y" * 800)))
    world.commit()
    assert isinstance(world.answer(first), StateDone)
    assert world.answer(second).code == "E_BUSY"
    world.do(world.tx(SetValue("x", "y" * 800)))
    assert len(world.keeps) == 1


def test_a_request_has_a_limit_of_transactions_and_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "STATE_TXS_MAX", 3)
    monkeypatch.setattr(state, "STATE_OPS_MAX", 4)
    world = StateWorld(auto=True)
    error = world.answer(world.do(*(world.tx(Deposit("ann", 1)) for _ in range(4))))
    assert error.code == "E_TOO_LARGE"
    two = (Deposit("ann", 1), Deposit("ann", 1))
    outcomes = world.answer(world.do(*(world.tx(*two) for _ in range(3)))).outcomes
    assert [outcome.lsn for outcome in outcomes] == [1, 2, 0]
    assert (outcomes[2].error.code, outcomes[2].error.retryable) == ("E_BUSY", True)


DEEP = b"\x91\x93\xa9set_value\xa1x" + b"\x91" * 5000
ODD = [
    b"",
    b"\xc1",
    b"\x00",
    msgspec.msgpack.encode([]),
    msgspec.msgpack.encode(["x" * 16, b"y" * 16, []]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["no such op", 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["transfer", "a", "b", 1.5]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["transfer", "a", "b"]]]),
    b"\x93\xc4\x10" + b"x" * 16 + b"\xc4\x10" + b"y" * 16 + DEEP,
    msgspec.msgpack.encode([b"short", b"y" * 16, [["deposit", "a", 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, []]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", 1]] * 300]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "", 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a\0b", 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a" * 300, 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", 0]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", -1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", (1 << 63)]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["rollback", 1]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["rollback", -1]], ["a", 0, "why"]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["rollback", (1 << 64) - 1]], ["a", 0, "why"]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["set_value", "x", "y" * 70_000]]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", 1]], ["a", 0, "y" * 600]]),
    msgspec.msgpack.encode([b"x" * 16, b"y" * 16, [["deposit", "a", 1]], ["a", -1, ""]])[:-2],
]  # fmt: skip


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_a_transaction_without_sense_has_an_error_and_writes_nothing(data: bytes) -> None:
    world = StateWorld(auto=True)
    number = world.do(world.tx(Deposit("ann", 1)), data, world.tx(Deposit("ann", 1)))
    first, odd, last = world.answer(number).outcomes
    assert (first.lsn, odd.lsn, last.lsn) == (1, 0, 2)
    assert odd.error.code in BY_CODE
    assert odd.error.code != "E_STATE"
    assert odd.error.message
    assert not world.errors


REFUSED = [
    ((Transfer("ann", "ann", 1),), "E_SELF_TRANSFER", {"account": "ann"}),
    ((Transfer("ann", "bob", 11),), "E_FUNDS", {"balance": 10, "amount": 11}),
    ((Transfer("zoe", "bob", 1),), "E_NO_ACCOUNT", {"account": "zoe"}),
    ((Withdraw("ann", 11),), "E_FUNDS", {"balance": 10}),
    ((Transfer("ann", "bob", 0),), "E_BAD_AMOUNT", {}),
    ((SetValue("x", 1, if_version=3),), "E_VERSION", {"found": 0, "expected": 3}),
    ((DeleteValue("x"),), "E_NOT_THERE", {"name": "x"}),
    ((Rollback(77),), "E_NO_TX", {"tx": 77}),
]


@pytest.mark.parametrize(("ops", "code", "details"), REFUSED)
def test_an_error_travels_with_its_code_its_hint_and_its_details(
    ops: tuple[Any, ...], code: str, details: dict[str, Any]
) -> None:
    world = StateWorld(auto=True)
    world.outcome(Deposit("ann", 10))
    outcome = world.outcome(*ops, actor=Actor("a", 0, "why"))
    assert isinstance(outcome, StateOutcome)
    assert outcome.error is not None
    assert outcome.error.code == code
    assert details.items() <= outcome.error.details.items()
    assert outcome.error.hint == (BY_CODE[code].hint or "")
    assert world.port.place().lsn == 1


def test_a_bug_in_an_operation_ends_neither_the_broker_nor_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = StateWorld(auto=True)

    def broken(*_args: object) -> None:
        raise KeyError("ours")

    monkeypatch.setitem(state.apply.__globals__["APPLY"], SetValue, broken)
    number = world.do(
        world.tx(Deposit("ann", 1)),
        world.tx(Deposit("ann", 5), SetValue("x", 1)),
        world.tx(Deposit("ann", 1)),
    )
    outcomes = world.answer(number).outcomes
    assert [outcome.lsn for outcome in outcomes] == [1, 0, 2]
    assert outcomes[1].error.code == "E_STATE"
    assert "KeyError" in world.errors[0]
    assert balance(world, "ann") == 2


def test_who_did_it_is_the_sockets_word() -> None:
    world = StateWorld(auto=True)
    liar = Actor("zoe", 7, "because")
    world.do(world.tx(Deposit("ann", 1), actor=liar))
    world.do(world.tx(Deposit("ann", 1), actor=liar), peer=OP)
    actors = [world.port.entry(lsn).payload().actor for lsn in (1, 2)]
    assert actors == [Actor("a", 7, "because"), Actor("shardctl", 7, "because")]


def test_an_old_process_writes_nothing() -> None:
    world = StateWorld(auto=True)
    number = world.do(world.tx(Deposit("ann", 1)), peer=b"a#0")
    assert world.answer(number).code == "E_OLD_EPOCH"
    assert world.port.place().lsn == 0


def test_a_body_that_is_none_is_refused() -> None:
    world = StateWorld(auto=True)
    assert world.answer(world.send(A, topics.STATE_DO, b"\xc1")).code == "E_BAD_REQUEST"
    assert world.answer(world.send(A, topics.STATE_DO, ["x"])).code == "E_BAD_REQUEST"
    assert world.answer(world.send(A, topics.STATE_DO, StateDo(()))) == StateDone(())


def test_a_request_that_ended_before_its_commit_is_applied_all_the_same() -> None:
    world = StateWorld()
    body = StateDo((world.tx(Deposit("ann", 1)),))
    number = world.send(A, topics.STATE_DO, body, ttl_ms=1000)
    world.tick(2)
    assert world.answer(number).code == "E_TIMEOUT"
    world.commit()
    assert balance(world, "ann") == 1
    again = world.answer(world.send(A, topics.STATE_DO, body))
    assert again.outcomes[0].lsn == 1


# --- log time


def test_log_time_goes_on_with_the_monotonic_clock() -> None:
    world = StateWorld(auto=True)
    world.outcome(Deposit("ann", 1))
    world.now += 90
    world.outcome(Deposit("ann", 1))
    assert [world.port.entry(lsn).at_ms - WALL_MS for lsn in (1, 2)] == [0, 90_000]


@pytest.mark.parametrize(
    ("last", "start", "expected"),
    [
        (LogMark(), {"boot_id": "x", "boot_ms": 50, "wall_ms": 7_000_000}, 7_000_000),
        # The same boot: the time since, whatever the wall clock says.
        (LogMark(1000, "x", 50), {"boot_id": "x", "boot_ms": 850, "wall_ms": 9_000_000}, 1800),
        (LogMark(1000, "x", 50), {"boot_id": "x", "boot_ms": 850, "wall_ms": 1}, 1800),
        (LogMark(1000, "x", 50), {"boot_id": "x", "boot_ms": 10, "wall_ms": 1}, 1000),
        # Another boot: the wall clock, but never back.
        (LogMark(1000, "x", 50), {"boot_id": "y", "boot_ms": 850, "wall_ms": 9000}, 9000),
        (LogMark(1000, "x", 50), {"boot_id": "y", "boot_ms": 850, "wall_ms": 400}, 1000),
    ],
)
def test_log_time_over_a_restart(last: LogMark, start: dict[str, Any], expected: int) -> None:
    clock = LogClock(last, 10.0, **start)
    assert clock.at_ms(10.0) == expected
    assert clock.at_ms(12.5) == expected + 2500
    assert clock.at_ms(11.0) == expected + 2500
    mark = clock.mark(13.0)
    assert mark == LogMark(expected + 3000, start["boot_id"], start["boot_ms"] + 3000)


def test_a_chain_of_restarts_loses_no_time() -> None:
    mark = LogMark(1_000_000, "x", 0)
    for _ in range(50):
        clock = LogClock(mark, 4.0, boot_id="x", boot_ms=mark.boot_ms + 500, wall_ms=0)
        mark = clock.mark(4.5)
    assert mark.at_ms == 1_000_000 + 50 * 1000


# --- who listens


def test_subscribers_hear_of_a_change_once_and_after_the_commit() -> None:
    world = StateWorld()
    world.subscribe(B, topics.STATE_UPDATE, "state:value")
    world.outcome(SetValue("x", {"a": 1}))
    assert world.events(topics.STATE_UPDATE) == []
    world.commit()
    (update,) = world.events(topics.STATE_UPDATE, B)
    assert (update.table, update.key, update.lsn) == ("value", "x", 1)
    assert (update.old_version, update.new_version) == (0, 1)
    assert update.changed == {"value": {"a": 1}}
    assert update.partition == key_of(Table.VALUE, "x")[0]
    assert len(world.events(topics.STATE_UPDATE)) == 1


def test_who_listens_to_a_table_hears_of_that_one() -> None:
    world = StateWorld(auto=True)
    world.subscribe(B, "state:account")
    world.outcome(SetValue("x", 1))
    world.outcome(Deposit("ann", 5))
    world.outcome(Transfer("ann", "bob", 2))
    updates = world.events(topics.STATE_UPDATE)
    assert [(u.key, u.changed["balance"], u.new_version) for u in updates] == [
        ("ann", 5, 1),
        ("ann", 3, 2),
        ("bob", 2, 1),
    ]
    assert updates[1].changed == {"balance": 3}


def test_a_deleted_row_has_version_0() -> None:
    world = StateWorld(auto=True)
    world.subscribe(A, topics.STATE_UPDATE)
    world.outcome(SetValue("x", 1))
    world.outcome(DeleteValue("x"))
    last = world.events(topics.STATE_UPDATE)[-1]
    assert (last.old_version, last.new_version, last.changed, last.removed) == (1, 0, {}, ())


def test_nobody_hears_of_what_is_not_kept() -> None:
    world = StateWorld()
    world.subscribe(A, topics.STATE_UPDATE, topics.STATE_COMMITTED)
    world.outcome(SetValue("x", 1))
    world.fail()
    world.tick(1)
    assert world.events(topics.STATE_UPDATE) == []
    assert world.events(topics.STATE_COMMITTED) == []


def test_commits_are_told_together() -> None:
    world = StateWorld(auto=True)
    world.subscribe(B, topics.STATE_COMMITTED)
    for _ in range(10):
        world.outcome(Deposit("ann", 1))
    assert world.events(topics.STATE_COMMITTED, B) == [StateAt(1, WALL_MS, 1, WALL_MS)]
    due = world.broker.next_deadline()
    assert due is not None
    world.now = due
    world.tick()
    told = world.events(topics.STATE_COMMITTED, B)
    assert [at.lsn for at in told] == [1, 10]
    world.tick(1)
    assert len(world.events(topics.STATE_COMMITTED, B)) == 2


def test_no_change_of_a_row_is_told() -> None:
    key = key_of(Table.VALUE, "x")
    assert delta_of(key, b"same", b"same") is None
    assert delta_of(key_of(Table.UNDONE, 1), None, b"row") is None


# --- status


def test_status_has_the_states_figures() -> None:
    world = StateWorld()
    world.do(world.tx(Deposit("ann", 1)))
    world.do(world.tx(Deposit("ann", 1)))
    assert world.ask(topics.STATUS, [], OP)["state"]["waiting"] == 2
    world.now += 0.004
    world.commit()
    world.now += 0.002
    world.commit()
    figures = world.ask(topics.STATUS, [], OP)["state"]
    assert (figures["lsn"], figures["commits"], figures["waiting"]) == (2, 2, 0)
    assert figures["last_commit_ms"] == pytest.approx(2.0, abs=0.1)
    assert isinstance(world.answer(world.do()), ErrorBody | StateDone)


GUILD_OF_A, GUILD_OF_B = 1 << 22, 2 << 22
"""Their shards, of four, are 1 and 2."""


@pytest.mark.parametrize(
    ("op", "table"),
    [
        (UpdateConfig(guild=GUILD_OF_A, fields={"prefix": "?"}), "config"),
        (UpdateMember(guild=GUILD_OF_A, user=7, fields={"nick": "x"}), "member"),
        (GrantPremium(f"guild:{GUILD_OF_A}", "gold"), "premium"),
        (BanUser(7, GUILD_OF_A, "spam"), "ban"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_owner_of_the_guild_hears_of_its_rows_unasked(op: Any, table: str) -> None:
    world = StateWorld(auto=True)
    outcome = world.outcome(op)
    assert isinstance(outcome, StateOutcome)
    assert outcome.error is None
    (update,) = world.events(topics.STATE_UPDATE)
    assert update.table == table
    assert world.events(topics.STATE_UPDATE, A) == [update]


def test_only_the_fields_that_changed_are_told() -> None:
    world = StateWorld(auto=True)
    world.outcome(UpdateConfig(guild=GUILD_OF_B, fields={"prefix": "?", "long": "x" * 5000}))
    world.outcome(UpdateConfig(guild=GUILD_OF_B, fields={"prefix": "!"}))
    last = world.events(topics.STATE_UPDATE, B)[-1]
    assert (last.changed, last.removed) == ({"prefix": "!"}, ())
    assert (last.old_version, last.new_version, last.lsn) == (1, 2, 2)
    assert last.key == str(GUILD_OF_B)
    frame = [heard for heard in world.heard if heard.head.topic == topics.STATE_UPDATE][-1]
    assert len(frame.body) < 100


@pytest.mark.parametrize(
    "event",
    [
        StateCommitted(ERASED, PANIC, "a page"),
        StateCommitted(0, PANIC, "a page"),
        StateSettled(1, "a page", PANIC),
    ],
    ids=["work", "note", "file"],
)
def test_a_store_that_gave_up_ends_the_broker_wherever_it_shows(event: Event) -> None:
    world = StateWorld()
    assert Quit("the store gave up: a page", EXIT_STORE) in world.broker.on(event, world.now)
    full = but_full(event)
    assert not any(isinstance(one, Quit) for one in world.broker.on(full, world.now))


def but_full(event: Event) -> Event:
    """The same with an error that goes away."""
    return dataclasses.replace(event, code="E_STORE_FULL")  # type: ignore[call-arg]
