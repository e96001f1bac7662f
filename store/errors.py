"""Errors of the store, all under one root. ``hint`` says what to do next.

StoreError               code, hint
+-- StoreOpenError       the environment cannot be opened
|   +-- StoreMemory      the address space does not hold the map
|   +-- StoreInUse       a broker runs on it
|   +-- StoreSchema      the state was written by another version
|   +-- StoreDamaged     the file is no LMDB, of another format, or holds what we cannot read
+-- StoreFull            the disk or the map is full; what was asked is not kept
+-- StoreFailed          a commit failed for another reason; what was asked is not kept
|   +-- StorePanic       the engine gave up; nothing more can be written by this process
+-- SnapshotRefused      no snapshot, one that does not verify, or not one of this state
+-- BackupFailed         a copy of the state was made and does not verify
+-- ExportRefused        no export of a partition, or one that is damaged
+-- StoreBusy            more waits than the writer may hold; retry
+-- StoreClosed          the writer has ended
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of the store's errors."""

    code = "E_STORE"
    hint = "read the broker's log"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class StoreOpenError(StoreError):
    """The environment cannot be opened."""

    hint = "check the owner and the mode of the data folder"


class StoreMemory(StoreOpenError):
    """The address space is too small for the map."""

    code = "E_STORE_MEMORY"
    hint = "raise the limit of the address space (ulimit -v unlimited)"


class StoreInUse(StoreOpenError):
    """Work that needs the state at rest, while a broker runs."""

    code = "E_STORE_IN_USE"
    hint = "run: shardctl stop"


class StoreSchema(StoreOpenError):
    """The state was written by another version, which lays it out differently."""

    code = "E_STORE_SCHEMA"
    hint = "run the version that wrote it"


class StoreDamaged(StoreOpenError):
    """The store's file cannot be read as ours."""

    code = "E_STORE_DAMAGED"
    hint = "move the folder `store` away; the fleet then starts with an empty one"


class StoreFull(StoreError):
    """No room on the disk. Reads go on; the same store works again once there is room."""

    code = "E_STORE_FULL"
    hint = "make room on the disk of the data folder"


class StoreFailed(StoreError):
    """A commit failed."""


class StorePanic(StoreFailed):
    """The engine gave up in the middle of a commit: this process can write no more."""

    code = "E_STORE_PANIC"
    hint = "the broker must be started again; what was confirmed is safe"


class StoreBusy(StoreError):
    """The writer holds as much as it may."""

    code = "E_STORE_BUSY"
    hint = "retry"


class StoreClosed(StoreError):
    """The writer has ended."""


class SnapshotRefused(StoreError):
    """What was given is no snapshot, or none that may be used here."""

    code = "E_SNAPSHOT"
    hint = "run: shardctl backup verify"


class BackupFailed(StoreError):
    """The state was copied, and the copy is not what was written: the state may not be either."""

    code = "E_BACKUP"
    hint = "run: shardctl state check --copy"


class ExportRefused(StoreError):
    """What was given is no export of a partition, or its place is taken."""

    code = "E_EXPORT"
    hint = "export it again, to a file that does not exist"
