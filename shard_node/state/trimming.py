"""What goes with records that are trimmed from the log, and what has to stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shard_node.state.keys import Table, key_of, parse_key
from shard_node.state.log import Entry, Payload
from shard_node.state.opids import DONE_KEPT
from shard_node.state.rollback import Undone
from shard_node.state.rows import read
from shard_node.state.undo import Floor, Give, Mark, Restore, Undo

RECORDS_KEPT_MIN: Final = DONE_KEPT + 1
"""So many of the newest records always stay, and all whose op ids are known: one that is sent
again is answered from its record."""

_ACCOUNT_FIELDS: Final = ("account", "source", "target")


def outlived(key: bytes, row: bytes, first: int) -> bool:
    """Whether a row tells only of records before ``first``, and so may go with them.

    ``apply`` gives the same with it and without it. Marks of deleted rows stay: versions
    continue from them.
    """
    if key[1] == Table.HISTORY:
        lsn = parse_key(key)[1][1]
        return isinstance(lsn, int) and lsn < first
    if key[1] == Table.UNDONE:
        mark = read(Undone, row)
        return mark is not None and mark.lsn < first
    return False


def left_by(entry: Entry) -> Iterator[bytes]:
    """Keys of rows that a record may have left for its own sake, and that ``outlived`` may
    find to go with it. Of an erased payload nobody knows them any more: those stay."""
    payload = entry.payload()
    if payload is not None:
        found = dict.fromkeys(_named(payload, entry.lsn))
        for instruction in payload.undo:
            found.update(dict.fromkeys(_left(instruction, entry.lsn)))
        yield from found


def _named(payload: Payload, lsn: int) -> Iterator[bytes]:
    """The histories of whom the operations name: what comes to nothing has nothing to undo."""
    for op in payload.ops:
        for field in _ACCOUNT_FIELDS:
            name = getattr(op, field, None)
            if isinstance(name, str) and name:
                yield key_of(Table.HISTORY, f"account:{name}", lsn)
        user = getattr(op, "user", None)
        if isinstance(user, int):
            yield key_of(Table.HISTORY, f"user:{user}", lsn)


def _left(instruction: Undo, lsn: int) -> Iterator[bytes]:
    match instruction:
        case Give(account=account) | Floor(account=account):
            yield key_of(Table.HISTORY, f"account:{account}", lsn)
        case Restore(key=key) if key[1] == Table.BAN:
            yield key_of(Table.HISTORY, f"user:{parse_key(key)[1][0]}", lsn)
        case Mark(tx=tx):
            yield key_of(Table.UNDONE, tx)
