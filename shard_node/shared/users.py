"""Users: ``node.users``.

    node.users.get(user_id)            # a dict of fields, or None
    await node.users.update(user_id, note="x", if_version=3)

What is the same of them in all guilds.
"""

from __future__ import annotations

from shard_node.shared.changes import UserChanged
from shard_node.shared.records import Records
from shard_node.state.keys import Table
from shard_node.state.users import DeleteUser, UpdateUser


class Users(Records):
    """Records by user; a change of one is a UserChanged."""

    table = Table.USER
    name = "users"
    names = ("user",)
    change = UserChanged
    _updates = UpdateUser
    _deletes = DeleteUser
