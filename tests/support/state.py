"""A state in memory to apply operations to, with ids of its own; and a view on LMDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from shard_node.state.keys import Part, Table, key_of
from shard_node.state.machine import Applied, MemoryState
from shard_node.state.rows import Row, read
from shard_node.state.tx import Actor, Tx

R = TypeVar("R", bound=Row)
START_MS = 1_700_000_000_000


class World(MemoryState):
    """``do`` applies a transaction of its own at ``now_ms``."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = START_MS
        self._ids = count(1)

    def tx(self, *ops: Any, user: int = 0, reason: str = "why not") -> Tx:
        number = next(self._ids)
        return Tx(
            number.to_bytes(16, "big"), number.to_bytes(16, "little"), ops, Actor("a", user, reason)
        )

    def do(self, *ops: Any, user: int = 0, reason: str = "why not") -> Applied:
        return self.submit(self.tx(*ops, user=user, reason=reason), self.now_ms)

    def result(self, *ops: Any, **more: Any) -> Any:
        """Of the last operation."""
        return self.do(*ops, **more).results[-1]

    def row(self, kind: type[R], table: Table, *parts: Part) -> R | None:
        return read(kind, self.view.get(key_of(table, *parts)))

    def balance(self, account: str) -> int:
        from shard_node.state.economy import Account

        found = self.row(Account, Table.ACCOUNT, account)
        assert found is not None
        return found.balance

    def log(self) -> list[Any]:
        return [self.entries[lsn] for lsn in sorted(self.entries)]


class LmdbView:
    """Rows in a real LMDB; not durable, and not the store: only what ``apply`` needs."""

    def __init__(self, folder: Path) -> None:
        self.env = lmdb.open(
            str(folder), map_size=64 << 20, sync=False, lock=False, max_dbs=0, lib_version=0
        )

    def get(self, key: bytes) -> bytes | None:
        with self.env.begin() as txn:
            found: bytes | None = txn.get(key)
        return found

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        rows = []
        with self.env.begin() as txn, txn.cursor() as cursor:
            more = cursor.set_range(max(prefix, after))
            while more and cursor.key().startswith(prefix):
                if cursor.key() > after:
                    rows.append((cursor.key(), cursor.value()))
                more = cursor.next()
        return iter(rows)

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        with self.env.begin(write=True) as txn:
            for key, row in changes.items():
                if row is None:
                    txn.delete(key)
                else:
                    txn.put(key, row)

    def rows(self) -> dict[bytes, bytes]:
        with self.env.begin() as txn, txn.cursor() as cursor:
            return dict(cursor)
