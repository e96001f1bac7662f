"""The shared state on disk: rows, log and marks in an LMDB environment of its own.

The loop's thread owns ``view`` and every method that reads: all of them see the same
committed moment, that of the last ``renew``. The writer's thread (``store.statewriter``) calls
``commit`` alone. Opening scans neither rows nor log; it reads the branch pages, of which there
is one for about a hundred others (``store.pages``).

What is confirmed is in the journal first (``store.journal``) and in the file soon after; so
opening brings into the file what a killed process left in the journal, where there is room.

How a row lies in the file, and what finds a changed bit, says ``shard_node.state.files``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from shard_node.state.files import (
    BASE_KEY,
    DATABASES,
    ERA_KEY,
    IMPORT_KEY,
    JOURNAL_KEY,
    LOG,
    MARK_KEY,
    META,
    NOTE_PREFIX,
    ROWS,
    SALT_KEY,
    SCHEMA,
    SCHEMA_KEY,
    UNREADABLE,
    Base,
    Mark,
    RowDamaged,
    get,
    key_lsn,
    lsn_key,
    op_ids,
    read_base,
    read_mark,
    scan,
)
from shard_node.state.log import Entry, read_entry
from shard_node.state.opids import Known
from store.engine import MAP_MAX_BYTES, open_engine, write_error
from store.errors import StoreClosed, StoreDamaged, StoreFull, StoreInUse, StoreSchema
from store.journal import Journal, pending
from store.offline import DATA_FILE, broker_kept_out, opened_at_rest, sync_folder
from store.pages import blank
from store.pages import fault as skeleton_fault
from store.statecommit import (
    Batch,
    Frames,
    Left,
    encode_batches,
    fetch,
    journal_number,
    left_of,
    numbered,
    put,
    put_batches,
)

ERA_BYTES: Final = 16
RECOVERED_FRAMES: Final = 64
"""Of the journal in one commit at the start."""
DAMAGED_HINT: Final = "run: shardctl state check   (then: shardctl backup restore)"
_SCHEMA: Final = str(SCHEMA).encode()
M = TypeVar("M")
B = TypeVar("B", bytes, bytes | None)


class StateView:
    """``Reads`` over the committed rows of one moment. For one thread.

    Raises StoreDamaged for what is not what was written, also where a row seems not to be
    there because its key, or its neighbour's, was damaged.
    """

    def __init__(self, env: lmdb.Environment, handles: dict[bytes, Any]) -> None:
        self._env, self._handles = env, handles
        self._txn: lmdb.Transaction | None = None
        self._cursors: dict[bytes, lmdb.Cursor] = {}

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes."""
        return self.lookup(ROWS, key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys with ``prefix``, those greater than ``after``, in order, with their rows.

        To be ended before the next ``renew``.
        """
        return self.walk(ROWS, prefix, after)

    def lookup(self, name: bytes, key: bytes) -> bytes | None:
        """The value of a key in one of the databases."""
        cursor = self._cursors.get(name)
        try:
            if cursor is None:
                cursor = self._cursors[name] = self.cursor(name)
            return get(cursor, key)
        except (RowDamaged, lmdb.Error) as error:
            raise _damaged(name, error) from error

    def walk(self, name: bytes, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """``scan`` of one of the databases."""
        try:
            with self.cursor(name) as cursor:
                yield from scan(cursor, prefix, after)
        except (RowDamaged, lmdb.Error) as error:
            raise _damaged(name, error) from error

    def cursor(self, name: bytes) -> lmdb.Cursor:
        """A cursor of this moment. Its bytes are as they lie in the file."""
        return self._moment().cursor(self._handles[name])

    def begin(self) -> None:
        """From now on, what is committed now."""
        self.end()
        self._moment()

    def _moment(self) -> lmdb.Transaction:
        if self._txn is None:
            self._txn = self._env.begin()
        return self._txn

    def end(self) -> None:
        """Let go of the moment."""
        self._cursors.clear()
        if self._txn is not None:
            self._txn.abort()
            self._txn = None


class StateStore:
    """The state in one folder. Open it once in a process, after the process has started."""

    def __init__(self, env: lmdb.Environment, folder: Path) -> None:
        self._env: lmdb.Environment | None = env
        self.folder = folder
        self._handles: dict[bytes, Any] = {}
        self.view = StateView(env, self._handles)
        """The committed rows; a ``Reads``."""
        self._journal: Journal | None = None
        self.left: list[Left] = []
        """What was in the journal alone when it was opened, and stays there for now."""

    @classmethod
    def open(
        cls, folder: Path, map_max_bytes: int = MAP_MAX_BYTES, *, in_part: bool = False
    ) -> StateStore:
        """Opens or makes the state in ``folder`` (0700, files 0600).

        Where a full disk keeps the file from having what is in the journal, StoreFull is raised;
        with ``in_part`` the rest is ``left``, for a writer (``StateWriter.go_on``): rows and log
        are without it until then. Raises StoreOpenError or one of its children, StoreFull.
        """
        try:
            if blank(folder / DATA_FILE):
                (folder / DATA_FILE).unlink()
            wrong = skeleton_fault(folder / DATA_FILE)
            if wrong:
                raise StoreDamaged(f"{folder}: {wrong}")
            store = cls(open_engine(folder, map_max_bytes, len(DATABASES)), folder)
            try:
                store._prepare()
                store._recover(in_part=in_part)
            except BaseException:
                store.close()
                raise
        except StoreDamaged as error:
            error.hint = DAMAGED_HINT
            raise
        return store

    def renew(self) -> None:
        """See what was committed since. Call it on the loop's thread when the writer reports a
        commit, before anything is computed or answered from it. Scans must have ended."""
        self.view.begin()

    def place(self) -> Mark:
        """Where the committed log stands (``.place`` is what ``apply`` takes), and the clocks
        that were saved with it. ``Mark()``, lsn 0, for an empty log."""
        return _meta(read_mark, self.view.lookup(META, MARK_KEY))

    def base(self) -> Base:
        """What the log begins after; lsn 0 where nothing was trimmed."""
        return _meta(read_base, self.view.lookup(META, BASE_KEY))

    def era(self) -> str:
        """Drawn when the store was made and at each restore: lsns of two eras do not compare."""
        found = self.view.lookup(META, ERA_KEY)
        return "" if found is None else found.hex()

    def descent(self) -> str:
        """The era, and the last import of rows in it: what was read in another one does not
        become what is here by what the log says."""
        found = self.view.lookup(META, IMPORT_KEY)
        return self.era() + ("" if found is None else found.hex())

    def entry(self, lsn: int) -> Entry | None:
        """A committed record of the log; None where there is none (any more)."""
        data = self.view.lookup(LOG, lsn_key(lsn)) if lsn > 0 else None
        return None if data is None else _read(lsn, data)

    def entries(self, after: int, limit: int) -> Iterator[Entry]:
        """Committed records above the lsn ``after``, at most ``limit``, in order."""
        if limit <= 0:
            return
        rows = self.view.walk(LOG, b"", lsn_key(after) if after > 0 else b"")
        for count, (key, data) in enumerate(rows, 1):
            yield _read(_meta(key_lsn, key), data)
            if count >= limit:
                return

    def op_ids(self, after: int, limit: int) -> list[Known]:
        """The op ids and times of committed records above the lsn ``after``, at most ``limit``,
        in order."""
        try:
            with self.view.cursor(LOG) as cursor:
                return op_ids(cursor, after, limit)
        except (RowDamaged, lmdb.Error) as error:
            raise _damaged(LOG, error) from error

    def note(self, name: str) -> bytes | None:
        """What was kept under this name beside rows and log."""
        return self.view.lookup(META, NOTE_PREFIX + name.encode())

    def append(self, batches: list[Batch]) -> int:
        """Make batches durable, all or none, before the file has them; the number of their frame
        in the journal. The writer's thread alone calls it. Raises StoreFull, StoreFailed,
        StorePanic."""
        return self.journal.append(encode_batches(batches))

    def commit(self, batches: list[Batch], frames: Frames | None = None) -> None:
        """All batches in one durable commit of the file, or none; ``frames`` are those of the
        journal that have them. The settler's thread alone calls it.

        Raises StoreFull, StoreFailed (StorePanic: this process can write no more).
        """
        env = self._environment()
        try:
            with env.begin(write=True) as txn:
                put_batches(txn, self._handles, batches, frames)
        except lmdb.Error as error:
            raise write_error(error) from error
        except RowDamaged as error:
            raise _damaged(META, error) from error
        if frames is not None:
            self.journal.settled(frames.last)

    def check_readers(self) -> int:
        """Clears what dead processes left in the reader table; how many. Every few seconds: a
        stale reader makes the file grow."""
        count: int = self._environment().reader_check()
        return count

    @property
    def env(self) -> lmdb.Environment:
        """The environment, for snapshots and statistics. Raises StoreClosed."""
        return self._environment()

    @property
    def journal(self) -> Journal:
        """What is durable and not in the file yet. Raises StoreClosed."""
        if self._journal is None:
            raise StoreClosed("the state is closed")
        return self._journal

    @property
    def handles(self) -> dict[bytes, Any]:
        """The databases by name."""
        return self._handles

    def close(self) -> None:
        """Closes it. The writer must have ended."""
        self.view.end()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._env is not None:
            self._env.close()
            self._env = None

    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            raise StoreClosed("the state is closed")
        return self._env

    def _prepare(self) -> None:
        env = self._environment()
        try:
            for name in DATABASES:
                self._handles[name] = env.open_db(name)
            if self.view.lookup(META, SCHEMA_KEY) is None:
                self._found()
            self.renew()
            found = self.view.lookup(META, SCHEMA_KEY)
            self.place()
        except lmdb.Error as error:
            failed = write_error(error)
            raise failed if isinstance(failed, StoreFull) else _damaged(META, error) from error
        if found != _SCHEMA:
            raise other_schema(self.folder, found)

    def _recover(self, *, in_part: bool) -> None:
        """Bring what only the journal has into the file."""
        settled = _meta(journal_number, self.view.lookup(META, JOURNAL_KEY))
        salt = self.view.lookup(META, SALT_KEY) or b""
        self._journal, frames = Journal.open(self.folder, settled, salt)
        for at in range(0, len(frames), RECOVERED_FRAMES):
            some = left_of(frames[at : at + RECOVERED_FRAMES])
            batches = [batch for frame in some for batch in frame.batches]
            try:
                self.commit(batches, Frames(some[0].number, some[-1].number))
            except StoreFull as error:
                if not in_part:
                    raise _left(self.folder, len(frames) - at, error) from error
                self.left = numbered(some + left_of(frames[at + RECOVERED_FRAMES :]))
                break
        else:
            self._journal.rewind()
        self.renew()

    def _found(self) -> None:
        """The first rows of a new store."""
        with self._environment().begin(write=True) as txn:
            meta = self._handles[META]
            put(txn, meta, SCHEMA_KEY, _SCHEMA)
            put(txn, meta, ERA_KEY, os.urandom(ERA_BYTES))
            put(txn, meta, SALT_KEY, os.urandom(ERA_BYTES))
        sync_folder(self.folder)
        sync_folder(self.folder.parent)


def settle_at_rest(state_folder: Path) -> None:
    """Bring what a killed broker left in the journal into the file; nothing where none is left,
    or where a broker runs, which does it itself. Raises StoreError; StoreFull where not all of
    it could be brought there: what is confirmed is in the journal still."""
    with contextlib.suppress(StoreInUse), broker_kept_out(state_folder.parent):
        settle(state_folder)


def settle(state_folder: Path) -> None:
    """The same for who holds the broker's lock."""
    if not (state_folder / DATA_FILE).is_file():
        return
    with opened_at_rest(state_folder) as (env, handles), env.begin() as txn:
        try:
            settled = journal_number(fetch(txn, handles[META], JOURNAL_KEY))
            salt = fetch(txn, handles[META], SALT_KEY) or b""
        except RowDamaged as error:
            raise _damaged(META, error) from error
    if pending(state_folder, settled, salt):
        StateStore.open(state_folder).close()


def other_schema(folder: Path, found: bytes | None) -> StoreSchema:
    """The file is of an older or a newer version."""
    theirs = "none" if found is None else found.decode(errors="replace")
    text = f"{folder}: the state is of schema {theirs}; this version reads {SCHEMA} alone"
    how = f"run: mv {folder} {folder}.{theirs}   (the fleet then starts with an empty state)"
    return StoreSchema(text, hint=how)


def _left(folder: Path, frames: int, error: StoreFull) -> StoreFull:
    groups = "1 group" if frames == 1 else f"{frames} groups"
    text = f"{folder}: {groups} of confirmed transactions in the journal alone: {error}"
    how = f"make room on the disk of {folder}, then run it again; nothing is lost meanwhile"
    return StoreFull(text, hint=how)


def _meta(reader: Callable[[B], M], data: B) -> M:
    try:
        return reader(data)
    except RowDamaged as error:
        raise _damaged(META, error) from error


def _read(lsn: int, data: bytes) -> Entry:
    try:
        entry = read_entry(data)
    except UNREADABLE as error:
        raise StoreDamaged(f"record {lsn} of the log cannot be read: {error}") from error
    if entry.lsn != lsn:
        raise StoreDamaged(f"record {lsn} of the log says that it is {entry.lsn}")
    return entry


def _damaged(name: bytes, error: Exception) -> StoreDamaged:
    return StoreDamaged(f"{name.decode()}: {error}", hint=DAMAGED_HINT)
