"""Changes of the state on their way to who listens: the owner of the guild whose record it is,
and the subscribers of ``STATE_UPDATE`` and of ``state:TABLE``. Each hears of a change once.

What is told to a receiver is numbered, by its name, so that it sees at the next change or
commit that one did not come; heartbeats say the last number too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from broker.core.effects import Effects, Share
from broker.core.fleet import Fleet
from broker.core.stateport import Behind
from broker.core.table import Owner
from shard_node.state.deltas import OF_GUILD, ROWS, Delta, delta_of, name_of
from shard_node.state.errors import StateError
from shard_node.state.keys import Table
from shard_node.state.machine import Applied
from shard_node.state.rows import head
from shard_node.state.views import Reads
from shard_node.wire.categories import StateUpdate
from shard_node.wire.state import StateAt
from shard_node.wire.topics import STATE_COMMITTED, STATE_UPDATE

TABLE_TOPIC: Final = "state:"
"""Followed by a table's name in lower case: the topic of its changes."""


class Change(NamedTuple):
    """A row that a transaction changed, as it was and as it is."""

    key: bytes
    before: bytes | None
    after: bytes | None
    lsn: int
    op_id: bytes


class Deltas:
    """Knows which tables anybody listens to, so that the others cost nothing."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._version = -1
        self._heard: frozenset[int] = frozenset()

    def wanted(self, writes: dict[bytes, bytes | None]) -> bool:
        """Whether anybody may want to hear of one of these rows."""
        if self._version != self._fleet.table.version:
            self._look()
        return not self._heard.isdisjoint([key[1] for key in writes])

    def of(self, applied: Applied) -> list[Change]:
        """The changes that are told once they are durable."""
        entry, before = applied.entry, applied.before
        assert entry is not None
        return [
            Change(key, before[key], row, applied.lsn, entry.op_id)
            for key, row in applied.writes.items()
            if key[1] in self._heard and key in before
        ]

    def told(self, changes: list[Change]) -> Effects:
        """An event for each change that somebody hears."""
        effects: Effects = []
        for change in changes:
            delta = delta_of(change.key, change.before, change.after)
            owners = self._owners(delta) if delta is not None else ()
            if delta is not None and owners:
                numbers = self._count(owners)
                effects.append(Share(STATE_UPDATE, _body(delta, change), owners, numbers))
        return effects

    def committed(self, at: StateAt) -> Effects:
        """Tells the subscribers up to where every change was told."""
        owners = tuple(self._fleet.table.listeners(STATE_COMMITTED))
        told = self._fleet.shared.told
        numbers = tuple(told.get(owner.label, 0) for owner in owners)
        return [Share(STATE_COMMITTED, at, owners, numbers)] if owners else []

    def _count(self, owners: tuple[Owner, ...]) -> tuple[int, ...]:
        told = self._fleet.shared.told
        for owner in owners:
            told[owner.label] = told.get(owner.label, 0) + 1
        return tuple(told[owner.label] for owner in owners)

    def _look(self) -> None:
        table = self._fleet.table
        self._version = table.version
        every = bool(table.listeners(STATE_UPDATE))
        self._heard = frozenset(
            int(kind)
            for kind in ROWS
            if every or kind in OF_GUILD or table.listeners(TABLE_TOPIC + kind.name.lower())
        )

    def _owners(self, delta: Delta) -> tuple[Owner, ...]:
        table = self._fleet.table
        found = dict.fromkeys(table.listeners(STATE_UPDATE))
        found.update(dict.fromkeys(table.listeners(TABLE_TOPIC + _name(delta.table))))
        if delta.guild and table.num_shards:
            owner = table.guild(delta.guild).owner
            if owner is not None:
                found[owner] = None
                found.update(dict.fromkeys(table.beside(owner.name)))
        return tuple(found)


def changes_of(view: Reads, groups: Sequence[Behind]) -> list[list[Change]]:
    """Of groups that come on top of a view, in their order. A row that a group changed twice is
    told of once, as it is to who reads in the log what it missed. A row that cannot be read is
    as one that was not there."""
    rows: dict[bytes, bytes | None] = {}
    found = []
    for group in groups:
        changes, last = [], group.place.lsn
        for key, row in group.writes.items():
            if key[1] not in ROWS:
                continue
            lsn = last if row is None else head(row)[1]
            changes.append(Change(key, _before(view, rows, key), row, lsn, b""))
            rows[key] = row
        found.append(sorted(changes, key=lambda change: change.lsn))
    return found


def _before(view: Reads, rows: dict[bytes, bytes | None], key: bytes) -> bytes | None:
    if key in rows:
        return rows[key]
    with suppress(StateError):
        return view.get(key)
    return None


def _name(table: Table) -> str:
    return table.name.lower()


def _body(delta: Delta, change: Change) -> StateUpdate:
    return StateUpdate(
        _name(delta.table),
        change.key[0],
        name_of(delta.parts),
        delta.changed,
        delta.old_version,
        delta.new_version,
        change.lsn,
        change.op_id.hex(),
        delta.removed,
    )
