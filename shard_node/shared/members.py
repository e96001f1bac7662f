"""Members of guilds: ``node.members``.

    node.members.get(guild_id, user_id)            # a dict of fields, or None
    await node.members.update(guild_id, user_id, note="x", if_version=3)

What gateway events tell of them comes here for the fields that ``node.feed`` names.
"""

from __future__ import annotations

from shard_node.shared.changes import MemberChanged
from shard_node.shared.records import Records
from shard_node.state.keys import Table
from shard_node.state.members import DeleteMember, UpdateMember


class Members(Records):
    """Records by guild and user; a change of one is a MemberChanged."""

    table = Table.MEMBER
    name = "members"
    names = ("guild", "user")
    change = MemberChanged
    _updates = UpdateMember
    _deletes = DeleteMember
