"""Figures of the state: sizes, partitions, readers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from shard_node.state.files import DATABASES
from shard_node.state.keys import PARTITIONS, Table
from shard_node.state.views import Reads
from store.state import StateStore

_READER: Final = re.compile(r"^\s*(\d+)\s+([0-9a-f]+)\s+(\d+)\s*$", re.MULTILINE)


class Database(NamedTuple):
    """One database's share of the file."""

    entries: int
    bytes: int


class Sizes(NamedTuple):
    """``file_bytes`` is what the file has grown to, ``used_bytes`` what is in use of it; the
    rest is used again before the file grows."""

    databases: dict[str, Database]
    file_bytes: int
    used_bytes: int
    map_bytes: int
    first: int
    last: int


class PartitionStats(NamedTuple):
    """Rows and bytes of keys and rows in a partition; rows by table."""

    partition: int
    rows: int
    bytes: int
    tables: dict[str, int]


def sizes(store: StateStore) -> Sizes:
    """At once: nothing is scanned."""
    env = store.env
    with env.begin() as txn:
        found = {name.decode(): _database(txn.stat(store.handles[name])) for name in DATABASES}
    info, stat = env.info(), env.stat()
    return Sizes(
        databases=found,
        file_bytes=(info["last_pgno"] + 1) * stat["psize"],
        used_bytes=sum(database.bytes for database in found.values()),
        map_bytes=info["map_size"],
        first=store.base().lsn + 1,
        last=store.place().lsn,
    )


def partition_stats(view: Reads, partition: int) -> PartitionStats:
    """By a scan of the partition's rows. Raises ValueError for no partition."""
    rows = size = 0
    tables: dict[str, int] = {}
    for key, row in view.scan(partition_prefix(partition)):
        rows += 1
        size += len(key) + len(row)
        name = Table(key[1]).name.lower()
        tables[name] = tables.get(name, 0) + 1
    return PartitionStats(partition, rows, size, tables)


def partition_prefix(partition: int) -> bytes:
    """What the keys of a partition begin with. Raises ValueError."""
    if not 0 <= partition < PARTITIONS:
        msg = f"{partition} is no partition: they are 0 to {PARTITIONS - 1}"
        raise ValueError(msg)
    return bytes((partition,))


class Reader(NamedTuple):
    """Who reads: since when (monotonic seconds) it is known to read this moment of the store,
    and how many commits ago that was."""

    pid: int
    since_s: float
    behind: int


@dataclass(slots=True)
class Readers:
    """Who holds which moment of the store for how long. An old one makes the file grow."""

    _seen: dict[tuple[int, str, int], float] = field(default_factory=dict)

    def observe(self, store: StateStore, now: float) -> list[Reader]:
        """To be called every few seconds. The oldest first; dead ones are cleared before."""
        store.check_readers()
        env = store.env
        newest = env.info()["last_txnid"]
        found = [(int(p), thread, int(t)) for p, thread, t in _READER.findall(env.readers())]
        self._seen = {key: self._seen.get(key, now) for key in found}
        readers = [Reader(key[0], at, newest - key[2]) for key, at in self._seen.items()]
        return sorted(readers, key=lambda reader: -reader.behind)


def _database(stat: Mapping[str, Any]) -> Database:
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return Database(stat["entries"], pages * stat["psize"])
