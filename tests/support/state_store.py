"""A state on disk with its writer, and the model on a dict that it must equal."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from shard_node.state.economy import Deposit, Transfer
from shard_node.state.errors import StateError
from shard_node.state.files import Mark
from shard_node.state.machine import Applied, MemoryState, apply
from shard_node.state.tx import Actor, Tx
from shard_node.state.values import DeleteValue, SetValue
from shard_node.state.views import Staged
from store.errors import StoreError
from store.state import StateStore
from store.statewriter import StateWriter

WAIT_S = 30
STAGED_MAX = 500
"""Records of a Pipeline that are not read from the file yet."""
SETTLED_S = 0.2


class Ends:
    """What the writer reports."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, StoreError | None]] = []
        self._changed = threading.Condition()

    def __call__(self, tokens: tuple[int, ...], error: StoreError | None) -> None:
        with self._changed:
            self.ends += [(token, error) for token in tokens]
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[int, StoreError | None]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ends) >= count, WAIT_S)
            return list(self.ends)


class Rig:
    """``do`` applies to the model and gives what it wrote to the writer; ``flush`` waits."""

    def __init__(self, folder: Path, seed: int = 0, **options: Any) -> None:
        self.folder = folder
        self.store = StateStore.open(folder, **options)
        self.ends = Ends()
        self.writer = StateWriter(self.store, self.ends)
        self.model = MemoryState()
        self.random = random.Random(seed)
        self.submitted = 0
        self.now_ms = 1_000_000

    def tx(self, *ops: Any, reason: str = "") -> Tx:
        data = self.random.randbytes
        return Tx(data(16), data(16), ops, Actor("test", 1, reason))

    def do(self, *ops: Any, reason: str = "", **extra: Any) -> Applied:
        """One transaction. Raises a StateError; nothing is given to the writer then."""
        self.now_ms += self.random.randrange(3)
        applied = self.model.submit(self.tx(*ops, reason=reason), self.now_ms)
        self.give(applied.writes, (applied.entry,), Mark(*self.model.place), **extra)
        return applied

    def give(self, *batch: Any, **extra: Any) -> int:
        self.submitted += 1
        self.writer.submit(self.submitted, *batch, **extra)
        return self.submitted

    def flush(self) -> None:
        """All are durable, and seen."""
        errors = [error for _, error in self.ends.wait(self.submitted) if error is not None]
        assert errors == []
        assert self.writer.settle(WAIT_S)
        self.store.renew()

    def close(self) -> None:
        assert self.writer.close(WAIT_S)
        self.store.close()

    def fill(self, count: int) -> None:
        """Transactions of several kinds, some of them refused."""
        for account in "abcdef":
            self.do(Deposit(account, 1000))
        while self.model.place.lsn < count:
            first, second = self.random.sample("abcdef", 2)
            name = f"name{self.random.randrange(40)}"
            kinds: list[Any] = [
                Transfer(first, second, self.random.randrange(1, 200)),
                SetValue(name, "x" * self.random.randrange(300)),
                DeleteValue(name),
            ]
            try:
                self.do(self.random.choice(kinds))
            except StateError:
                continue
        self.flush()


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Rig]:
    rig = Rig(folder, **options)
    try:
        yield rig
    finally:
        rig.close()


def contents(store: StateStore) -> tuple[dict[bytes, bytes], list[Any]]:
    """All rows and all records, read through the checksums."""
    return dict(store.view.scan(b"")), list(store.entries(0, 1 << 30))


class Pipeline:
    """The way of a broker in small: transactions are applied on top of those that wait, and
    those since the last ``settle`` are one batch."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.ends = Ends()
        self.writer = StateWriter(store, self.ends)
        self._begin()

    def _begin(self) -> None:
        """On what the file shows."""
        self.store.renew()
        self.staged = Staged(self.store.view)
        self.place = self.store.place().place
        self._entries: dict[int, Any] = {}
        self._group: list[Any] = []
        self._writes: dict[bytes, bytes | None] = {}
        self._failed = False

    def entry(self, lsn: int) -> Any:
        return self._entries.get(lsn) or self.store.entry(lsn)

    def applied(self, op_id: bytes) -> int | None:
        """Slowly, and so surely right."""
        found = [entry.lsn for entry in self._entries.values() if entry.op_id == op_id]
        found += [entry.lsn for entry in self.store.entries(0, 1 << 30) if entry.op_id == op_id]
        return found[0] if found else None

    def submit(self, tx: Tx, at_ms: int) -> Applied:
        """Raises a StateError."""
        if self._failed:
            assert self.writer.settle(WAIT_S)
            self._begin()
        applied = apply(self.staged, self, tx, at_ms, self.place)
        if applied.entry is not None:
            for key, row in applied.writes.items():
                self.staged.put(key, row)
            self._entries[applied.lsn] = applied.entry
            self.place = type(self.place)(applied.lsn, applied.entry.digest, applied.entry.at_ms)
            self._group.append(applied.entry)
            self._writes.update(applied.writes)
        return applied

    def settle(self) -> list[tuple[int, StoreError | None]]:
        """Have what was submitted made durable: each lsn with what became of it. After an error
        the next transaction begins anew on what is kept."""
        group, writes = self._group, self._writes
        self._group, self._writes = [], {}
        self.writer.submit(self.place.lsn, writes, tuple(group), Mark(*self.place))
        ((_, error),) = self.ends.wait(1)
        self.ends.ends.clear()
        if error is not None:
            self.writer.reset()
            self._failed = True
        elif len(self._entries) > STAGED_MAX and self.writer.settle(SETTLED_S):
            self._begin()  # not while the disk is full
        return [(entry.lsn, error) for entry in group]


def plant(folder: Path, name: bytes, key: bytes, stored: bytes | None) -> None:
    """Bytes as they lie in the file, past all checksums."""
    with lmdb.open(str(folder), max_dbs=3, lib_version=0) as env:
        db = env.open_db(name)
        with env.begin(write=True, db=db) as txn:
            if stored is None:
                txn.delete(key)
            else:
                txn.put(key, stored)
