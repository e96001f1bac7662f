"""Changes of the shared state as a bot hears of them: ``node.on(GuildConfigChanged, handler)``.

Each is a view of a STATE_UPDATE of one table. A handler is called once for every change of a
record, in the order of the log; what a node missed while it was not connected is told as one
change of each record, from the last state that it knew to the present one. ``changed`` holds
the new values of the fields that changed, ``removed`` the names of those that are gone. A
version counts the changes of a record from 1; ``new_version`` 0: it was deleted,
``old_version`` 0: it was not there.

What was missed is told with all its fields and ``old_version`` 0, as if it were new, where the
log does not say how it was: of an account always, of all records where the log was trimmed,
a backup restored, or a payload erased. A node that keeps a copy in memory then compares, and
tells what changed. That a person was forgotten meanwhile is told by such a node alone: nothing
is left by which others could know what there was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from shard_node.peer.handlers import register_body
from shard_node.state.keys import Table
from shard_node.wire.bodies import Body
from shard_node.wire.categories import (
    GuildFields,
    GuildInfo,
    MemberFields,
    MemberUpdate,
    RoleInfo,
    StateUpdate,
    UserFields,
    UserUpdate,
)
from shard_node.wire.topics import GUILD_INFO, MEMBER_UPDATE, USER_UPDATE

TABLE_TOPIC: Final = "state:"
"""Followed by a table's name: what the broker sends its changes to."""


class Change(Body, frozen=True, kw_only=True):
    """Root of the changes."""

    changed: dict[str, Any]
    removed: tuple[str, ...] = ()
    old_version: int = 0
    new_version: int = 0
    lsn: int = 0


class GuildConfigChanged(Change, frozen=True, kw_only=True):
    """A guild's configuration changed."""

    guild: int


class MemberChanged(Change, frozen=True, kw_only=True):
    """What is kept of a member changed."""

    guild: int
    user: int


class PermissionsChanged(Change, frozen=True, kw_only=True):
    """What a role or user may do in a guild changed; ``subject`` is its id."""

    guild: int
    subject: int


class UserChanged(Change, frozen=True, kw_only=True):
    """What is kept of a user changed."""

    user: int


class PremiumChanged(Change, frozen=True, kw_only=True):
    """``subject`` ("user:ID" or "guild:ID") got premium, or lost it, or it was prolonged. That
    it ran out is no change."""

    subject: str


class BanChanged(Change, frozen=True, kw_only=True):
    """A user was banned or unbanned in a scope: "global", or a guild's id. That a ban ran out
    is no change."""

    user: int
    scope: int | str


class AccountChanged(Change, frozen=True, kw_only=True):
    """An account's balance or limit changed."""

    account: str


class ValueChanged(Change, frozen=True, kw_only=True):
    """A named value was set or deleted."""

    name: str


def table_topic(table: Table) -> str:
    """The topic of a table's changes."""
    return TABLE_TOPIC + table.name.lower()


def parts_of(table: Table, name: str) -> tuple[int | str, ...]:
    """What names a record of a table, from a STATE_UPDATE's ``key``. Raises ValueError."""
    kinds = _PARTS.get(table)
    if kinds is None:
        return (name,)
    return tuple(
        kind(part) for kind, part in zip(kinds, name.split("/", len(kinds) - 1), strict=True)
    )


def _scope(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


_PARTS: Final[dict[Table, tuple[Callable[[str], int | str], ...]]] = {
    Table.CONFIG: (int,),
    Table.MEMBER: (int, int),
    Table.PERMISSION: (int, int),
    Table.USER: (int,),
    Table.BAN: (int, _scope),
}

CHANGES: Final[dict[Table, type[Change]]] = {
    Table.CONFIG: GuildConfigChanged,
    Table.MEMBER: MemberChanged,
    Table.PERMISSION: PermissionsChanged,
    Table.USER: UserChanged,
    Table.PREMIUM: PremiumChanged,
    Table.BAN: BanChanged,
    Table.ACCOUNT: AccountChanged,
    Table.VALUE: ValueChanged,
}

_updates: Final = msgspec.msgpack.Decoder(StateUpdate)


def _decoder_of(table: Table, kind: type[Change]) -> Callable[[bytes], Change]:
    names = [name for name in kind.__struct_fields__ if name not in Change.__struct_fields__]

    def decode(data: bytes) -> Change:
        update = _updates.decode(data)
        named = dict(zip(names, parts_of(table, update.key), strict=True))
        return kind(
            changed=update.changed,
            removed=update.removed,
            old_version=update.old_version,
            new_version=update.new_version,
            lsn=update.lsn,
            **named,
        )

    return decode


for _table, _kind in CHANGES.items():
    register_body(_kind, table_topic(_table), _decoder_of(_table, _kind))


# --- the protocol's categories, from the tables that gateway events feed

CATEGORIES: Final[dict[Table, str]] = {
    Table.MEMBER: MEMBER_UPDATE,
    Table.USER: USER_UPDATE,
    Table.PERMISSION: GUILD_INFO,
}
"""A handler of the category hears of the table's changes as well."""


def category_of(table: Table, update: StateUpdate) -> Body | None:
    """A change as MEMBER_UPDATE, USER_UPDATE or GUILD_INFO; None where it says nothing of the
    fields that those have."""
    parts = parts_of(table, update.key)
    versions = (update.old_version, update.new_version, update.lsn, update.op)
    gone = update.new_version == 0
    if table is Table.MEMBER:
        member = _fields(MemberFields, update)
        known = gone or member != MemberFields()
        return MemberUpdate(int(parts[0]), int(parts[1]), member, *versions) if known else None
    if table is Table.USER:
        user = _fields(UserFields, update)
        return UserUpdate(int(parts[0]), user, *versions) if gone or user != UserFields() else None
    return _role_changed(int(parts[0]), int(parts[1]), update)


def _role_changed(guild: int, role: int, update: StateUpdate) -> GuildInfo | None:
    """GUILD_INFO holds whole roles: a change that says less than a role's name and permissions
    is none."""
    found: RoleInfo | None = None
    if update.new_version:
        named = {n: update.changed[n] for n in RoleInfo.__struct_fields__ if n in update.changed}
        try:
            known = msgspec.convert(named, _Role)
        except msgspec.ValidationError:
            return None
        found = RoleInfo(known.name, known.permissions, known.position, known.color)
    fields = GuildFields(roles={role: found})
    return GuildInfo(guild, fields, update.old_version, max(1, update.new_version), update.lsn)


class _Role(msgspec.Struct):
    name: str
    permissions: int
    position: int = 0
    color: int = 0


def _fields(kind: Any, update: StateUpdate) -> Any:
    """The fields that the category knows, of their own types; others are left out."""
    found = {}
    for field in msgspec.structs.fields(kind):
        if field.name in update.changed:
            try:
                found[field.name] = msgspec.convert(update.changed[field.name], field.type)
            except msgspec.ValidationError:
                continue
    return kind(**found)
