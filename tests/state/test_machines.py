"""Any sequence of transactions: a dict, LMDB and a naive model agree after each of them.

The model holds that the state is what the transactions that are not rolled back give, done in
their order from nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shard_node.state.audit import audit, audit_log, compare
from shard_node.state.economy import Account, Deposit, SetFloor, Transfer, Withdraw
from shard_node.state.errors import (
    AlreadyUndone,
    InsufficientFunds,
    NotUndoable,
    StateError,
    UndoConflict,
)
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import BOOKKEEPING, Table, parse_key
from shard_node.state.log import GENESIS, fault
from shard_node.state.machine import Place, apply
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.moderation import Ban, BanUser, UnbanUser
from shard_node.state.records import Record
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read
from shard_node.state.values import DeleteValue, SetValue, Value
from tests.support.state import LmdbView, World

accounts = st.sampled_from(["user:1", "user:2", "bank"])
amounts = st.integers(1, 50)
ids = st.integers(1, 2)
names = st.sampled_from(["v", "w"])
money = (
    st.builds(Transfer, accounts, accounts, amounts)
    | st.builds(Deposit, accounts, amounts, st.sampled_from(["daily", "shop"]))
    | st.builds(Withdraw, accounts, amounts)
    | st.builds(SetFloor, accounts, st.integers(-60, 0))
)
fields = st.dictionaries(st.sampled_from("xyz"), st.just(0), min_size=1)
rows = (
    st.builds(SetValue, names, st.just(0))
    | st.builds(DeleteValue, names)
    | st.builds(UpdateConfig, ids, fields=fields)
    | st.builds(DeleteConfig, ids)
    | st.builds(UpdateMember, ids, ids, fields=fields)
    | st.builds(DeleteMember, ids, ids)
    | st.builds(BanUser, ids, st.just("global") | ids, st.just("why"))
    | st.builds(UnbanUser, ids, st.just("global") | ids)
)
transactions = st.lists(money | rows, min_size=1, max_size=4)


class Refused(Exception):
    pass


class Model:
    """Plain dicts, and no thought of undoing: a name -> what is there."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.floors: defaultdict[str, int] = defaultdict(int)
        self.rows: dict[Any, Any] = {}
        self.created = 0

    def do(self, op: Any, *, strict: bool = True) -> None:
        match op:
            case Transfer(source, target, amount):
                if source == target:
                    raise Refused
                self.give(source, -amount, strict)
                self.give(target, amount, strict)
            case Deposit(account, amount):
                self.give(account, amount, strict)
                self.created += amount
            case Withdraw(account, amount):
                self.give(account, -amount, strict)
                self.created -= amount
            case SetFloor(account, floor):
                if strict and self.balances.get(account, -1_000_000) < floor:
                    raise Refused
                self.floors[account] = floor
            case _:
                self.change(name_of(op), op, strict)

    def give(self, account: str, amount: int, strict: bool) -> None:
        if strict and amount < 0:
            if account not in self.balances:
                raise Refused
            if self.balances[account] + amount < self.floors[account]:
                raise Refused
        self.balances[account] = self.balances.get(account, 0) + amount

    def change(self, name: Any, op: Any, strict: bool) -> None:
        match op:
            case SetValue():
                self.rows[name] = op.value
            case UpdateConfig() | UpdateMember():
                self.rows[name] = self.rows.get(name, {}) | op.fields
            case BanUser():
                self.rows[name] = op.reason
            case _:
                if strict and name not in self.rows:
                    raise Refused
                self.rows.pop(name, None)


def name_of(op: Any) -> Any:
    match op:
        case SetValue(name=name) | DeleteValue(name=name):
            return Table.VALUE, (name,)
        case UpdateConfig(guild=guild) | DeleteConfig(guild=guild):
            return Table.CONFIG, (guild,)
        case UpdateMember(guild=guild, user=user) | DeleteMember(guild=guild, user=user):
            return Table.MEMBER, (guild, user)
        case BanUser(user=user, scope=scope) | UnbanUser(user=user, scope=scope):
            return Table.BAN, (user, scope)
        case SetFloor(account=account):
            return "floor", account
    return None


def fresh(op: Any, number: int) -> Any:
    """The operation with values that no other has, so that each changes something."""
    match op:
        case SetValue(name=name):
            return SetValue(name, number)
        case UpdateConfig(guild=guild):
            return UpdateConfig(guild, fields=dict.fromkeys(op.fields, number))
        case UpdateMember(guild=guild, user=user):
            return UpdateMember(guild, user, fields=dict.fromkeys(op.fields, number))
        case BanUser(user=user, scope=scope):
            return BanUser(user, scope, f"why {number}")
    return op


class AnySequence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world, self.lmdb = World(), LmdbView(self.folder)
        self.place = Place(0, GENESIS, 0)
        self.done: dict[int, tuple[Any, ...]] = {}
        self.undoes: dict[int, int] = {}
        self.effective: dict[int, bool] = {}
        self.number = 0

    def submit(self, *ops: Any) -> int:
        """The lsn. Raises StateError, from both views alike."""
        self.number += 1
        tx = self.world.tx(*ops)
        try:
            mine = apply(self.lmdb, self.world, tx, self.number, self.place)
        except StateError as error:
            with pytest.raises(type(error)):
                self.world.submit(tx, self.number)
            raise
        assert self.world.submit(tx, self.number) == mine
        assert mine.entry is not None
        assert fault(mine.entry, self.place.digest) == ""
        self.lmdb.write(mine.writes)
        self.place = Place(mine.lsn, mine.entry.digest, mine.entry.at_ms)
        self.effective[mine.lsn] = True
        return mine.lsn

    def model(self) -> Model:
        model = Model()
        for lsn, ops in self.done.items():
            if self.effective[lsn]:
                for op in ops:
                    model.do(op, strict=False)
        return model

    @rule(ops=transactions)
    def transact(self, ops: list[Any]) -> None:
        ops = [fresh(op, self.number + place * 1_000_000) for place, op in enumerate(ops)]
        model = self.model()
        # Accounts stay open where what opened them is rolled back.
        for key in self.world.view.rows:
            if key[1] == Table.ACCOUNT:
                model.balances.setdefault(str(parse_key(key)[1][0]), 0)
        try:
            for op in ops:
                model.do(op)
        except Refused:
            with pytest.raises(StateError):
                self.submit(*ops)
        else:
            self.done[self.submit(*ops)] = tuple(ops)

    @precondition(lambda self: self.effective)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        tx = data.draw(st.sampled_from(sorted(self.effective, reverse=True)))
        try:
            self.undoes[self.submit(Rollback(tx))] = tx
        except AlreadyUndone:
            assert (
                not self.effective[tx] or not self.effective[self.target(tx)] or tx in self.undoes
            )
        except UndoConflict:
            assert tx not in self.done or self.newer(tx)
        except NotUndoable:
            payload = self.world.entries[tx].payload()
            assert payload is not None
            assert payload.undo == ()
        except InsufficientFunds:
            assert any(
                isinstance(op, Transfer | Deposit | Withdraw | SetFloor)
                for op in self.done[self.base(tx)]
            )
        else:
            assert self.effective[tx]
            assert tx not in self.done or not self.newer(tx)
            self.set_effective(tx, False)

    def target(self, tx: int) -> int:
        return self.undoes.get(tx, tx)

    def base(self, tx: int) -> int:
        while tx in self.undoes:
            tx = self.undoes[tx]
        return tx

    def set_effective(self, tx: int, now: bool) -> None:
        self.effective[tx] = now
        if tx in self.undoes:
            self.set_effective(self.undoes[tx], not now)

    def newer(self, tx: int) -> bool:
        """Whether a later transaction that stands touches a row of this one."""
        touched = {name_of(op) for op in self.done[tx]} - {None}
        return any(
            lsn > tx and self.effective[lsn] and touched & {name_of(op) for op in ops}
            for lsn, ops in self.done.items()
        )

    @invariant()
    def the_rows_are_those_of_the_model(self) -> None:
        model = self.model()
        found: dict[Any, Any] = {}
        for key, data in self.world.view.rows.items():
            table, parts = parse_key(key)
            if table is Table.ACCOUNT:
                row = read(Account, data)
                assert row is not None
                assert row.balance == model.balances.get(str(parts[0]), 0)
                assert row.floor == model.floors[str(parts[0])]
                assert row.balance >= row.floor
            elif table is Table.VALUE:
                found[table, parts] = read(Value, data).value  # type: ignore[union-attr]
            elif table is Table.BAN:
                found[table, parts] = read(Ban, data).reason  # type: ignore[union-attr]
            elif table in (Table.CONFIG, Table.MEMBER):
                found[table, parts] = read(Record, data).fields  # type: ignore[union-attr]
            else:
                assert table is Table.TOTAL or table in BOOKKEEPING
        assert found == model.rows
        sums, findings = audit(self.world.view)
        assert findings == []
        assert sums.balance == model.created

    def teardown(self) -> None:
        assert self.lmdb.rows() == self.world.view.rows
        tables, _ = audit(self.lmdb)
        log, findings = audit_log(self.world.log())
        assert (findings, compare(tables, log)) == ([], [])
        self.lmdb.env.close()
        shutil.rmtree(self.folder)


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
TestAnySequence = pytest.mark.slow(TestAnySequence)
