"""Members of guilds: what a bot wants to know of them on every shard."""

from __future__ import annotations

from typing import Any

from shard_node.state import records
from shard_node.state.context import Context
from shard_node.state.keys import Table, key_of
from shard_node.state.records import Delete, Update


class UpdateMember(Update, frozen=True, kw_only=False, tag="update_member"):
    """Update a member of a guild, which is made where it is new."""

    guild: int
    user: int


class DeleteMember(Delete, frozen=True, kw_only=False, tag="delete_member"):
    """Delete a member of a guild."""

    guild: int
    user: int


def apply_update(op: UpdateMember, context: Context) -> dict[str, Any]:
    """The version now. Raises BadName, BadValue, VersionConflict, TooLarge."""
    return records.update(op, *_place(op), context)


def apply_delete(op: DeleteMember, context: Context) -> dict[str, Any]:
    """Raises BadName, NotThere, VersionConflict."""
    return records.delete(op, *_place(op), context)


def _place(op: UpdateMember | DeleteMember) -> tuple[bytes, str]:
    """Its key, and what errors call it."""
    return key_of(Table.MEMBER, op.guild, op.user), f"member {op.user} of guild {op.guild}"
