"""Named values: what ``shardctl state set`` keeps, plain data of up to a row's size."""

from __future__ import annotations

from typing import Any

import msgspec

from shard_node.state.context import Context, check_version
from shard_node.state.errors import NotThere
from shard_node.state.keys import Table, key_of
from shard_node.state.plain import check_plain
from shard_node.state.rows import Row


class Value(Row, frozen=True):
    """A value: plain data (``plain.check_plain``)."""

    value: Any = None


class SetValue(msgspec.Struct, array_like=True, frozen=True, tag="set_value"):
    """Set a named value. ``if_version``: only where it has that one (0: is not there)."""

    name: str
    value: Any
    if_version: int | None = None


class DeleteValue(msgspec.Struct, array_like=True, frozen=True, tag="delete_value"):
    """Delete a named value."""

    name: str
    if_version: int | None = None


def apply_set_value(op: SetValue, context: Context) -> dict[str, Any]:
    """The new version. Raises VersionConflict, BadValue, TooLarge."""
    check_plain(op.value, f"value {op.name}")
    key = key_of(Table.VALUE, op.name)
    check_version(context.get(Value, key), op.if_version, f"value {op.name}")
    return {"version": context.put(key, Value(value=op.value))}


def apply_delete_value(op: DeleteValue, context: Context) -> dict[str, Any]:
    """Raises NotThere, VersionConflict."""
    key = key_of(Table.VALUE, op.name)
    row = context.get(Value, key)
    check_version(row, op.if_version, f"value {op.name}")
    if row is None:
        raise NotThere(f"there is no value {op.name}", name=op.name)
    context.delete(key)
    return {"version": 0}
