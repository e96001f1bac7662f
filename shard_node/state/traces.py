"""Which records of the log tell of a person, so that their payloads can be erased."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shard_node.state.erasing import ForgetUser, names
from shard_node.state.keys import ID_MAX, parse_key
from shard_node.state.rows import Row
from shard_node.state.undo import Floor, Give, Recount, Restore, Undo

if TYPE_CHECKING:
    from shard_node.state.log import Entry, Payload

_HEAD: Final = len(Row.__struct_fields__)
_IDS: Final = frozenset({"user", "target"})
_NUMBER: Final = re.compile(r"(?<![0-9])[1-9][0-9]{0,19}(?![0-9])")
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


def ids_in(instruction: Undo) -> Iterator[int]:
    """All numbers in what would come back, of which some may be users' ids."""
    for value in _told(instruction):
        yield from _numbers(value)


def _undo_mentions(instruction: Undo, user: int) -> bool:
    return any(_holds(value, user) for value in _told(instruction))


def _told(instruction: Undo) -> tuple[Any, ...]:
    """What an instruction tells of: names, and a row's fields."""
    match instruction:
        case Restore(key=key, before=before):
            row = () if before is None else _decode(before)[_HEAD:]
            return (parse_key(key)[1], row)
        case Give(account=name) | Floor(account=name) | Recount(name=name):
            return (name,)
    return ()


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, str):
        yield from (user for user in map(int, _NUMBER.findall(value)) if user <= ID_MAX)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(name)
            yield from _numbers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)
    elif type(value) is int and 0 < value <= ID_MAX:
        yield value


def _holds(value: Any, user: int) -> bool:
    if isinstance(value, str):
        return names(value, user)
    if isinstance(value, dict):
        return any(_holds(name, user) or _holds(inner, user) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return any(_holds(inner, user) for inner in value)
    return type(value) is int and value == user
