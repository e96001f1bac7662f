"""Events that belong to a process that has given its shards up, passed on by their holder.

An interaction goes there as a whole, and is handled here only where that process surely did not
get it; of other events those get a copy who wait for them there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shard_node.affinity import Affinity, Route
from shard_node.bridge.inject import inject
from shard_node.bridge.tracking import Line, Running
from shard_node.errors import ShardNodeError, Undeliverable
from shard_node.peer.handlers import Message
from shard_node.wire.lingering import WAITERS, WHOLE, LingerEvent, Living
from shard_node.wire.targets import Node
from shard_node.wire.topics import LINGER_EVENT, LINGER_WAITS

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

WHOLE_TTL_S: Final = 2.5
"""Discord waits 3 s for the answer to an interaction; the rest is for handling it here."""
COPY_TTL_S: Final = 10.0
SILENT_EVERY_S: Final = 10.0
COPIES_MAX: Final = 1024
"""Copies under way; more are dropped and said."""

_living = msgspec.msgpack.Decoder(Living)
Parse = Callable[[], None]


class Passing:
    """Of one bot. ``affinity`` is empty as long as nobody lingers: then nothing is asked."""

    def __init__(self, hold: Hold) -> None:
        self._hold, self._node = hold, hold.node
        self.affinity = Affinity()
        self._own = _Own(hold.client)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = set[asyncio.Task[None]]()

    def serve(self) -> None:
        """Hear what others tell."""
        self._node.hear_peers(LINGER_WAITS, self._told)
        self._node.hear_peers(LINGER_EVENT, self._passed_here)

    def close(self) -> None:
        """The process ends."""
        if self._timer is not None:
            self._timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()

    # --- who lingers

    def restore(self, shard: int) -> None:
        """What the journal of a shard that has come says."""
        keeping = self._hold.keeping
        journal = None if keeping is None else keeping.journals.get(shard)
        if journal is None or not journal.story.waits:
            return
        try:
            living = _living.decode(journal.story.waits)
        except msgspec.MsgspecError:
            _log.warning("shard %d: what waits elsewhere could not be read", shard)
            return
        for waits in living.waits:
            if waits.owner != self._hold.lingering.label:
                self.affinity.put(waits, time.monotonic())
        self._set_timer()

    def keep(self, shard: int) -> None:
        """Write what is known into a shard's journal, for who has the shard next."""
        keeping = self._hold.keeping
        journal = None if keeping is None else keeping.journals.get(shard)
        if journal is None:
            return
        living = Living(self.affinity.living(shard))
        if msgspec.msgpack.encode(living) != (journal.story.waits or _NOBODY):
            journal.waits(living)

    def _told(self, message: Message) -> None:
        waits = message.body
        if waits.owner == self._hold.lingering.label or waits.num_shards != self._node.num_shards:
            return
        self.affinity.put(waits, time.monotonic())
        for shard in waits.shards:
            self.keep(shard)
        self._set_timer()

    def _forget(self, owner: str) -> None:
        if self.affinity.forget(owner):
            for shard in self._node.shards:
                self.keep(shard)

    def _set_timer(self) -> None:
        if self._timer is None and self.affinity:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SILENT_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for owner in self.affinity.silent(time.monotonic()):
            _log.info("%s has told nothing for long; its messages are handled here", owner)
        self._set_timer()

    # --- here, at the holder

    def takes(
        self, line: Line, shard: int, seq: int, event: str, data: Any, raw: str, parse: Parse
    ) -> bool:
        """Whether an event goes elsewhere as a whole; ``parse`` handles it here after all."""
        try:
            routes = self.affinity.of(event, data, self._own)
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        whole = False
        for route in routes:
            body = LingerEvent(shard, self._node.num_shards, event, raw.encode(), route.mode)
            if route.mode == WAITERS:
                self._copy(route, body)
                continue
            whole = True
            running = self._hold.tracking.elsewhere(line, seq, event, data)
            again = _Again(self._hold, line, seq, event, data, running, parse)
            self._later(self._pass_on(route, body, again))
        return whole

    def _copy(self, route: Route, body: LingerEvent) -> None:
        if len(self._tasks) >= COPIES_MAX:
            _log.warning("%s for %s is dropped: too many are under way", body.event, route.owner)
            return
        self._later(self._send_copy(route, body))

    async def _send_copy(self, route: Route, body: LingerEvent) -> None:
        try:
            await self._node.send(Node(route.owner), LINGER_EVENT, body, ttl_s=COPY_TTL_S)
        except ShardNodeError as error:
            _log.debug("%s did not reach %s: %s", body.event, route.owner, error)

    async def _pass_on(self, route: Route, body: LingerEvent, again: _Again) -> None:
        try:
            await self._node.send(Node(route.owner), LINGER_EVENT, body, ttl_s=WHOLE_TTL_S)
        except Undeliverable as error:
            if error.maybe_handled:
                _log.warning("%s may have ended while it handled %s", route.owner, again.name)
                again.running.ended()
                return
            if error.code == "E_UNREACHABLE":
                self._forget(route.owner)
            again.handle(f"{route.owner} is gone")
        except ShardNodeError as error:
            again.handle(str(error))
        else:
            again.running.ended()

    # --- here, at the one that lingers

    def _passed_here(self, message: Message) -> None:
        told = message.body
        if told.num_shards != self._node.num_shards or told.mode not in (WHOLE, WAITERS):
            text = f"{told.event} in mode {told.mode!r} is not for this process"
            raise ValueError(text)
        inject(self._hold, told)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="shardctl: passing on")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_NOBODY: Final = msgspec.msgpack.encode(Living())


class _Again:
    """An event that is under way to another process, and may have to be handled here."""

    __slots__ = ("_data", "_event", "_hold", "_line", "_parse", "_seq", "running")

    def __init__(
        self,
        hold: Hold,
        line: Line,
        seq: int,
        event: str,
        data: Any,
        running: Running,
        parse: Parse,
    ) -> None:
        self._hold, self._line, self._seq = hold, line, seq
        self._event, self._data, self._parse = event, data, parse
        self.running = running

    @property
    def name(self) -> str:
        """The event, for people."""
        return f"{self._event} {self._seq}"

    def handle(self, why: str) -> None:
        """It was not handled elsewhere. The journal has said already that it runs."""
        _log.info("%s is handled here: %s", self.name, why)
        tracking = self._hold.tracking
        tracking.begin(self._line, self._seq, self._event, self._data, self.running)
        try:
            self._parse()
        except Exception as error:
            report = self._hold.client._dispatch_gateway_error(self._event, self._data, None, error)
            asyncio.get_running_loop().create_task(report, name="shardctl: gateway error")
        finally:
            tracking.end()


class _Own:
    """What this process itself waits for."""

    def __init__(self, client: Any) -> None:
        self._state = client._connection

    def component(self, kind: int, message: int, custom_id: str) -> bool:
        views = self._state._view_store._views
        return (kind, message, custom_id) in views or (kind, None, custom_id) in views

    def modal(self, user: int, custom_id: str) -> bool:
        return (user, custom_id) in self._state._modal_store._modals
