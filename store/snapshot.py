"""Snapshots: a copy of the state while it runs, its proof, and the way back.

A snapshot is a folder with the file and a manifest, which has the file's digest and says where
the log stood. It comes into being under another name and is renamed when it is durable.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
from msgspec import structs

from shard_node.state.files import (
    BASE_KEY,
    ERA_KEY,
    LOG,
    MARK_KEY,
    META,
    ROWS,
    UNREADABLE,
    RowDamaged,
    read_base,
    read_mark,
)
from store.check import Report, check_file
from store.engine import FILE_MODE, FOLDER_MODE, os_failure, write_error
from store.errors import SnapshotRefused, StoreDamaged
from store.offline import (
    DATA_FILE,
    JOURNAL_FILES,
    broker_kept_out,
    opened_at_rest,
    sync_folder,
)
from store.state import ERA_BYTES, StateStore, settle
from store.statecommit import fetch, put

MANIFEST_FILE: Final = "manifest.json"
MANIFEST_SCHEMA: Final = 1
KEPT_FILE: Final = "data.before-restore.mdb"
_PART: Final = ".part"
_BEFORE: Final = ".before-restore"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of. ``digest`` (hex) is of the record ``lsn``, ``first`` the first
    record that its log has; ``made_at_s`` is wall time, ``taken_at_ms`` log time (0: not known)."""

    schema: int = MANIFEST_SCHEMA
    lsn: int
    digest: str
    at_ms: int
    era: str
    first: int
    rows: int
    size_bytes: int
    sha256: str
    made_at_s: float = 0.0
    taken_at_ms: int = 0


def take(env: lmdb.Environment, target: Path, made_at_s: float, taken_at_ms: int = 0) -> Manifest:
    """Copy the committed state, compacted, into the new folder ``target``.

    The copy is a long reader: what is committed meanwhile makes the file grow. It runs outside
    the interpreter's lock, so a thread will do. Raises SnapshotRefused where ``target`` exists,
    StoreFull, StoreFailed, StoreDamaged.
    """
    if target.exists():
        raise SnapshotRefused(f"{target} exists", hint="name another folder, a new one")
    part = target.with_name(target.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(mode=FOLDER_MODE, parents=True)
        manifest = structs.replace(_copy(env, part, made_at_s), taken_at_ms=taken_at_ms)
        _write(part / MANIFEST_FILE, msgspec.json.encode(manifest))
        sync_folder(part)
        part.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise os_failure(error, part) from error
    except lmdb.Error as error:
        raise write_error(error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Raises SnapshotRefused for what is no snapshot."""
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, *UNREADABLE) as error:
        raise SnapshotRefused(f"{folder} is no snapshot: {error}") from error
    if manifest.schema != MANIFEST_SCHEMA:
        raise SnapshotRefused(f"{path}: schema {manifest.schema}; this is {MANIFEST_SCHEMA}")
    return manifest


def verify(folder: Path, replay_max: int | None = None) -> tuple[Manifest, Report]:
    """The file's digest, its structure, its chain, its rows. Raises SnapshotRefused for what is
    no snapshot; what is wrong with one is in the report."""
    manifest = read_manifest(folder)
    problems = _file_problems(folder, manifest)
    if problems:
        return manifest, Report(problems=problems)
    report = check_file(folder, replay_max)
    mark = report.mark
    if not report.problems and (mark.lsn, mark.digest.hex()) != (manifest.lsn, manifest.digest):
        report.problems.append(f"its log ends at {mark.lsn}; the manifest says {manifest.lsn}")
    return manifest, report


def restore(snapshot: Path, state_folder: Path) -> Manifest:
    """Put a snapshot, once verified, in the place of the state; in a new era.

    What was there is kept beside it as ``data.before-restore.mdb`` (the one of an earlier
    restore goes). A crash leaves the old state or the restored one. Raises SnapshotRefused
    where it does not verify, StoreInUse where a broker runs, StoreFull, StoreFailed.
    """
    try:
        state_folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with broker_kept_out(state_folder.parent):
            manifest, report = verify(snapshot)
            if report.problems:
                raise SnapshotRefused(f"{snapshot}: {report.problems[0]}")
            part = state_folder.with_name(state_folder.name + _PART)
            shutil.rmtree(part, ignore_errors=True)
            try:
                part.mkdir(mode=FOLDER_MODE)
                kept = _settled(state_folder)
                _copy_file(snapshot / DATA_FILE, part / DATA_FILE)
                _new_era(part)
                _swap(part / DATA_FILE, state_folder, keep_journal=not kept)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise os_failure(error, state_folder) from error
    return manifest


def _copy(env: lmdb.Environment, part: Path, made_at_s: float) -> Manifest:
    mask = os.umask(0o077)
    try:
        with env.begin() as txn:
            env.copy(str(part), compact=True, txn=txn)
    finally:
        os.umask(mask)
    path = part / DATA_FILE
    path.chmod(FILE_MODE)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with opened_at_rest(part) as (copy, handles), copy.begin() as txn:
        return _manifest(txn, handles, path.stat().st_size, digest, made_at_s)


def _manifest(
    txn: lmdb.Transaction, handles: dict[bytes, Any], size: int, digest: str, made_at_s: float
) -> Manifest:
    meta = handles[META]
    try:
        mark, base = read_mark(fetch(txn, meta, MARK_KEY)), read_base(fetch(txn, meta, BASE_KEY))
        era = fetch(txn, meta, ERA_KEY) or b""
    except RowDamaged as error:
        raise StoreDamaged(str(error)) from error
    if txn.stat(handles[LOG])["entries"] != mark.lsn - base.lsn:
        raise StoreDamaged(f"the log does not have the records {base.lsn + 1} to {mark.lsn}")
    return Manifest(
        lsn=mark.lsn,
        digest=mark.digest.hex(),
        at_ms=mark.at_ms,
        era=era.hex(),
        first=base.lsn + 1,
        rows=txn.stat(handles[ROWS])["entries"],
        size_bytes=size,
        sha256=digest,
        made_at_s=made_at_s,
    )


def _file_problems(folder: Path, manifest: Manifest) -> list[str]:
    path = folder / DATA_FILE
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [] if digest == manifest.sha256 else [f"{path} is not the file that was copied"]


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(FILE_MODE)


def _new_era(folder: Path) -> None:
    store = StateStore.open(folder)
    try:
        with store.env.begin(write=True) as txn:
            put(txn, store.handles[META], ERA_KEY, os.urandom(ERA_BYTES))
        store.env.sync(True)
    except lmdb.Error as error:
        raise write_error(error) from error
    finally:
        store.close()


def _settled(state_folder: Path) -> bool:
    """What the journal has comes into the file that is kept; False where it is damaged."""
    try:
        settle(state_folder)
    except StoreDamaged:
        return False
    return True


def _swap(new: Path, state_folder: Path, *, keep_journal: bool) -> None:
    """The old file has two names before the new one takes over one of them."""
    current, kept = state_folder / DATA_FILE, state_folder / KEPT_FILE
    kept.unlink(missing_ok=True)
    if current.exists():
        os.link(current, kept)
    for name in JOURNAL_FILES:
        journal = state_folder / name
        if not keep_journal:
            journal.unlink(missing_ok=True)  # all of it is in the file
        elif journal.exists():
            journal.replace(journal.with_name(f"{name}{_BEFORE}"))
    sync_folder(state_folder)
    new.replace(current)
    sync_folder(state_folder)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
