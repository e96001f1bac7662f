"""Users: what is the same of them in all guilds."""

from __future__ import annotations

from typing import Any

from shard_node.state import records
from shard_node.state.context import Context
from shard_node.state.keys import Table, key_of
from shard_node.state.records import Delete, Update


class UpdateUser(Update, frozen=True, kw_only=False, tag="update_user"):
    """Update a user, which is made where it is new."""

    user: int


class DeleteUser(Delete, frozen=True, kw_only=False, tag="delete_user"):
    """Delete a user."""

    user: int


def apply_update(op: UpdateUser, context: Context) -> dict[str, Any]:
    """The version now. Raises BadName, BadValue, VersionConflict, TooLarge."""
    return records.update(op, key_of(Table.USER, op.user), f"user {op.user}", context)


def apply_delete(op: DeleteUser, context: Context) -> dict[str, Any]:
    """Raises BadName, NotThere, VersionConflict."""
    return records.delete(op, key_of(Table.USER, op.user), f"user {op.user}", context)
