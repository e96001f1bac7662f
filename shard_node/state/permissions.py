"""Permissions in guilds, of a role or of a user: ``target`` is the id of either."""

from __future__ import annotations

from typing import Any

from shard_node.state import records
from shard_node.state.context import Context
from shard_node.state.keys import Table, key_of
from shard_node.state.records import Delete, Update


class UpdatePermission(Update, frozen=True, kw_only=False, tag="update_permission"):
    """Update a role's or a user's permissions in a guild, which is made where it is new."""

    guild: int
    target: int


class DeletePermission(Delete, frozen=True, kw_only=False, tag="delete_permission"):
    """Delete a role's or a user's permissions in a guild."""

    guild: int
    target: int


def apply_update(op: UpdatePermission, context: Context) -> dict[str, Any]:
    """The version now. Raises BadName, BadValue, VersionConflict, TooLarge."""
    return records.update(op, *_place(op), context)


def apply_delete(op: DeletePermission, context: Context) -> dict[str, Any]:
    """Raises BadName, NotThere, VersionConflict."""
    return records.delete(op, *_place(op), context)


def _place(op: UpdatePermission | DeletePermission) -> tuple[bytes, str]:
    """Its key, and what errors call it."""
    return key_of(
        Table.PERMISSION, op.guild, op.target
    ), f"permissions of {op.target} in guild {op.guild}"
