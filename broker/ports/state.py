"""The state's store as the broker's core reads it, and the writer behind it.

The loop's thread reads: LMDB's pages are in memory, a row costs microseconds. The writer's
thread only commits.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.core.effects import Backup, Erase, KeepNote, KeepState, Trim
from broker.core.events import BackedUp, StateCommitted, StateSettled
from broker.core.keeping import KEEPING_NOTE, TRIMMED, Kept, read_kept
from broker.core.logtime import LogClock, LogMark
from broker.core.stateport import (
    COOLDOWNS_NOTE,
    ERASED,
    FORGETTING_NOTE,
    Behind,
    Forgetting,
    SharedState,
)
from broker.core.unsettled import PortFigures
from broker.ports.backups import BackupPort
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import StateError
from shard_node.state.files import Mark
from shard_node.state.log import Entry
from shard_node.state.machine import Place
from shard_node.state.opids import Known
from store.errors import StoreError
from store.state import StateStore, StateView
from store.statecommit import Batch
from store.statestats import Readers, sizes
from store.statewriter import StateWriter
from store.trim import erasing, trimming

FOLDER: Final = "state"
SECRET_BYTES: Final = 32
READERS_CHECKED_S: Final = 5.0
"""How often the reader table is cleared of the dead while there are commits: a stale reader
makes the file grow, and only then."""
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_encode = msgspec.msgpack.Encoder().encode


class Unreadable(StateError):
    """The state's file holds what was not written there."""

    code = "E_STORE_DAMAGED"


class CheckedView:
    """The store's view; what is damaged is told as an error of the state."""

    def __init__(self, view: StateView) -> None:
        self._view = view

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes. Raises Unreadable."""
        try:
            return self._view.get(key)
        except StoreError as error:
            raise _unreadable(error) from error

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order. To be ended before the next ``renew``. Raises Unreadable."""
        try:
            yield from self._view.scan(prefix, after)
        except StoreError as error:
            raise _unreadable(error) from error


class StoredState:
    """A port on the store. Raises Unreadable where it reads what is damaged."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._readers = Readers()
        self.view = CheckedView(store.view)
        self.renew()

    def renew(self) -> None:
        """See what was committed since."""
        self._store.renew()
        self._place = self._store.place().place
        self._first = self._store.base().lsn + 1

    def place(self) -> Place:
        """Where the log stands."""
        return self._place

    def first_lsn(self) -> int:
        """The oldest record that the log still has; one after the last where it has none."""
        return self._first

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""
        if not self._first <= lsn <= self._place.lsn:
            return None
        try:
            return self._store.entry(lsn)
        except StoreError as error:
            raise _unreadable(error) from error

    def entries(self, after: int, limit: int) -> Iterator[Entry]:
        """Records after the lsn ``after``, at most ``limit``, in order."""
        try:
            yield from self._store.entries(after, limit)
        except StoreError as error:
            raise _unreadable(error) from error

    def figures(self, now: float) -> PortFigures:
        """Of the file, for `status`; at once."""
        found = sizes(self._store)
        behind = [one for one in self._readers.observe(self._store, now) if one.behind > 0][:1]
        oldest = (behind[0].behind, round(now - behind[0].since_s, 3)) if behind else (0, 0.0)
        return PortFigures(found.file_bytes, found.used_bytes, *oldest)

    def op_ids(self, after: int, limit: int) -> list[Known]:
        """The op ids and times of records after the lsn ``after``, at most ``limit``, in order."""
        try:
            return self._store.op_ids(after, limit)
        except StoreError as error:
            raise _unreadable(error) from error


class StateKeeper:
    """Opens the state, gives the machine its port, and carries its commits out. What the file
    has no room for at the start is there for all that read through the port.

    ``wake`` is called on the writer's thread when ``ends`` has something new. Raises StoreError.
    """

    def __init__(self, data_dir: Path, boot_id: str, wake: Callable[[], None]) -> None:
        self._store = StateStore.open(data_dir / FOLDER, in_part=True)
        self._port = StoredState(self._store)
        self._left = [batch for frame in self._store.left for batch in frame.batches]
        mark = ([self._store.place()] + [one.mark for one in self._left if one.mark])[-1]
        now = time.monotonic()
        clock = LogClock(
            LogMark(mark.at_ms, mark.boot_id, mark.boottime_ms),
            now,
            boot_id=boot_id,
            boot_ms=time.clock_gettime_ns(_BOOT_CLOCK) // 1_000_000,
            wall_ms=time.time_ns() // 1_000_000,
        )
        secret = secrets.token_bytes(SECRET_BYTES)
        era, behind = self._store.descent(), _behind(self._left)
        self.shared = SharedState(self._port, secret, era, behind, clock=clock)
        self._restore_cooldowns(clock.at_ms(now))
        left = self._note(FORGETTING_NOTE)
        if left is not None:
            found = msgspec.msgpack.decode(left, type=list[Forgetting])
            self.shared.forgetting = [one for one in found if self._was_forgotten(one)]
        self.shared.kept = self._kept()
        self._backups = BackupPort(data_dir / FOLDER, wake)
        self._wake = wake
        self._ends: queue.SimpleQueue[StateCommitted | StateSettled] = queue.SimpleQueue()
        self._readers_checked_at = now
        self._writer = StateWriter(self._store, self._done)
        self._writer.on_settled(self._settled)
        self._writer.go_on(self._store.left)
        self._left.clear()
        self._store.left.clear()

    def keep(self, effect: KeepState) -> StateCommitted | None:
        """Gives a commit to the writer. An event comes back where it takes none."""
        last, mark = effect.entries[-1], effect.mark
        at = Mark(
            last.lsn,
            last.digest,
            mark.at_ms,
            mark.boot_id,
            mark.boot_ms,
            time.time_ns() // 1_000_000,
        )
        try:
            left = effect.forgetting
            notes = {} if left is None else {FORGETTING_NOTE: _encode(left)}
            entries = tuple(effect.entries)
            self._writer.submit(effect.token, effect.writes, entries, at, notes=notes)
        except StoreError as error:
            return _failed(effect.token, error)
        return None

    def backup(self, effect: Backup) -> None:
        """Has the state backed up, beside all else."""
        self._backups.begin(effect)

    def note(self, effect: KeepNote | Erase | Trim) -> StateCommitted | None:
        """Has bytes kept beside rows and log, payloads erased, or a piece of the log trimmed."""
        notes: dict[str, bytes | None] = {}
        match effect:
            case KeepNote():
                token, work, notes = 0, None, {effect.name: effect.data}
            case Erase():
                token, work = ERASED, erasing(effect.lsns)
                notes = {FORGETTING_NOTE: _encode(effect.forgetting)}
            case Trim():
                token, work = TRIMMED, trimming(effect.up_to)
        try:
            self._writer.submit(token, notes=notes, work=work)
        except StoreError as error:
            return _failed(token, error)
        return None

    def reset(self) -> None:
        """What is given from now on was computed on what the store has."""
        self._writer.reset()

    def ends(self) -> Iterator[StateCommitted | StateSettled | BackedUp]:
        """How commits went, in their order; ``settled`` of the shared state shows what the file
        does by then. And how a backup did."""
        yield from self._backups.ends()
        while not self._ends.empty():
            end = self._ends.get()
            if isinstance(end, StateSettled) or end.token < 0:
                self._port.renew()
                self._check_readers()
            yield end

    def close(self, timeout_s: float) -> None:
        """Ends the writer. A commit that hangs keeps its environment: closing it under the
        thread would crash."""
        self._backups.close()
        if self._writer.close(timeout_s):
            self._store.close()

    def _was_forgotten(self, one: Forgetting) -> bool:
        """Whether the record is there that forgot him: it may not have been kept, though the note
        was. Where it cannot be read, he was."""
        try:
            entry = self.shared.port.entry(one.up_to)
        except StateError:
            return True
        return entry is not None and ForgetUser.__name__ in entry.kinds

    def _kept(self) -> Kept:
        """What cannot be read is no reason not to start: a backup is made the sooner."""
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            return read_kept(self._note(KEEPING_NOTE))
        return Kept()

    def _note(self, name: str) -> bytes | None:
        """As it was last kept, at the start."""
        found = [batch.notes[name] for batch in self._left if name in batch.notes]
        return found[-1] if found else self._store.note(name)

    def _restore_cooldowns(self, at_ms: int) -> None:
        """A checkpoint that cannot be read is no reason not to start."""
        saved = self._note(COOLDOWNS_NOTE)
        with contextlib.suppress(StateError, msgspec.MsgspecError):
            windows = msgspec.msgpack.decode(saved, type=list[tuple[Any, ...]]) if saved else []
            self.shared.buckets.restore(windows, at_ms)

    def _done(self, tokens: tuple[int, ...], error: StoreError | None) -> None:
        """On the writer's thread, or the settler's."""
        for token in tokens:
            self._ends.put(StateCommitted(token) if error is None else _failed(token, error))
        self._wake()

    def _settled(self, token: int, error: StoreError | None) -> None:
        """On the settler's thread."""
        code, text = ("", "") if error is None else (error.code, str(error))
        self._ends.put(StateSettled(token, text, code))
        self._wake()

    def _check_readers(self) -> None:
        now = time.monotonic()
        if now >= self._readers_checked_at + READERS_CHECKED_S:
            self._readers_checked_at = now
            self._store.check_readers()


def _behind(left: list[Batch]) -> list[Behind]:
    return [Behind(one.token, one.writes, one.entries) for one in left if one.entries]


def _failed(token: int, error: StoreError) -> StateCommitted:
    return StateCommitted(token, error.code, str(error), error.hint)


def _unreadable(error: StoreError) -> Unreadable:
    return Unreadable(str(error), hint=error.hint)
