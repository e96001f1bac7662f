"""Shortening the log: only what a verified snapshot has, a piece at a time.

The base keeps the digest of the last record that went, so the chain begins there.
"""

from __future__ import annotations

from typing import Final

import lmdb

from shard_node.state.files import (
    BASE_KEY,
    LOG,
    META,
    Base,
    RowDamaged,
    lsn_key,
    read_base,
    unpack,
    write_mark,
)
from shard_node.state.log import Entry, erased, read_entry, write_entry
from shard_node.state.machine import DONE_KEPT
from store.errors import SnapshotRefused, StoreDamaged
from store.snapshot import Manifest
from store.state import StateStore
from store.statecommit import Handles, Work, fetch, put

KEPT_MIN: Final = DONE_KEPT + 1
"""Records that always stay: ``apply`` reads the one whose transaction it forgets."""
PIECE: Final = 500
"""Records, or rows, in one commit: about a millisecond."""


def plan(store: StateStore, manifest: Manifest, keep: int = 0) -> int:
    """The lsn up to which the log may go, behind a snapshot that was *verified*; 0: nothing may.

    ``keep``: so many of the newest records stay (KEPT_MIN at least). Raises SnapshotRefused
    where the snapshot is not of this log.
    """
    mark, base = store.place(), store.base()
    up_to = min(manifest.lsn, mark.lsn - max(keep, KEPT_MIN))
    mine = store.entry(manifest.lsn)
    digest = base.digest if manifest.lsn == base.lsn else mine.digest if mine else b""
    if manifest.lsn and digest.hex() != manifest.digest:
        raise SnapshotRefused(f"record {manifest.lsn} of the snapshot is not the one of this log")
    return max(up_to, 0) if up_to > base.lsn else 0


def trimming(up_to: int) -> Work:
    """Work for a batch of the writer's: the next PIECE records up to and including ``up_to`` go.

    To be submitted until ``StateStore.base().lsn`` is ``up_to``.
    """

    def work(txn: lmdb.Transaction, handles: Handles) -> None:
        base = read_base(fetch(txn, handles[META], BASE_KEY))
        last: Entry | None = None
        for lsn in range(base.lsn + 1, min(up_to, base.lsn + PIECE) + 1):
            key = lsn_key(lsn)
            data = fetch(txn, handles[LOG], key)
            if data is None:
                raise StoreDamaged(f"record {lsn} of the log is not there")
            last = read_entry(data)
            txn.delete(key, db=handles[LOG])
        if last is not None:
            new = Base(last.lsn, last.digest, last.at_ms)
            put(txn, handles[META], BASE_KEY, write_mark(new))

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
