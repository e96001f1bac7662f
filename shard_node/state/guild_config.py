"""Configurations of guilds: one record each, whose fields the bot's author declares."""

from __future__ import annotations

from typing import Any

from shard_node.state import records
from shard_node.state.context import Context
from shard_node.state.keys import Table, key_of
from shard_node.state.records import Delete, Update


class UpdateConfig(Update, frozen=True, kw_only=False, tag="update_config"):
    """Update a guild's configuration, which is made where it is new."""

    guild: int


class DeleteConfig(Delete, frozen=True, kw_only=False, tag="delete_config"):
    """Delete a guild's configuration."""

    guild: int


def apply_update(op: UpdateConfig, context: Context) -> dict[str, Any]:
    """The version now. Raises BadName, BadValue, VersionConflict, TooLarge."""
    return records.update(
        op, key_of(Table.CONFIG, op.guild), f"configuration of guild {op.guild}", context
    )


def apply_delete(op: DeleteConfig, context: Context) -> dict[str, Any]:
    """Raises BadName, NotThere, VersionConflict."""
    return records.delete(
        op, key_of(Table.CONFIG, op.guild), f"configuration of guild {op.guild}", context
    )
