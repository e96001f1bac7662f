"""Is the bank whole? Each check looks at the log, the tables and the answers, and says what is
wrong with them. None of them trusts what the store computes of itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shard_node.state.economy import Deposit, Transfer
from shard_node.state.log import GENESIS, Entry, fault
from tests.support.bank.answers import ERROR, NO, OK, Answer
from tests.support.bank.plan import MONEY, OVER, START, Op, accounts, opening_key

REFUSAL: Final = "E_FUNDS"
"""The one reason for which a planned transfer may be refused."""


@dataclass(frozen=True)
class Ledger:
    """All that is known of one run. ``answers`` of one process are in the order in which it got
    them. ``balances`` and ``created`` (sources less sinks) are those of the tables."""

    plan: Mapping[str, Sequence[Op]]
    answers: Sequence[Answer]
    entries: Sequence[Entry]
    balances: Mapping[str, int]
    created: int

    def ops(self) -> dict[str, tuple[str, Op]]:
        """Each planned transfer and its node, by key."""
        return {op.key: (node, op) for node, ops in self.plan.items() for op in ops}

    def logged(self) -> dict[bytes, Entry]:
        """The records by op id."""
        return {entry.op_id: entry for entry in self.entries}


def op_id_of(key: str) -> bytes:
    """The id of the transaction with this idempotency key."""
    return hashlib.sha256(b"idempotency:" + key.encode()).digest()[:16]


def chain(ledger: Ledger) -> Iterator[str]:
    """Every record follows from the one before."""
    previous = GENESIS
    for lsn, entry in enumerate(ledger.entries, 1):
        if entry.lsn != lsn:
            yield f"record {entry.lsn} stands at {lsn}"
        why = fault(entry, previous)
        if why:
            yield f"record {entry.lsn}: {why}"
        previous = entry.digest


def applied_once(ledger: Ledger) -> Iterator[str]:
    """A key has one record at most."""
    for op_id, count in Counter(entry.op_id for entry in ledger.entries).items():
        if count > 1:
            yield f"{op_id.hex()} was applied {count} times"


def asked_for(ledger: Ledger) -> Iterator[str]:
    """Every record is what one node was to do, or an account's opening; and each is opened."""
    wanted: dict[bytes, tuple[str | None, object]] = {
        op_id_of(key): (node, Transfer(op.source, op.target, op.amount))
        for key, (node, op) in ledger.ops().items()
    }
    opened = {op_id_of(opening_key(name)): Deposit(name, START) for name in accounts()}
    wanted |= {op_id: (None, deposit) for op_id, deposit in opened.items()}
    for entry in ledger.entries:
        node, op = wanted.get(entry.op_id, (None, None))
        payload = entry.payload()
        if op is None or payload is None or payload.ops != (op,):
            yield f"record {entry.lsn} is nothing that was asked for"
        elif node is not None and payload.actor.node != node:
            yield f"record {entry.lsn} is {payload.actor.node}'s; {node} asked for it"
    for op_id in opened.keys() - ledger.logged().keys():
        yield f"{opened[op_id].account} was never opened"


def confirmed_kept(ledger: Ledger) -> Iterator[str]:
    """What was confirmed is in the log, where the answer says."""
    logged = ledger.logged()
    for answer in ledger.answers:
        if answer.word == OK:
            entry = logged.get(op_id_of(answer.key))
            if entry is None:
                yield f"{answer.key!r} was confirmed as {answer.tx} and is lost"
            elif entry.lsn != answer.tx:
                yield f"{answer.key!r} was confirmed as {answer.tx} and is {entry.lsn}"


def refused_left_out(ledger: Ledger) -> Iterator[str]:
    """What was refused is not in the log."""
    logged = ledger.logged()
    for key in {answer.key for answer in ledger.answers if answer.word == NO}:
        entry = logged.get(op_id_of(key))
        if entry is not None:
            yield f"{key!r} was refused and is record {entry.lsn}"


def answers_agree(ledger: Ledger) -> Iterator[str]:
    """However often it is asked for under its key, a transfer has one answer."""
    said = dict[str, Answer]()
    for answer in ledger.answers:
        if answer.word in (OK, NO):
            before = said.setdefault(answer.key, answer)
            if before != answer:
                texts = (f"{one.word} {one.tx or one.text}" for one in (before, answer))
                yield f"{answer.key!r}: {', then '.join(texts)}"


def refused_rightly(ledger: Ledger) -> Iterator[str]:
    """Nothing fails but for want of money, and what is more than all there is, always."""
    ops = ledger.ops()
    for answer in ledger.answers:
        if answer.word == ERROR or (answer.word == NO and answer.text != REFUSAL):
            yield f"{answer.key!r} failed: {answer.text}"
        elif answer.word == OK and ops[answer.key][1].how == OVER:
            yield f"{answer.key!r} was confirmed: more than all the money"


def settled(ledger: Ledger) -> Iterator[str]:
    """Every transfer was answered in the end, and every record confirmed to somebody."""
    said = {answer.key for answer in ledger.answers if answer.word in (OK, NO)}
    for key in ledger.ops():
        if key not in said:
            yield f"{key!r} has no answer"
    heard_of = {op_id_of(opening_key(name)) for name in accounts()}
    heard_of |= {op_id_of(answer.key) for answer in ledger.answers if answer.word == OK}
    for op_id, entry in ledger.logged().items():
        if op_id not in heard_of:
            yield f"record {entry.lsn} was confirmed to nobody"


def balances(ledger: Ledger) -> Iterator[str]:
    """The records, one after the other, lead to the tables, and never below zero."""
    held = Counter[str]()
    for entry in ledger.entries:
        payload = entry.payload()
        for op in payload.ops if payload is not None else ():
            if isinstance(op, Deposit):
                held[op.account] += op.amount
            elif isinstance(op, Transfer):
                held[op.source] -= op.amount
                held[op.target] += op.amount
                if held[op.source] < 0:
                    yield f"record {entry.lsn}: {op.source} has {held[op.source]}"
    for name in sorted(held.keys() | ledger.balances.keys()):
        found = ledger.balances.get(name)
        if found != held[name]:
            yield f"{name} has {found}; the log leads to {held[name]}"


def none_negative(ledger: Ledger) -> Iterator[str]:
    """No account holds less than nothing."""
    for name, balance in sorted(ledger.balances.items()):
        if balance < 0:
            yield f"{name} has {balance}"


def total(ledger: Ledger) -> Iterator[str]:
    """All accounts hold what they were opened with, to the coin."""
    found = sum(ledger.balances.values())
    if not found == ledger.created == MONEY:
        yield f"all accounts hold {found}; created were {ledger.created}, wanted {MONEY}"


CHECKS: Final[dict[str, Callable[[Ledger], Iterator[str]]]] = {
    check.__name__: check
    for check in (
        chain,
        applied_once,
        asked_for,
        confirmed_kept,
        refused_left_out,
        answers_agree,
        refused_rightly,
        settled,
        balances,
        none_negative,
        total,
    )
}


def problems(ledger: Ledger) -> dict[str, list[str]]:
    """By check, what it found; empty where all is well."""
    found = {name: list(check(ledger)) for name, check in CHECKS.items()}
    return {name: texts for name, texts in found.items() if texts}
