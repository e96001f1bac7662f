"""What goes with records that are trimmed from the log."""

from __future__ import annotations

from typing import Final

from shard_node.state.keys import Table, parse_key
from shard_node.state.machine import DONE_KEPT
from shard_node.state.rollback import Undone
from shard_node.state.rows import read

RECORDS_KEPT_MIN: Final = DONE_KEPT
"""``apply`` reads so many of the last records to forget op ids: they are never trimmed."""


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
