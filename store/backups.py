"""The broker's own backups: a copy, verified, and the older ones that go for it.

    python -c BOOTSTRAP JSON      one such backup; one line of JSON comes out

In a process of its own, as a verification computes for minutes. It ends at once when its
standard input does, as the broker has then. What a name says is so: a copy is called
``NAME.unverified`` until it was verified, ``NAME.failed`` where that found something.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from store import snapshot
from store.beside import beside
from store.engine import FOLDER_MODE, os_failure
from store.errors import BackupFailed, SnapshotRefused, StoreError, StoreFull
from store.offline import sync_folder
from store.snapshot import Manifest
from store.statestats import sizes

AUTO: Final = "auto-"
"""What the broker's own backups are called; all others are nobody's business here."""
UNVERIFIED: Final = ".unverified"
FAILED: Final = ".failed"
REPLAY_MAX: Final = 100_000
"""Records that are replayed against the rows: some seconds. A longer log is for `state check`."""
ROOM_MIN_BYTES: Final = 64 << 20
"""What has to stay free on the disk beside the copy, or a tenth of the copy."""
NICE: Final = 10
_GONE_BY_NOW: Final = (UNVERIFIED, UNVERIFIED + ".part")


class Found(NamedTuple):
    """A backup in a folder. ``auto``: the broker made it; then it is known to be ``verified``,
    or to be ``failed``."""

    path: Path
    manifest: Manifest
    auto: bool
    verified: bool
    failed: bool

    @property
    def digest(self) -> bytes:
        """Of its last record."""
        return bytes.fromhex(self.manifest.digest)


def listed(folder: Path) -> list[Found]:
    """The backups in a folder, the oldest by log time first; what is none is left out."""
    found: list[Found] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(SnapshotRefused):
            manifest = snapshot.read_manifest(path)
            auto, failed = path.name.startswith(AUTO), path.name.endswith(FAILED)
            whole = not failed and not path.name.endswith(_GONE_BY_NOW)
            found.append(Found(path, manifest, auto, auto and whole, auto and failed))
    return sorted(found, key=_age)


def make(state: Path, folder: Path, at_ms: int, keep: int) -> dict[str, Any]:
    """A new backup of the state in ``folder``, verified; then those beyond ``keep`` go.

    ``at_ms`` is what log time it is. Raises BackupFailed where it does not verify: it stays,
    to be looked at, until the next. StoreFull where there is no room: nothing is begun then.
    """
    _prepare(folder)
    with beside(state) as store:
        _check_room(folder, sizes(store).used_bytes)
        made_at_s = time.time()
        name = (
            f"{AUTO}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(made_at_s))}-{store.place().lsn}"
        )
        unverified = folder / (name + UNVERIFIED)
        snapshot.take(store.env, unverified, made_at_s, at_ms)
    manifest, report = snapshot.verify(unverified, REPLAY_MAX)
    if report.problems:
        _remove(one.path for one in listed(folder) if one.failed)
        failed = _renamed(unverified, folder / (name + FAILED))
        raise BackupFailed(f"{failed}: {report.problems[0]}")
    done = _renamed(unverified, folder / name)
    _thin_out(folder, done, keep)
    return {
        "folder": str(done),
        "lsn": manifest.lsn,
        "digest": manifest.digest,
        "at_ms": manifest.taken_at_ms,
        "made_at_s": manifest.made_at_s,
        "size_bytes": manifest.size_bytes,
        "replayed": report.replayed,
    }


def _prepare(folder: Path) -> None:
    """What a process left that was killed in the middle goes."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        names = [path for path in folder.iterdir() if path.name.startswith(AUTO)]
    except OSError as error:
        raise os_failure(error, folder) from error
    _remove(path for path in names if path.name.endswith(_GONE_BY_NOW))


def _check_room(folder: Path, used_bytes: int) -> None:
    free, needed = (
        shutil.disk_usage(folder).free,
        used_bytes + max(ROOM_MIN_BYTES, used_bytes // 10),
    )
    if free < needed:
        text = f"{folder}: {free >> 20} MiB are free, a backup needs {needed >> 20} MiB"
        raise StoreFull(text, hint="make room there, or name another disk: backup_folder")


def _thin_out(folder: Path, newest: Path, keep: int) -> None:
    """The oldest by log time first, never the new one; and those that failed before it."""
    mine = [one for one in listed(folder) if one.auto and one.path != newest]
    whole = [one.path for one in mine if one.verified]
    _remove([*(one.path for one in mine if one.failed), *whole[: max(0, len(whole) + 1 - keep)]])


def _age(one: Found) -> tuple[int, int, str]:
    return one.manifest.taken_at_ms or one.manifest.at_ms, one.manifest.lsn, one.path.name


def _renamed(path: Path, target: Path) -> Path:
    try:
        path.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise os_failure(error, target) from error
    return target


def _remove(paths: Any) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


# --- the process


def main(argv: list[str]) -> int:
    """Do it; the end is on standard output."""
    how = json.loads(argv[1])
    threading.Thread(target=_end_with_the_broker, daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    try:
        words: dict[str, Any] = {
            "done": make(Path(how.pop("state")), Path(how.pop("folder")), **how)
        }
    except StoreError as error:
        words = {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
    except Exception as error:
        # The broker tells it as the reason why there is no backup; it must not be silent.
        text = f"{type(error).__name__}: {error}"
        words = {"error": {"code": "E_BUG", "message": text, "hint": "read the broker's log"}}
    print(json.dumps(words), flush=True)
    return 0


def _end_with_the_broker() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
