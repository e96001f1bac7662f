"""What changed of a row, in names: for who listens to changes instead of reading rows.

A row whose kind is a map of fields (it has a ``fields``) tells those; any other its own.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from shard_node.state import cooldowns, economy, moderation, premium, records, values
from shard_node.state.keys import Part, Table, parse_key
from shard_node.state.rows import Row, read

ROWS: Final[dict[Table, type[Row]]] = {
    Table.VALUE: values.Value,
    Table.CONFIG: records.Record,
    Table.MEMBER: records.Record,
    Table.PERMISSION: records.Record,
    Table.USER: records.Record,
    Table.PREMIUM: premium.Premium,
    Table.COOLDOWN: cooldowns.Cooldown,
    Table.ACCOUNT: economy.Account,
    Table.BAN: moderation.Ban,
}
"""The tables whose changes are told, and the kind of their rows."""

_BY_GUILD: Final = frozenset({Table.CONFIG, Table.MEMBER, Table.PERMISSION})
"""Tables whose keys begin with the guild."""
OF_GUILD: Final = _BY_GUILD | {Table.PREMIUM, Table.BAN}
"""Tables whose rows may be a guild's."""
_GUILD_SUBJECT: Final = "guild:"
_MAP: Final = "fields"
_UNTOLD: Final = frozenset({"recent"})
"""Fields that are the state's own books."""


class Delta(NamedTuple):
    """A row's change. ``changed`` holds new values, ``removed`` names what is gone; version
    0 is no row. ``guild`` 0: not one guild's."""

    table: Table
    parts: tuple[Part, ...]
    guild: int
    changed: dict[str, Any]
    removed: tuple[str, ...]
    old_version: int
    new_version: int


def delta_of(key: bytes, before: bytes | None, after: bytes | None) -> Delta | None:
    """The change of a row; None for a table whose changes are not told, and for no change."""
    kind = ROWS.get(Table(key[1]))
    if kind is None or before == after:
        return None
    table, parts = parse_key(key)
    old, new = read(kind, before), read(kind, after)
    was, now = _fields(old), _fields(new)
    return Delta(
        table,
        parts,
        guild_of(table, parts),
        {name: value for name, value in now.items() if name not in was or was[name] != value},
        tuple(name for name in was if name not in now) if new is not None else (),
        0 if old is None else old.version,
        0 if new is None else new.version,
    )


def guild_of(table: Table, parts: tuple[Part, ...]) -> int:
    """The guild whose row this is; 0 for none."""
    if table in _BY_GUILD and isinstance(parts[0], int):
        return parts[0]
    if table is Table.PREMIUM and str(parts[0]).startswith(_GUILD_SUBJECT):
        return _id(str(parts[0]).removeprefix(_GUILD_SUBJECT))
    if table is Table.BAN:
        return _id(str(parts[-1]).removeprefix(_GUILD_SUBJECT))
    return 0


def name_of(parts: tuple[Part, ...]) -> str:
    """A row's name, as people and messages have it: its parts with "/" between."""
    return "/".join(map(str, parts))


def _id(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


def _fields(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {}
    own = getattr(row, _MAP, None)
    if isinstance(own, dict):
        return own
    names = row.__struct_fields__[len(Row.__struct_fields__) :]
    return {name: getattr(row, name) for name in names if name not in _UNTOLD}
