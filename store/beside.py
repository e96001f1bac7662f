"""Reading the state beside a broker that may run on it, in a process of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from shard_node.state.files import DATABASES
from store.engine import FILE_MODE, LMDB_MAJOR, MAP_MAX_BYTES, READERS_MAX
from store.errors import StoreDamaged, StoreMemory, StoreOpenError
from store.offline import DATA_FILE, open_databases
from store.state import StateStore, settle_at_rest


@contextmanager
def beside(folder: Path) -> Iterator[StateStore]:
    """The state for reading, whether a broker runs on it or not. Raises StoreError; StoreFull
    where what a killed broker confirmed would be missed."""
    if not (folder / DATA_FILE).is_file():
        raise StoreOpenError(f"{folder}: there is no state", hint="run: shardctl start")
    settle_at_rest(folder)
    try:
        env = lmdb.open(
            str(folder),
            map_size=MAP_MAX_BYTES,  # the broker's: it may grow meanwhile
            mode=FILE_MODE,
            readonly=True,
            create=False,
            max_dbs=len(DATABASES),
            max_readers=READERS_MAX,
            lib_version=LMDB_MAJOR,
        )
    except (lmdb.MemoryError, MemoryError) as error:
        raise StoreMemory(f"{folder}: {error}") from error
    except lmdb.Error as error:
        raise StoreDamaged(f"{folder}: {error}") from error
    store = StateStore(env, folder)
    try:
        store.handles.update(open_databases(env))
        yield store
    finally:
        store.close()
