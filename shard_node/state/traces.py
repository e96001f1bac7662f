"""Which records of the log tell of a person, so that their payloads can be erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from shard_node.state.erasing import ForgetUser, names
from shard_node.state.keys import parse_key
from shard_node.state.log import Entry, Payload
from shard_node.state.rows import Row
from shard_node.state.undo import Floor, Give, Recount, Restore, Undo

_HEAD: Final = len(Row.__struct_fields__)
_IDS: Final = frozenset({"user", "target"})
_decode = msgspec.msgpack.Decoder().decode


def mentions(payload: Payload, user: int) -> bool:
    """Whether a record's payload tells of a user, in any way: by whom, on what, before-images."""
    return (
        payload.actor.user == user
        or names(payload.actor.reason, user)
        or any(_op_mentions(op, user) for op in payload.ops)
        or any(_undo_mentions(instruction, user) for instruction in payload.undo)
    )


def to_erase(entries: Iterable[Entry], user: int) -> Iterator[int]:
    """The lsns of records that tell of a user, but for those that say that he was forgotten."""
    for entry in entries:
        payload = entry.payload()
        if payload is None or ForgetUser.__name__ in entry.kinds:
            continue
        if mentions(payload, user):
            yield entry.lsn


def _op_mentions(op: Any, user: int) -> bool:
    """Plain data is searched through; of a struct's numbers only those that are ids."""
    for name in op.__struct_fields__:
        value = getattr(op, name)
        plain = not isinstance(value, int) or name in _IDS
        if plain and _holds(value, user):
            return True
    return False


def _undo_mentions(instruction: Undo, user: int) -> bool:
    match instruction:
        case Restore(key=key, before=before):
            parts = parse_key(key)[1]
            row = () if before is None else _decode(before)[_HEAD:]
            return _holds(parts, user) or _holds(row, user)
        case Give(account=name) | Floor(account=name) | Recount(name=name):
            return names(name, user)
    return False


def _holds(value: Any, user: int) -> bool:
    if isinstance(value, str):
        return names(value, user)
    if isinstance(value, dict):
        return any(_holds(name, user) or _holds(inner, user) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return any(_holds(inner, user) for inner in value)
    return type(value) is int and value == user
