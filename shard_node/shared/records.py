"""What members, permissions and users have in common: a map of fields for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

from shard_node.shared.backend import Tx
from shard_node.shared.changes import Change
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import arguments
from shard_node.state.errors import BadValue
from shard_node.state.keys import Table, key_of, parse_key, prefix_of
from shard_node.state.plain import check_fields
from shard_node.state.records import Record
from shard_node.state.rows import read


class Records:
    """Root of the sync targets. ``ids`` below are what names a record: a guild's and a user's
    id, or a user's alone.

    A field is plain data: None, a truth value, a whole number of 64 bits, a finite number,
    text, bytes, or lists and maps (by text) of those. Changes raise StateError's children, and
    BrokerUnavailable, RequestTimeout or QueueFull (retryable).
    """

    table: ClassVar[Table]
    name: ClassVar[str]
    """What it is called on a node and in a transaction."""
    names: ClassVar[tuple[str, ...]]
    change: ClassVar[type[Change]]
    _updates: ClassVar[Callable[..., Any]]
    _deletes: ClassVar[Callable[..., Any]]

    def __init__(self, sink: Sink, watching: Watching) -> None:
        self._sink, self._watching = sink, watching

    def get(self, *ids: int) -> dict[str, Any] | None:
        """The fields, as this process knows them; None where there is no such record."""
        row = read(Record, self._sink.backend.get(self._key(ids)))
        return None if row is None else row.fields

    def of(self, *ids: int) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
        """All records whose ids begin with these (one at least), and their fields, as this
        process knows them. Raises BadName, BadValue."""
        self._check(ids or (None,))
        return self._of(prefix_of(self.table, *ids))

    def _of(self, prefix: bytes) -> Iterator[tuple[tuple[int, ...], dict[str, Any]]]:
        for key, row in self._sink.backend.scan(prefix):
            found = read(Record, row)
            assert found is not None
            yield tuple(map(int, parse_key(key)[1])), found.fields

    def version(self, *ids: int) -> int:
        """How often it was changed, for ``if_version``; 0 where there is none."""
        row = read(Record, self._sink.backend.get(self._key(ids)))
        return 0 if row is None else row.version

    async def fetch(self, *ids: int) -> dict[str, Any] | None:
        """The fields, as the broker has them now."""
        (data,) = await self._sink.backend.fetch((self._key(ids),))
        row = read(Record, data)
        return None if row is None else row.fields

    def update(self, *ids: int, if_version: int | None = None, **fields: Any) -> Awaitable[Tx]:
        """Set these fields and leave the others; a record that is new is made.

        ``if_version``: only where the record has that version (0: is not there), or else
        VersionConflict. Raises BadValue.
        """
        self._key(ids)
        if not fields:
            raise BadValue("no field is named", hint="update(..., nick='x')")
        check_fields(fields, self.table.name.lower())
        version = arguments.if_version(if_version)
        return self._sink.do(type(self)._updates(*ids, fields=fields, if_version=version))

    def remove(
        self, *ids: int, fields: tuple[str, ...], if_version: int | None = None
    ) -> Awaitable[Tx]:
        """Take these fields away. Raises VersionConflict, BadValue."""
        self._key(ids)
        names, version = arguments.names(fields, "fields"), arguments.if_version(if_version)
        return self._sink.do(type(self)._updates(*ids, remove=names, if_version=version))

    def delete(self, *ids: int, if_version: int | None = None) -> Awaitable[Tx]:
        """Delete the record. Raises NotThere, VersionConflict."""
        self._key(ids)
        version = arguments.if_version(if_version)
        return self._sink.do(type(self)._deletes(*ids, if_version=version))

    def watch(self, handler: Watcher, *ids: int) -> Unwatch:
        """Call ``handler`` with every change: of one record, or, with fewer ``ids`` or none, of
        all that begin with them. Returns what ends it."""
        self._check(ids)
        wanted = dict(zip(self.names, ids, strict=False))
        return self._watching(self.change, handler, wanted)

    def _key(self, ids: tuple[int, ...]) -> bytes:
        self._check(ids)
        if len(ids) != len(self.names):
            hint = f"give the ids of {', '.join(self.names)}, in this order"
            raise BadValue(f"{len(ids)} ids; needed are {len(self.names)}", hint=hint)
        return key_of(self.table, *ids)

    def _check(self, ids: tuple[Any, ...]) -> None:
        if len(ids) > len(self.names):
            hint = f"give the ids of {', '.join(self.names)}, in this order"
            raise BadValue(f"{len(ids)} ids; there are {len(self.names)}", hint=hint)
        for name, number in zip(self.names, ids, strict=False):
            arguments.id_of(number, name)
