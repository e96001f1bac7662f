"""The bank: four nodes transfer money while brokers and nodes are killed, and not a coin is
lost, made or moved twice.

SHARDCTL_BANK=full makes 112,000 transfers, kills the broker 50 times and nodes 20 times
(`make soak`); SHARDCTL_BANK_SEED plays another run. A failure prints its seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import pytest

from shard_node.shared.backend import transaction
from shard_node.state import files
from shard_node.state.audit import audit
from shard_node.state.economy import Account, Deposit, Transfer
from shard_node.state.errors import InsufficientFunds
from shard_node.state.keys import Table, key_of
from shard_node.state.log import GENESIS, Entry, make_entry
from shard_node.state.machine import MemoryState
from shard_node.state.rows import read, write
from tests.support.bank import plan
from tests.support.bank.answers import ERROR, NO, OK, Answer, Reader
from tests.support.bank.checks import CHECKS, REFUSAL, Ledger, op_id_of, problems
from tests.support.bank.ordeal import STATE_FOLDER, Ordeal, Size
from tests.support.fleet import Fleet

QUICK: Final = Size(transfers=4_000, brokers=3, nodes=2, seed=14)
FULL: Final = Size(transfers=112_000, brokers=50, nodes=20, seed=7)
"""Some are refused: over 100,000 remain."""
APPLIED_MIN: Final = {QUICK: 3_000, FULL: 100_000}
AT_MS: Final = 1_700_000_000_000

soak = os.environ.get("SHARDCTL_BANK") == "full"


# --- the checks, each with what it must find


class Actor:
    """Whom the log names."""

    def __init__(self, name: str) -> None:
        self.name = name


def made(count: int = 300) -> Ledger:
    """A run without any death, in memory."""
    state, ops, answers = MemoryState(), plan.plan(1, count), list[Answer]()
    for name in plan.accounts():
        key = plan.opening_key(name)
        tx = transaction(Actor("opener"), (Deposit(name, plan.START),), idempotency_key=key)  # type: ignore[arg-type]
        state.submit(tx, AT_MS)
    for node, mine in ops.items():
        for op in mine:
            transfer = Transfer(op.source, op.target, op.amount)
            for _ in range(2 if op.how in (plan.PAIR, plan.AGAIN) else 1):
                tx = transaction(Actor(node), (transfer,), idempotency_key=op.key)  # type: ignore[arg-type]
                try:
                    answers.append(Answer(OK, op.key, state.submit(tx, AT_MS).lsn, ""))
                except InsufficientFunds as error:
                    answers.append(Answer(NO, op.key, 0, error.code))
    sums, _ = audit(state.view)
    entries = [state.entries[lsn] for lsn in sorted(state.entries)]
    return Ledger(ops, answers, entries, dict(sums.accounts), sums.created)


@pytest.fixture(scope="module")
def whole() -> Ledger:
    return made()


def chained(entries: list[Entry]) -> list[Entry]:
    """The same transactions in a chain that is whole again."""
    found, previous = list[Entry](), GENESIS
    for lsn, entry in enumerate(entries, 1):
        payload = entry.payload()
        assert payload is not None
        again = make_entry(
            lsn, entry.at_ms, entry.op_id, payload, entry.salt, previous, entry.minted
        )
        found.append(again)
        previous = again.digest
    return found


def an(ledger: Ledger, word: str, how: str = plan.ONCE) -> tuple[int, Answer]:
    """The first such answer, and its place."""
    ops = ledger.ops()
    return next(
        (place, answer)
        for place, answer in enumerate(ledger.answers)
        if answer.word == word and ops[answer.key][1].how == how
    )


def said(ledger: Ledger, *more: Answer) -> Ledger:
    return replace(ledger, answers=[*ledger.answers, *more])


def changed(ledger: Ledger, place: int, **fields: Any) -> Ledger:
    """With another answer in this place."""
    answers = list(ledger.answers)
    answers[place] = answers[place]._replace(**fields)
    return replace(ledger, answers=answers)


def logged(ledger: Ledger, entries: list[Entry]) -> Ledger:
    return replace(ledger, entries=chained(entries))


def recorded(ledger: Ledger, entry: Entry, **fields: Any) -> Ledger:
    """With another payload in this record, and the chain whole."""
    payload = entry.payload()
    assert payload is not None
    body = msgspec.msgpack.encode(msgspec.structs.replace(payload, **fields))
    entries = list(ledger.entries)
    entries[entry.lsn - 1] = msgspec.structs.replace(entry, body=body)
    return logged(ledger, entries)


def holding(ledger: Ledger, **more: int) -> Ledger:
    """With so much more in accounts; the sum may stay what it is."""
    held = dict(ledger.balances)
    for name, amount in more.items():
        held[name.replace("_", ":")] += amount
    return replace(ledger, balances=held)


def a_lost_record(ledger: Ledger) -> Ledger:
    _, answer = an(ledger, OK)
    return logged(ledger, [e for e in ledger.entries if e.op_id != op_id_of(answer.key)])


def a_lost_tail(ledger: Ledger) -> Ledger:
    """As after a commit that was answered before it was on the disk."""
    return replace(ledger, entries=ledger.entries[:-3])


def a_double(ledger: Ledger) -> Ledger:
    return logged(ledger, [*ledger.entries, ledger.entries[-1]])


def a_changed_digest(ledger: Ledger) -> Ledger:
    entries = list(ledger.entries)
    entries[150] = msgspec.structs.replace(entries[150], digest=bytes(32))
    return replace(ledger, entries=entries)


def a_changed_payload(ledger: Ledger) -> Ledger:
    entries = list(ledger.entries)
    body = entries[150].body
    assert body is not None
    entries[150] = msgspec.structs.replace(entries[150], body=body[:-1] + b"\x01")
    return replace(ledger, entries=entries)


def a_gap(ledger: Ledger) -> Ledger:
    return replace(ledger, entries=[*ledger.entries[:150], *ledger.entries[151:]])


def another_amount(ledger: Ledger) -> Ledger:
    entry = ledger.entries[-1]
    payload = entry.payload()
    assert payload is not None
    (op,) = payload.ops
    return recorded(ledger, entry, ops=(msgspec.structs.replace(op, amount=1 + op.amount),))


def another_actor(ledger: Ledger) -> Ledger:
    payload = ledger.entries[-1].payload()
    assert payload is not None
    actor = msgspec.structs.replace(payload.actor, node="z")
    return recorded(ledger, ledger.entries[-1], actor=actor)


def a_record_of_nobody(ledger: Ledger) -> Ledger:
    stray = msgspec.structs.replace(ledger.entries[-1], op_id=bytes(16))
    return logged(ledger, [*ledger.entries, stray])


def an_account_not_opened(ledger: Ledger) -> Ledger:
    return logged(ledger, list(ledger.entries[1:]))


def a_confirmation_of_another_record(ledger: Ledger) -> Ledger:
    place, answer = an(ledger, OK)
    return changed(ledger, place, tx=answer.tx + 1)


def a_refused_one_in_the_log(ledger: Ledger) -> Ledger:
    place, _ = an(ledger, OK)
    return changed(ledger, place, word=NO, tx=0, text=REFUSAL)


def a_confirmed_one_that_is_refused(ledger: Ledger) -> Ledger:
    _, answer = an(ledger, OK)
    return said(ledger, answer._replace(word=NO, tx=0, text=REFUSAL))


def a_refused_one_that_is_confirmed(ledger: Ledger) -> Ledger:
    place, answer = an(ledger, OK)
    answers = list(ledger.answers)
    answers.insert(place, answer._replace(word=NO, tx=0, text=REFUSAL))
    return replace(ledger, answers=answers)


def two_answers_that_differ(ledger: Ledger) -> Ledger:
    place, answer = an(ledger, OK, plan.PAIR)
    return changed(ledger, place + 1, tx=answer.tx + 1)


def a_refusal_for_another_reason(ledger: Ledger) -> Ledger:
    place, _ = an(ledger, NO, plan.OVER)
    return changed(ledger, place, text="E_NO_ACCOUNT")


def an_error(ledger: Ledger) -> Ledger:
    _, answer = an(ledger, OK)
    return said(ledger, Answer(ERROR, answer.key, 0, "TypeError()"))


def more_than_all_the_money(ledger: Ledger) -> Ledger:
    place, _ = an(ledger, NO, plan.OVER)
    return changed(ledger, place, word=OK, tx=150)


def one_without_an_answer(ledger: Ledger) -> Ledger:
    place, _ = an(ledger, NO, plan.OVER)
    answers = list(ledger.answers)
    del answers[place]
    return replace(ledger, answers=answers)


def a_record_that_nobody_heard_of(ledger: Ledger) -> Ledger:
    place, _ = an(ledger, OK)
    answers = list(ledger.answers)
    del answers[place]
    return replace(ledger, answers=answers)


def a_changed_balance(ledger: Ledger) -> Ledger:
    return holding(ledger, account_3=1, account_4=-1)


def a_lost_account(ledger: Ledger) -> Ledger:
    return replace(ledger, balances={k: v for k, v in ledger.balances.items() if k != "account:3"})


def a_negative_balance(ledger: Ledger) -> Ledger:
    short = ledger.balances["account:3"] + 1
    return holding(ledger, account_3=-short, account_4=short)


def a_moment_below_zero(ledger: Ledger) -> Ledger:
    """The payments first, and only then what pays for them: the end is the same."""
    openings = len(plan.accounts())
    return logged(ledger, [*ledger.entries[openings:], *ledger.entries[:openings]])


def a_coin_too_many(ledger: Ledger) -> Ledger:
    return holding(ledger, account_3=1)


def a_coin_created(ledger: Ledger) -> Ledger:
    return replace(holding(ledger, account_3=1), created=ledger.created + 1)


FAULTS: Final[dict[Callable[[Ledger], Ledger], tuple[str, ...]]] = {
    a_lost_record: ("confirmed_kept", "balances"),
    a_lost_tail: ("confirmed_kept", "balances"),
    a_double: ("applied_once", "balances"),
    a_changed_digest: ("chain",),
    a_changed_payload: ("chain",),
    a_gap: ("chain", "confirmed_kept"),
    another_amount: ("asked_for", "balances"),
    another_actor: ("asked_for",),
    a_record_of_nobody: ("asked_for", "settled"),
    an_account_not_opened: ("asked_for", "balances"),
    a_confirmation_of_another_record: ("confirmed_kept",),
    a_refused_one_in_the_log: ("refused_left_out", "settled"),
    a_confirmed_one_that_is_refused: ("answers_agree", "refused_left_out"),
    a_refused_one_that_is_confirmed: ("answers_agree", "refused_left_out"),
    two_answers_that_differ: ("answers_agree", "confirmed_kept"),
    a_refusal_for_another_reason: ("refused_rightly",),
    an_error: ("refused_rightly",),
    more_than_all_the_money: ("refused_rightly", "confirmed_kept"),
    one_without_an_answer: ("settled",),
    a_record_that_nobody_heard_of: ("settled",),
    a_changed_balance: ("balances",),
    a_lost_account: ("balances", "total"),
    a_negative_balance: ("none_negative", "balances"),
    a_moment_below_zero: ("balances",),
    a_coin_too_many: ("total", "balances"),
    a_coin_created: ("total", "balances"),
}


def test_a_run_without_faults_has_none(whole: Ledger) -> None:
    assert problems(whole) == {}
    words = {answer.word for answer in whole.answers}
    assert words == {OK, NO}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(whole: Ledger, fault: Callable[[Ledger], Ledger]) -> None:
    found = problems(fault(whole))
    assert set(FAULTS[fault]) <= found.keys(), found


def test_each_check_is_proved() -> None:
    assert {name for names in FAULTS.values() for name in names} == CHECKS.keys()


def test_half_a_line_is_no_answer(tmp_path: Path) -> None:
    file, reader = tmp_path / "said-a-1", Reader(tmp_path)
    file.write_text("ok a_7_1 12\nok a_7_2 1")
    assert reader.read() == 1
    file.write_text("ok a_7_1 12\nok a_7_2 13\nunsure a_7_3 E_TIMEOUT\n")
    (tmp_path / "said-b-2").write_text("no b_7_4 E_FUNDS\n")
    assert reader.read() == 3
    assert reader.answers == [
        Answer(OK, "a 7 1", 12, ""),
        Answer(OK, "a 7 2", 13, ""),
        Answer("unsure", "a 7 3", 0, "E_TIMEOUT"),
        Answer(NO, "b 7 4", 0, "E_FUNDS"),
    ]


# --- the bank itself


@pytest.mark.slow
@pytest.mark.timeout(1800 if soak else 120)
def test_not_a_coin_is_lost_while_brokers_and_nodes_are_killed(tmp_path: Path) -> None:
    size = FULL if soak else QUICK
    size = size._replace(seed=int(os.environ.get("SHARDCTL_BANK_SEED", size.seed)))
    print(f"SHARDCTL_BANK_SEED={size.seed}")
    with Fleet(tmp_path, "bank") as fleet:
        ordeal = Ordeal(fleet, size)
        ordeal.run()
        ledger, figures = ordeal.ledger(), ordeal.figures()
        for key, value in figures.items():
            print(f"{key:24} {value:,}")
        assert problems(ledger) == {}
        assert (figures["broker_kills"], figures["node_kills"]) == (size.brokers, size.nodes)
        assert figures["node_processes"] == len(plan.NODES) + size.nodes
        assert figures["confirmed"] >= APPLIED_MIN[FULL if soak else QUICK]
        assert figures["confirmed_again"] > 0 and figures["refused"] > 0
        assert not soak or figures["confirmed_after_unsure"] > 0
        assert verdicts(fleet) == {"check": (0, True), "audit": (0, [])}
        take_a_coin(fleet)
        found = verdicts(fleet)
        assert found["check"] == (1, False)
        assert found["audit"][0] == 1
        assert {one["code"] for one in found["audit"][1]} == {"sum", "log_sum", "log_account"}


def verdicts(fleet: Fleet) -> dict[str, tuple[int, Any]]:
    """What the command line says of the state at rest: its exit code and its word."""
    check = fleet.run("state", "check", "--json")
    audited = fleet.run("economy", "audit", "--json")
    return {
        "check": (check.returncode, json.loads(check.stdout)["ok"]),
        "audit": (audited.returncode, json.loads(audited.stdout)["findings"]),
    }


def take_a_coin(fleet: Fleet) -> None:
    """Of an account in the file, and its checksum is that of the new row."""
    key = key_of(Table.ACCOUNT, plan.accounts()[3])
    with lmdb.open(str(fleet.paths.data_dir / STATE_FOLDER), max_dbs=8, map_size=1 << 34) as env:
        rows = env.open_db(files.ROWS, create=False)
        with env.begin(db=rows, write=True) as txn:
            account = read(Account, files.unpack(key, txn.get(key)))
            assert account is not None
            row = write(msgspec.structs.replace(account, balance=account.balance - 1))
            txn.put(key, files.pack(key, row))
