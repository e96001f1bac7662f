"""Records: rows that are a map of fields, updated field by field.

Guild configurations, members, permissions and users have this shape.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shard_node.state.context import Context, check_version
from shard_node.state.errors import BadValue, NotThere
from shard_node.state.plain import check_fields, same
from shard_node.state.rows import Row


class Record(Row, frozen=True):
    """A map of fields: plain data by name."""

    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Update(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Root of the updates: set ``fields``, take ``remove`` away. ``if_version``: only where the
    record has that one (0: is not there)."""

    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()
    if_version: int | None = None


class Delete(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Root of the deletions."""

    if_version: int | None = None


def update(op: Update, key: bytes, what: str, context: Context) -> dict[str, Any]:
    """The version now. An update that changes nothing is none: the version stays.

    Raises BadValue, VersionConflict, TooLarge.
    """
    both = [name for name in op.remove if name in op.fields]
    if both or not (op.fields or op.remove):
        why = f"{both[0]} is set and removed" if both else "no field is named"
        raise BadValue(f"{what}: {why}")
    row = context.get(Record, key)
    check_version(row, op.if_version, what)
    old = {} if row is None else row.fields
    new = {name: value for name, value in (old | op.fields).items() if name not in op.remove}
    if row is None and not new:
        return {"version": 0}
    if row is not None and same(old, new):
        return {"version": row.version}
    check_fields(new, what)
    return {"version": context.put(key, Record(fields=new))}


def delete(op: Delete, key: bytes, what: str, context: Context) -> dict[str, Any]:
    """Raises NotThere, VersionConflict."""
    row = context.get(Record, key)
    check_version(row, op.if_version, what)
    if row is None:
        raise NotThere(f"there is no {what}")
    context.delete(key)
    return {"version": 0}
