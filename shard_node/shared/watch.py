"""Handlers of changes: of one record or of a whole table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from shard_node.peer.handlers import Message
from shard_node.shared.changes import Change
from shard_node.state import arguments
from shard_node.state.errors import BadValue

Watcher = Callable[[Any], Any]
"""Called with a Change; may be ``async def``."""
Unwatch = Callable[[], None]
"""Ends the watching."""
Watching = Callable[[type[Change], Watcher, Mapping[str, object]], Unwatch]
"""Calls the watcher with the changes whose fields have these values."""


class Listens(Protocol):
    """Who has handlers: a node or a client."""

    def on(self, topic: Any, handler: Any) -> Any:
        """Call the handler with every Message of a topic."""

    def off(self, topic: Any, handler: Any) -> None:
        """No longer."""


class Watches:
    """The Watching of a node or a client."""

    def __init__(self, listens: Listens) -> None:
        self._listens = listens

    def __call__(
        self, change: type[Change], handler: Watcher, wanted: Mapping[str, object]
    ) -> Unwatch:
        """Call ``handler`` with the changes whose fields are as ``wanted``. Raises BadValue."""
        arguments.handler(handler)

        def heard(message: Message) -> Any:
            body = message.body
            if all(getattr(body, name) == value for name, value in wanted.items()):
                return handler(body)
            return None

        self._listens.on(change, heard)
        return lambda: self._listens.off(change, heard)


def no_watching(_change: type[Change], _handler: Watcher, _wanted: Mapping[str, object]) -> Unwatch:
    """The Watching of a transaction. Raises BadValue."""
    raise BadValue("a transaction has no changes to watch", hint="watch on the node")
