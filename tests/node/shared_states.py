"""States to test the API on: one in memory, and one behind a broker played by the test."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from shard_node.lone import LoneNode
from shard_node.runtime import Node
from shard_node.shared.select import matches
from shard_node.state.buckets import Buckets
from shard_node.state.deltas import delta_of, name_of
from shard_node.state.errors import StateError
from shard_node.state.log import write_entry
from shard_node.state.machine import Applied, MemoryState
from shard_node.state.quick import quick
from shard_node.state.tx import Tx
from shard_node.wire import bodies, state, topics
from shard_node.wire.categories import StateUpdate
from tests.node.fake_broker import FakeBroker, Seen
from tests.peer.nodes import make, running

API = ("alone", "fleet")


class StateBroker(FakeBroker):
    """Answers the state's topics from a ``MemoryState``, which outlives it where it is given.

    ``refuse`` holds error bodies for the next ``state.do`` frames; ``swallow`` counts those
    that are applied and not answered.
    """

    def __init__(self, endpoint: str, memory: MemoryState | None = None) -> None:
        super().__init__(endpoint)
        self.memory = memory or MemoryState()
        self.buckets = Buckets()
        self.refuse: list[bodies.ErrorBody] = []
        self.swallow = 0
        self.frames: list[int] = []
        self.first = 1
        self.tells = True
        self.answers |= {
            topics.CLIENT_REGISTER: self._register,
            topics.STATE_DO: self._do,
            topics.STATE_READ: lambda seen: state.StateRows(
                self.memory.place.lsn, tuple(map(self.memory.view.get, seen.body.keys))
            ),
            topics.STATE_SCAN: self._scan,
            topics.STATE_LOG: self._log,
            topics.STATE_MARK: lambda seen: self._at(),
        }

    def at_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def _at(self) -> state.StateAt:
        place = self.memory.place
        return state.StateAt(place.lsn, place.at_ms, self.first, self.at_ms())

    def _do(self, seen: Seen) -> Any:
        if self.refuse:
            return self.refuse.pop(0)
        self.frames.append(len(seen.body.txs))
        outcomes = tuple(map(self._one, seen.body.txs))
        if self.swallow:
            self.swallow -= 1
            return None
        return state.StateDone(outcomes)

    def _one(self, data: bytes) -> state.StateOutcome:
        tx = msgspec.msgpack.decode(data, type=Tx)
        try:
            short = quick(self.buckets, tx, self.at_ms())
            if short is not None:
                return state.StateOutcome(0, (short,))
            applied = self.memory.submit(tx, self.at_ms())
        except StateError as error:
            body = bodies.ErrorBody(
                error.code, str(error), error.hint, error.retryable, error.details
            )
            return state.StateOutcome(0, error=body)
        if self.tells:
            self.tell(applied)
        return state.StateOutcome(applied.lsn, applied.results)

    def tell(self, applied: Applied) -> None:
        """The changes, to everybody."""
        for key, row in applied.writes.items():
            delta = delta_of(key, applied.before[key], row) if key in applied.before else None
            if delta is None:
                continue
            update = StateUpdate(
                delta.table.name.lower(), key[0], name_of(delta.parts), delta.changed,
                delta.old_version, delta.new_version, applied.lsn, "", delta.removed,
            )  # fmt: skip
            for peer in self.registered:
                self.send(peer, topics.STATE_UPDATE, update)
        for peer in self.registered:
            self.send(peer, topics.STATE_COMMITTED, self._at())

    def _scan(self, seen: Seen) -> state.StateScanned:
        rows = []
        for row in self.memory.view.scan(seen.body.prefix, seen.body.after):
            if len(rows) == seen.body.limit:
                return state.StateScanned(self.memory.place.lsn, tuple(rows), True)
            rows.append(row)
        return state.StateScanned(self.memory.place.lsn, tuple(rows))

    def _log(self, seen: Seen) -> state.StateLogged:
        body, last = seen.body, self.memory.place.lsn
        found = [
            self.memory.entries[lsn]
            for lsn in range(max(self.first, body.after + 1), last + 1)
            if matches(self.memory.entries[lsn], body.kinds, body.user, body.account)
        ]
        more = len(found) > body.limit
        found = found[-body.limit :] if body.newest else found[: body.limit]
        read_to = found[-1].lsn if more and not body.newest else last
        return state.StateLogged(tuple(map(write_entry, found)), read_to, self.first, last, more)


@asynccontextmanager
async def api(kind: str, folder: Path) -> AsyncIterator[Node | LoneNode]:
    """A node of this kind whose reads are ready."""
    if kind == "alone":
        yield LoneNode()
        return
    with StateBroker(f"ipc://{folder}/b.sock") as broker:
        node = make(broker.endpoint, "a")
        node._fleet_state.keep_copy()
        async with running(node):
            await node.state.sync()
            yield node
