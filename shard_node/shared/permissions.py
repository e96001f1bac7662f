"""Permissions of roles and users in guilds: ``node.permissions``.

    node.permissions.get(guild_id, subject_id)            # a dict of fields, or None
    await node.permissions.update(guild_id, subject_id, note="x", if_version=3)

``subject`` is the id of a role or of a user.
"""

from __future__ import annotations

from shard_node.shared.changes import PermissionsChanged
from shard_node.shared.records import Records
from shard_node.state.keys import Table
from shard_node.state.permissions import DeletePermission, UpdatePermission


class Permissions(Records):
    """Records by guild and subject; a change of one is a PermissionsChanged."""

    table = Table.PERMISSION
    name = "permissions"
    names = ("guild", "subject")
    change = PermissionsChanged
    _updates = UpdatePermission
    _deletes = DeletePermission
