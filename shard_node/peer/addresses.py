"""Whether a target can be said on the wire: looked at once, where a way to it is made. Pure."""

from __future__ import annotations

from typing import Any, Final

from shard_node.wire.codec import WireError, decode_header, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import CLIENT_MAX_CHARS
from shard_node.wire.limits import NAME_MAX_CHARS
from shard_node.wire.targets import All, Broker, Guild, Node, Pool, Shard, Target, Topic

_TARGETS: Final = (All, Broker, Guild, Node, Pool, Shard, Topic)
_WORDS: Final[dict[type, str]] = {
    All: "has no one receiver: gather() asks all nodes, publish() tells all who listen",
    Topic: "has no one receiver: publish() tells all who listen to a topic",
    Broker: "takes no messages; ask() asks the broker itself",
}
"""Targets that have no one receiver, and what to call instead."""
_ID_MAX: Final = (1 << 64) - 1
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, WireError)


def check_receiver(target: Any) -> None:
    """Raises ValueError or TypeError, in words, for a target that no message can have."""
    words = _WORDS.get(type(target))
    if words is not None:
        msg = f"{target!r} {words}"
        raise ValueError(msg)
    if not isinstance(target, _TARGETS):
        msg = f"{target!r} is no target: Node(name), Guild(id), Shard(id) or Pool(name)"
        raise TypeError(msg)
    if isinstance(target, Guild | Shard):
        _check_id(target, target.id)
        if isinstance(target, Shard):
            _check_id(target, target.num_shards)
    elif isinstance(target, Node | Pool):
        _check_name(target, target.name)
    try:
        decode_header(encode_header(header(Kind.BATCH, target, "")))
    except _UNENCODABLE as error:
        msg = f"{target!r} cannot be said on the wire: {error}"
        raise ValueError(msg) from None


def _check_id(target: Target, number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool):
        msg = f"{target!r}: an id is an int, not a {type(number).__name__}"
        raise TypeError(msg)
    if not 0 <= number <= _ID_MAX:
        msg = f"{target!r}: an id is 0 to 2**64 - 1"
        raise ValueError(msg)


def _check_name(target: Target, name: object) -> None:
    if not isinstance(name, str):
        msg = f"{type(target).__name__}({name!r}): a name is a str, not a {type(name).__name__}"
        raise TypeError(msg)
    most = CLIENT_MAX_CHARS if isinstance(target, Node) else NAME_MAX_CHARS
    if not 0 < len(name) <= most:
        msg = f"a {type(target).__name__}'s name has 1 to {most} characters, not {len(name)}"
        raise ValueError(msg)
