"""A member of the fleet's part in the shared state: what it says of it, what it hears."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import structs

from shard_node.effects import Link
from shard_node.peer.handlers import Handlers
from shard_node.shared.changes import CATEGORIES, TABLE_TOPIC, category_of, table_topic
from shard_node.shared.fleet import FleetState
from shard_node.shared.primitives import Primitives
from shard_node.shared.sinks import Direct
from shard_node.shared.watch import Watches
from shard_node.state.keys import Table
from shard_node.wire.categories import StateUpdate
from shard_node.wire.codec import encode_body
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import STATE_COMMITTED, STATE_UPDATE

if TYPE_CHECKING:
    from shard_node.peer.plane import Plane
    from shard_node.session import NodeSession

IMPLIED: Final = {
    **{table_topic(table): (STATE_COMMITTED,) for table in Table},
    **{name: (table_topic(table), STATE_COMMITTED) for table, name in CATEGORIES.items()},
    STATE_UPDATE: (STATE_COMMITTED,),
}
"""Topics that are subscribed to with others: what tells up to where all changes were told,
and the tables that make the protocol's categories."""
_TABLES: Final = {table.name.lower(): table for table in Table}


class StateMember(Primitives):
    """The shared state of a node or a client, by way of its broker."""

    def __init__(self, plane: Plane, name: str, folder: Path | None) -> None:
        self._plane = plane
        plane.handlers.implied = dict(IMPLIED)
        self._fleet_state = FleetState(self, name, folder, self._changed, self._always_hear)
        super().__init__(Direct(self._fleet_state), Watches(self))
        self._changes: deque[StateUpdate] = deque()

    if TYPE_CHECKING:

        @property
        def broker_up(self) -> bool: ...
        async def ask(
            self, topic: str, body: Any, *, timeout_s: float = ..., renew: bool = False
        ) -> Any: ...
        def on(self, topic: Any, handler: Any) -> Any: ...
        def off(self, topic: Any, handler: Any) -> None: ...
        def _topics_changed(self) -> None: ...

    # --- what the broker says

    def _state_event(self, head: Header, body: bytes) -> bool:
        """Whether an event of the broker's was the state's own, and is dealt with."""
        if head.sender:  # a peer's word, who only says the same topic
            return False
        if head.topic == STATE_UPDATE:
            self._fleet_state.updated(body, head.correlation)
            return True
        if head.topic == STATE_COMMITTED:
            self._fleet_state.committed(body, head.correlation)
            return STATE_COMMITTED not in self._plane.handlers.events
        return False

    def _state_link(self, link: Link, session: NodeSession) -> None:
        if link is Link.REGISTERED:
            self._fleet_state.registered(session.told, session.era)

    def _state_told(self, told: int) -> None:
        """A heartbeat's answer says what was told so far."""
        self._fleet_state.told(told)

    def _state_topics(self) -> None:
        """Handlers came or went."""
        events = self._plane.handlers.events
        self._fleet_state.listening(
            any(name in IMPLIED or name.startswith(TABLE_TOPIC) for name in events)
        )

    def _always_hear(self, topics: tuple[str, ...]) -> None:
        handlers = self._plane.handlers
        handlers.always = tuple(dict.fromkeys((*handlers.always, *topics)))
        self._topics_changed()

    # --- telling handlers

    def _changed(self, update: StateUpdate) -> None:
        """A handler's first step is taken outside of any task."""
        self._changes.append(update)
        if len(self._changes) == 1:
            asyncio.get_running_loop().call_soon(self._tell_changes)

    def _tell_changes(self) -> None:
        while self._changes:
            tell_handlers(self._plane, self._changes.popleft())


class Tells(Protocol):
    """Who starts handlers: a plane, or a process alone."""

    @property
    def handlers(self) -> Handlers:
        """They."""

    def event(self, head: Header, body: bytes) -> None:
        """Starts those of an event."""


def tell_handlers(plane: Tells, update: StateUpdate) -> None:
    """Start the handlers of a change, in each shape that somebody listens to."""
    events = plane.handlers.events
    table = _TABLES.get(update.table)
    topics = [name for name in (STATE_UPDATE, TABLE_TOPIC + update.table) if name in events]
    data = encode_body(update) if topics else b""
    for topic in topics:
        _start(plane, topic, data)
    category = CATEGORIES.get(table) if table is not None else None
    if table is not None and category in events:
        body = category_of(table, update)
        if body is not None:
            _start(plane, str(category), encode_body(body))


def _start(plane: Tells, topic: str, data: bytes) -> None:
    head = header(Kind.EVENT, BROKER, topic)
    plane.event(structs.replace(head, sent_at=time.time()), data)
