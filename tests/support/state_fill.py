"""A long log without the long way: the records and rows that transfers leave, in bulk.

They are what ``apply`` would have made of the same transfers, so `state check` finds nothing.
What is made is put into LMDB in large sorted pieces, and flushed once at the end.

python -m tests.support.state_fill FOLDER RECORDS      makes it, or makes it longer
python -m tests.support.state_fill FOLDER              opens it and says what that took
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

import store.engine
from shard_node.state.economy import RECENT_MAX, Account, Deposit, Total, Touched, Transfer
from shard_node.state.files import LOG, MARK_KEY, META, ROWS, Mark, lsn_key, pack, write_mark
from shard_node.state.keys import Table, key_of
from shard_node.state.log import Entry, Payload, make_entry, write_entry
from shard_node.state.rows import read, write
from shard_node.state.tx import Actor, new_op_id
from shard_node.state.undo import Give, Recount
from store.state import StateStore

GROUP = 50_000
"""Records in a commit: the more, the nearer together its rows lie."""
START_MS = 1_700_000_000_000
GIVEN = 1_000_000
NAMES = [f"user:{number}" for number in range(100_000, 101_000)]
ACTOR = Actor("fill")

_account_keys = {name: key_of(Table.ACCOUNT, name) for name in NAMES}
_total_key = key_of(Table.TOTAL, "source", "deposit")


class Filler:
    """Goes on where the state ends. Its first records are deposits, the rest transfers."""

    def __init__(self, state: StateStore, records: int) -> None:
        self._store = state
        self._random = random.Random(records)
        self.lsn, self._digest, at_ms = state.place().place
        self._at_ms = max(at_ms, START_MS)
        self._last = self.lsn + records
        self._accounts: dict[str, list[int]] = {}
        self._recent: dict[str, tuple[int, ...]] = {}
        for name, key in _account_keys.items():
            row = read(Account, state.view.get(key))
            self._accounts[name] = [0, 0, 0] if row is None else [row.version, row.lsn, row.balance]
            self._recent[name] = () if row is None else row.recent
        self._rows: dict[bytes, bytes] = {}

    def fill(self) -> None:
        while self.lsn < self._last:
            due = range(self.lsn + 1, min(self.lsn + GROUP, self._last) + 1)
            self._commit([self._next(lsn) for lsn in due])

    def _next(self, lsn: int) -> Entry:
        """The record of one transaction; its rows wait for the commit."""
        self.lsn, self._at_ms = lsn, self._at_ms + 1
        opened = lsn <= len(NAMES)
        payload = self._deposit(NAMES[lsn - 1]) if opened else self._transfer()
        op_id = new_op_id(self._at_ms, self._random.randbytes(16))
        salt = self._random.randbytes(16)
        minted = GIVEN if opened else 0
        entry = make_entry(lsn, self._at_ms, op_id, payload, salt, self._digest, minted)
        self._digest = entry.digest
        return entry

    def _deposit(self, name: str) -> Payload:
        left = self._give(name, GIVEN)
        total = Total(self.lsn, self.lsn, self.lsn, self.lsn * GIVEN)
        self._rows[_total_key] = write(total)
        undo = (Give(name, -GIVEN), Recount("source", "deposit", -GIVEN))
        return Payload(ACTOR, (Deposit(name, GIVEN),), undo, 0, ({"balance": left},))

    def _transfer(self) -> Payload:
        """From one who has it."""
        a, b = self._random.sample(NAMES, 2)
        amount = 1 + self.lsn % 100
        if self._accounts[a][2] < amount:
            a, b = b, a
        undo = (Give(a, amount), Give(b, -amount))
        result = {"source": self._give(a, -amount), "target": self._give(b, amount)}
        return Payload(ACTOR, (Transfer(a, b, amount),), undo, 0, (result,))

    def _give(self, name: str, amount: int) -> int:
        account = self._accounts[name]
        account[0], account[1], account[2] = account[0] + 1, self.lsn, account[2] + amount
        recent = self._recent[name]
        if len(recent) == RECENT_MAX:
            older = write(Touched(1, recent[-1], recent[-1], recent))
            self._rows[key_of(Table.HISTORY, f"account:{name}", recent[-1])] = older
            recent = ()
        self._recent[name] = (*recent, self.lsn)
        return account[2]

    def _commit(self, entries: list[Entry]) -> None:
        rows = self._rows
        for name, (version, lsn, balance) in self._accounts.items():
            if lsn > 0:
                rows[_account_keys[name]] = write(
                    Account(version, lsn, lsn, balance, recent=self._recent[name])
                )
        records = [(lsn_key(entry.lsn), write_entry(entry)) for entry in entries]
        mark = Mark(self.lsn, self._digest, self._at_ms)
        with self._store.env.begin(write=True) as txn:
            _put(txn.cursor(self._store.handles[ROWS]), sorted(rows.items()))
            _put(txn.cursor(self._store.handles[LOG]), records, append=True)
            txn.put(MARK_KEY, pack(MARK_KEY, write_mark(mark)), db=self._store.handles[META])
        self._rows = {}


def _put(cursor: lmdb.Cursor, rows: Iterable[tuple[bytes, bytes]], **how: bool) -> None:
    packed = [(key, pack(key, row)) for key, row in rows]
    _, added = cursor.putmulti(packed, **how)
    assert added == len(packed)


@contextmanager
def unflushed() -> Iterator[None]:
    """Environments opened within flush only when they are told to."""
    real = lmdb.open
    store.engine.lmdb.open = partial(real, sync=False)
    try:
        yield
    finally:
        store.engine.lmdb.open = real


def fill(folder: Path, records: int) -> None:
    """Add so many records, with the rows that they leave. Nobody may have it open."""
    with unflushed():
        state = StateStore.open(folder)
    Filler(state, records).fill()
    state.env.sync(True)
    state.close()


def anonymous_bytes(pid: int | str = "self") -> int:
    """Of a process: the memory that no file backs."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise AssertionError("smaps_rollup without Anonymous")


def measure(folder: Path) -> dict[str, Any]:
    """How long opening takes until the first answers, and the memory that it leaves in use."""
    before, start = anonymous_bytes(), time.perf_counter()
    state = StateStore.open(folder)
    mark = state.place()
    last = state.entry(mark.lsn)
    opened_s = time.perf_counter() - start
    assert last is not None
    rng = random.Random(1)
    start = time.perf_counter()
    for _ in range(2000):
        assert state.entry(rng.randrange(1, mark.lsn + 1)) is not None
        state.view.get(key_of(Table.ACCOUNT, rng.choice(NAMES)))
    read_us = (time.perf_counter() - start) / 4000 * 1e6
    grown = anonymous_bytes() - before
    state.close()
    size = (folder / "data.mdb").stat().st_size
    return {
        "records": mark.lsn,
        "file_mib": size >> 20,
        "open_s": round(opened_s, 4),
        "read_us": round(read_us, 1),
        "anonymous_kib": grown >> 10,
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fill(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        print(json.dumps(measure(Path(sys.argv[1]))))
