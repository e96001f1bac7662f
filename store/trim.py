"""Shortening the log a piece at a time, and erasing payloads in it.

How far it may go is not decided here (``broker.services.retention``). The base keeps the digest
of the last record that went, so the chain begins there.
"""

from __future__ import annotations

from typing import Final

import lmdb

from shard_node.state.errors import StateError
from shard_node.state.files import (
    BASE_KEY,
    LOG,
    META,
    ROWS,
    UNREADABLE,
    Base,
    RowDamaged,
    lsn_key,
    read_base,
    unpack,
    write_mark,
)
from shard_node.state.log import Entry, erased, fault, read_entry, write_entry
from shard_node.state.sweeping import outlived
from shard_node.state.trimming import left_by
from store.errors import StoreDamaged
from store.statecommit import Handles, Work, fetch, put

PIECE: Final = 64
"""Records in one commit: what waits behind it waits a millisecond."""


def trimming(up_to: int, piece: int = PIECE) -> Work:
    """Work for a batch of the writer's: the next records up to and including ``up_to`` go, at
    most ``piece``, with the rows that tell of them alone.

    To be submitted until ``StateStore.base().lsn`` is ``up_to``. It ends before a record that
    is damaged, which is not swept away: then the base does not move, and nobody else's batch
    in the same commit fails for it.
    """

    def work(txn: lmdb.Transaction, handles: Handles) -> None:
        last = base = read_base(fetch(txn, handles[META], BASE_KEY))
        for lsn in range(base.lsn + 1, min(up_to, base.lsn + piece) + 1):
            try:
                entry = _entry(txn, handles, lsn, last.digest)
                rows = [key for key in left_by(entry) if _goes(txn, handles, key, lsn)]
            except (RowDamaged, StateError, *UNREADABLE):
                break
            for key in rows:
                txn.delete(key, db=handles[ROWS])
            txn.delete(lsn_key(lsn), db=handles[LOG])
            last = Base(lsn, entry.digest, entry.at_ms)
        if last is not base:
            put(txn, handles[META], BASE_KEY, write_mark(last))

    return work


def erasing(lsns: tuple[int, ...]) -> Work:
    """Work that erases the payloads of these records; the chain stays whole. Those that are not
    there are left out: trimmed, or erased before. It may go with the batch whose record says so.

    What was erased lies in free pages of the file until they are used again; a compacted copy
    (a snapshot) has none of it. Earlier snapshots still have it.
    """

    def work(txn: lmdb.Transaction, handles: Handles) -> None:
        log = handles[LOG]
        for lsn in lsns:
            key = lsn_key(lsn)
            stored = txn.get(key, db=log)
            if stored is None:
                continue
            try:
                entry = read_entry(unpack(key, bytes(stored)))
            except RowDamaged as error:
                raise StoreDamaged(str(error)) from error
            if entry.body is not None:
                put(txn, log, key, write_entry(erased(entry)))

    return work


def _entry(txn: lmdb.Transaction, handles: Handles, lsn: int, previous: bytes) -> Entry:
    data = fetch(txn, handles[LOG], lsn_key(lsn))
    if data is None:
        raise RowDamaged(f"record {lsn} of the log is not there")
    entry = read_entry(data)
    why = fault(entry, previous)
    if why or entry.lsn != lsn:
        raise RowDamaged(f"record {lsn} of the log: {why}")
    return entry


def _goes(txn: lmdb.Transaction, handles: Handles, key: bytes, lsn: int) -> bool:
    row = fetch(txn, handles[ROWS], key)
    return row is not None and outlived(key, row, lsn + 1)
