"""Sweeping: rows that tell only of records that are gone from the log go as well.

The mark of a deleted row keeps its version, so that no later row under the same name has one
that the old row had. Under ever new names the marks would grow for ever. So the old ones are
removed, by a transaction: the highest version among them stays, one for each table and partition,
and a row without a mark begins above it. Nothing in the log can put such a row back any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from shard_node.state.context import BY_GUILD, Context, index_key
from shard_node.state.errors import BadValue, TooLarge
from shard_node.state.keys import Part, Table, key_of, marked_key, parse_key, swept_key
from shard_node.state.rollback import Undone
from shard_node.state.rows import Row, head, read, write
from shard_node.state.views import Reads

SWEPT_MAX: Final = 256
"""Rows in one transaction."""
TABLES: Final = (Table.HISTORY, Table.UNDONE, Table.GONE)
"""Tables that are swept."""


class Sweep(msgspec.Struct, array_like=True, frozen=True, tag="sweep"):
    """Remove those of ``rows`` (a table of ``TABLES`` and a name, each) that tell of nothing
    after the record ``up_to``, which is gone from the log. Cannot be rolled back, and so is a
    transaction of its own."""

    up_to: int
    rows: tuple[tuple[Part, ...], ...]


def apply_sweep(op: Sweep, context: Context) -> dict[str, Any]:
    """How many marks of deleted rows went. Of the other rows it is not told: where the log is
    applied again some of them are still there. Raises BadValue, BadName, TooLarge."""
    if not 0 < op.up_to < context.lsn:
        raise BadValue(f"{op.up_to} is no record before {context.lsn}")
    if len(op.rows) > SWEPT_MAX:
        text = f"{len(op.rows)} rows to sweep; the limit is {SWEPT_MAX}"
        raise TooLarge(text, count=len(op.rows), limit=SWEPT_MAX)
    context.final = True
    changes = swept(context.view, map(_key, op.rows), op.up_to + 1, context.lsn)
    for key, row in changes.items():
        context.put_raw(key, row, own_way=True)
    return {"marks": sum(key[1] == Table.GONE for key in changes)}


def name_of(key: bytes) -> tuple[Part, ...]:
    """A row as ``Sweep`` names it."""
    table, parts = parse_key(key)
    return (int(table), *parts)


def goes(key: bytes, row: bytes, first: int) -> bool:
    """Whether a row may be swept where ``first`` is the oldest record."""
    if key[1] == Table.GONE:
        return head(row)[1] < first
    return outlived(key, row, first)


def outlived(key: bytes, row: bytes, first: int) -> bool:
    """Whether a row tells only of records before ``first``, and so may go with them.

    ``apply`` gives the same with it and without it. So it is not with marks of deleted rows,
    from which versions continue: they go by a transaction.
    """
    if key[1] == Table.HISTORY:
        lsn = parse_key(key)[1][1]
        return isinstance(lsn, int) and lsn < first
    if key[1] == Table.UNDONE:
        mark = read(Undone, row)
        return mark is not None and mark.lsn < first
    return False


def swept(view: Reads, keys: Iterable[bytes], first: int, lsn: int) -> dict[bytes, bytes | None]:
    """What changes where those of the rows go that may; by the transaction ``lsn``."""
    changes: dict[bytes, bytes | None] = {}
    for key in keys:
        row = view.get(key)
        if row is None or not goes(key, row, first):
            continue
        changes[key] = None
        if key[1] == Table.GONE:
            marked, version = marked_key(key), head(row)[0]
            place = swept_key(marked)
            known = changes.get(place) or view.get(place)
            if known is None or head(known)[0] < version:
                changes[place] = write(Row(version, lsn, lsn))
            if marked[1] in BY_GUILD:  # neither row nor mark is left for it to point to
                changes[index_key(marked)] = None
    return changes


def _key(name: tuple[Part, ...]) -> bytes:
    if len(name) < 2 or name[0] not in TABLES:
        raise BadValue(f"{name!r:.80} is no row that is swept")
    return key_of(Table(name[0]), *name[1:])
