"""Keys: a partition, a table, and what names the row within it.

The first byte is the partition, so that one can be scanned, moved and counted by itself;
it follows from the first part of the name: the guild, the user, the account. A name that
begins with "user:ID" or "guild:ID" lies in that user's or guild's partition. Rows of one
table and partition lie in the order of their names.
"""

from __future__ import annotations

import enum
import re
import struct
import zlib
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import count
from typing import Final

from shard_node.state.errors import BadName

PARTITIONS: Final = 256
NAME_MAX_BYTES: Final = 200
"""Of one string in a key; LMDB's keys have at most 511 bytes."""
ACCOUNT_MAX_BYTES: Final = NAME_MAX_BYTES - len("account:")
"""Of an account's name, which has "account:" before it in its history's keys."""
ID_MAX: Final = (1 << 64) - 1
_INT: Final = 1
_TEXT: Final = 2
_ID: Final = struct.Struct(">BQ")
NAMES_CACHED: Final = 16_384

_OWNED: Final = re.compile(r"(?:account:)?(?:user|guild):([0-9]{1,20})(?::|$)")

Part = int | str


class Table(enum.IntEnum):
    """Every table; the number is the second byte of its keys and never changes (12 was one)."""

    VALUE = 1
    """``shardctl state set``: name."""
    CONFIG = 2
    """guild."""
    MEMBER = 3
    """guild, user."""
    PERMISSION = 4
    """guild, role or user."""
    USER = 5
    """user."""
    PREMIUM = 6
    """subject: "user:ID" or "guild:ID"."""
    COOLDOWN = 7
    """key."""
    ACCOUNT = 8
    """account."""
    TOTAL = 9
    """"source" or "sink", with the name of what created or took money."""
    BAN = 10
    """user, scope."""
    HISTORY = 11
    """what it is the history of, lsn: a record of a user's moderation ("user:ID"); or older ones
    of an account ("account:NAME"), up to that one (``economy.Touched``)."""
    UNDONE = 13
    """lsn of a transaction that was rolled back."""
    ERASED = 14
    """user: that a person was forgotten."""
    GONE = 15
    """a key's first part, its table, its other parts: version and lsn of a deleted row."""
    OF_USER = 16
    """user, table, guild: where rows of his lie that are kept by guild."""
    SWEPT = 17
    """an id of the partition, a table: the highest version of what ``GONE`` told until it was
    swept."""


BOOKKEEPING: Final = frozenset(
    {Table.HISTORY, Table.UNDONE, Table.ERASED, Table.GONE, Table.OF_USER, Table.SWEPT}
)
"""Tables that follow from the others and the log: nobody is told of their changes."""


def partition_of(first: Part) -> int:
    """The partition of a row whose name begins with ``first``."""
    if isinstance(first, str):
        owned = _OWNED.match(first)
        if owned is None or int(owned[1]) > ID_MAX:
            return zlib.crc32(first.encode()) % PARTITIONS
        first = int(owned[1])
    data = first.to_bytes(8, "big")
    return zlib.crc32(data) % PARTITIONS


def key_of(table: Table, *parts: Part) -> bytes:
    """The key of a row. Raises BadName for an empty or too long name, or an id that is none."""
    first = parts[0]
    if type(first) is str and len(parts) == 1:
        return _of_name(table, first)
    partition, key = _named(first) if type(first) is str else _numbered(first)
    for part in parts[1:]:
        if type(part) is int and 0 <= part <= ID_MAX:
            key += _ID.pack(_INT, part)
        else:
            key += _named(part)[1] if type(part) is str else _encoded(part)
    return bytes((partition, table)) + key


def prefix_of(table: Table, *parts: Part) -> bytes:
    """What all keys begin with whose names begin with ``parts`` (at least one)."""
    return key_of(table, *parts)


def text_prefix(partition: int, table: Table, text: str) -> bytes:
    """What the keys of a partition begin with whose first part is a text beginning so."""
    return bytes((partition, table, _TEXT)) + text.encode()


def parse_key(key: bytes) -> tuple[Table, tuple[Part, ...]]:
    """The table and the parts of a key. Raises ValueError for what is no key."""
    try:
        return Table(key[1]), tuple(_parts(key))
    except (IndexError, struct.error) as error:
        msg = f"a key ends in the middle: {key.hex()}"
        raise ValueError(msg) from error


def gone_key(key: bytes) -> bytes:
    """Where the version of a deleted row is kept: in the row's partition, by its first part."""
    first = next(_parts(key))
    return key_of(Table.GONE, first, key[1]) + key[2 + len(_encoded(first)) :]


def marked_key(mark: bytes) -> bytes:
    """The key of the row that was deleted, from that of its mark (``gone_key``)."""
    first, table, *more = parse_key(mark)[1]
    return key_of(Table(int(table)), first, *more)


def swept_key(key: bytes) -> bytes:
    """Where the highest version is kept that was swept of the row's table and partition."""
    return _swept_key(key[0], key[1])


@cache
def _swept_key(partition: int, table: int) -> bytes:
    return key_of(Table.SWEPT, next(n for n in count() if partition_of(n) == partition), table)


def _parts(key: bytes) -> Iterator[Part]:
    at = 2
    while at < len(key):
        if key[at] == _INT:
            yield _ID.unpack_from(key, at)[1]
            at += _ID.size
        elif key[at] == _TEXT:
            end = key.index(0, at)
            yield key[at + 1 : end].decode()
            at = end + 1
        else:
            msg = f"no part of a key begins with {key[at]}"
            raise ValueError(msg)


@lru_cache(NAMES_CACHED)
def _of_name(table: Table, name: str) -> bytes:
    """The key of a row with one name."""
    partition, key = _named(name)
    return bytes((partition, table)) + key


@lru_cache(NAMES_CACHED)
def _named(text: str) -> tuple[int, bytes]:
    """The partition and the bytes of a name. The same few are used again and again."""
    return partition_of(_checked(text)), _encoded(text)


def _numbered(part: Part) -> tuple[int, bytes]:
    return partition_of(_checked(part)), _encoded(part)


def _checked(part: Part) -> Part:
    if isinstance(part, bool) or not isinstance(part, int | str):
        raise BadName(f"{part!r} names nothing: an id or a string is needed")
    if isinstance(part, int):
        if not 0 <= part <= ID_MAX:
            raise BadName(f"{part} is no id: ids are 0 to {ID_MAX}")
    else:
        size = len(part.encode(errors="replace"))
        if not part or size > NAME_MAX_BYTES or "\0" in part or not part.isprintable():
            text = f"{part[:40]!r} is no name: 1 to {NAME_MAX_BYTES} bytes, printable"
            raise BadName(text)
    return part


def _encoded(part: Part) -> bytes:
    part = _checked(part)
    if isinstance(part, int):
        return _ID.pack(_INT, part)
    return bytes((_TEXT,)) + part.encode() + b"\0"
