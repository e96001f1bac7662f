"""What goes with records that are trimmed from the log, and what has to stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shard_node.state.keys import Table, gone_key, key_of, parse_key
from shard_node.state.log import Entry, Payload
from shard_node.state.opids import DONE_KEPT
from shard_node.state.undo import Floor, Give, Mark, Restore, Undo

RECORDS_KEPT_MIN: Final = DONE_KEPT + 1
"""So many of the newest records always stay, and all whose op ids are known: one that is sent
again is answered from its record."""

_ACCOUNT_FIELDS: Final = ("account", "source", "target")


def left_by(entry: Entry) -> Iterator[bytes]:
    """Keys of rows that a record may have left for its own sake, and that ``outlived`` may
    find to go with it. Of an erased payload nobody knows them any more: those are swept."""
    payload = entry.payload()
    if payload is not None:
        found = dict.fromkeys(_named(payload, entry.lsn))
        for instruction in payload.undo:
            found.update(dict.fromkeys(_left(instruction, entry.lsn)))
        yield from found


def marked_by(entry: Entry) -> Iterator[bytes]:
    """Keys of the marks of rows that a record may have deleted."""
    payload = entry.payload()
    for instruction in () if payload is None else payload.undo:
        if isinstance(instruction, Restore):
            yield gone_key(instruction.key)


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
