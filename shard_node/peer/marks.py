"""Decorators for methods of disnake cogs; ``bridge.cogs`` binds what they mark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from shard_node.peer.handlers import TopicName, topic_name

Call = TypeVar("Call", bound=Callable[..., Any])
MARKS: Final = "__shard_node_marks__"


class Mark(NamedTuple):
    """What a method is: ``serves`` requests, or listens."""

    topic: TopicName
    serves: bool


def listen(topic: TopicName) -> Callable[[Call], Call]:
    """Mark a cog's method: it gets every Message of the topic while the cog is loaded."""
    return _marker(Mark(topic, False))


def serve(name: TopicName) -> Callable[[Call], Call]:
    """Mark a cog's method: it answers the requests of this name while the cog is loaded."""
    return _marker(Mark(name, True))


def marked(owner: object) -> list[tuple[Mark, Callable[..., Any]]]:
    """The marked methods of an object, bound to it."""
    names = dict.fromkeys(name for kind in reversed(type(owner).__mro__) for name in vars(kind))
    found = []
    for name in names:
        marks = getattr(getattr(type(owner), name, None), MARKS, ())
        found += [(mark, getattr(owner, name)) for mark in marks]
    return found


def _marker(mark: Mark) -> Callable[[Call], Call]:
    topic_name(mark.topic)

    def decorate(call: Call) -> Call:
        setattr(call, MARKS, (*getattr(call, MARKS, ()), mark))
        return call

    return decorate
