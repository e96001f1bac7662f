"""How peers and targets of the message plane are written for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from shard_node.wire.identity import is_letter

_CLIENT: Final = "cl-"
_KINDS: Final = {"n": "node", "s": "shard", "g": "guild", "t": "topic", "p": "pool"}
_ALONE: Final = {"a": "all", "b": "broker"}


def peer_name(name: str) -> str:
    """`node a` for `a` and `a#3`, `client dash` for `cl-dash-77-1`.

    >>> peer_name("a#3"), peer_name("cl-my-dash-77-1"), peer_name("dl-4#1")
    ('node a', 'client my-dash', 'a retry of 4')
    """
    short = name.partition("#")[0]
    if is_letter(short):
        return f"a retry of {short.partition('-')[2]}"
    if short.startswith(_CLIENT):
        return f"client {short.removeprefix(_CLIENT).rsplit('-', 2)[0]}"
    return f"node {short}"


def target_name(target: Sequence[Any]) -> str:
    """A target as `where` takes it.

    >>> target_name(["s", 3, 4]), target_name(["g", 7]), target_name(["a"])
    ('shard:3', 'guild:7', 'all')
    """
    tag, *fields = target
    if tag in _KINDS and fields:
        return f"{_KINDS[tag]}:{fields[0]}"
    return _ALONE.get(tag, str(tag))
