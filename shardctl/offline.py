"""Work on the state's own files: ``python -c BOOTSTRAP VERB JSON``, in a process of its own.

The command line must not load lmdb, and ``store`` lies beside the broker, where no import of
a bot's finds it (``shardctl.cli.offline`` starts this with that folder on the path). One line
of JSON comes out: ``{"done": {...}}`` or ``{"error": {"code", "message", "hint"}}``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from shard_node.state.audit import Finding, Sums, audit, audit_log, compare
from shard_node.state.files import META, REPLAY_KEY, RowDamaged, key_lsn
from shard_node.state.keys import PARTITIONS
from shardctl.errors import EXIT_INTERRUPTED
from shardctl.keeping import backup_folders
from shardctl.launch import read_json
from store import backups, check, partitions, snapshot
from store.beside import beside
from store.errors import SnapshotRefused, StoreDamaged, StoreError
from store.offline import opened_at_rest
from store.state import StateStore
from store.statestats import PartitionStats, partition_stats, sizes

RECORD_FILE: Final = "fleet.json"
"""The launch record, in the data folder (shardctl.paths)."""
LOG_MAX: Final = 1 << 62
"""Records in a log, at most."""
Words = dict[str, Any]


# --- what can be asked for


def stats(folder: Path) -> Words:
    """Sizes, rows by table, and each partition that has rows."""
    with beside(folder) as store:
        found, era = sizes(store), store.era()
        parts = []
        for partition in range(PARTITIONS):
            parts.append(partition_stats(store.view, partition))
            store.renew()  # a long look at one moment makes the file of a busy fleet grow
    return {
        "era": era,
        "file_bytes": found.file_bytes,
        "used_bytes": found.used_bytes,
        "map_bytes": found.map_bytes,
        "log": {"first": found.first, "last": found.last},
        "databases": {name: each._asdict() for name, each in found.databases.items()},
        "tables": _tables(parts),
        "partitions": sum(bool(each.rows) for each in parts),
        "by_partition": [p._asdict() for p in parts if p.rows],
    }


def _tables(parts: list[PartitionStats]) -> dict[str, int]:
    tables: dict[str, int] = {}
    for each in parts:
        for name, rows in each.tables.items():
            tables[name] = tables.get(name, 0) + rows
    return dict(sorted(tables.items()))


def prove(folder: Path, *, since: str) -> Words:
    """The audit of the money, of one moment. ``since``: a backup that the log goes on from;
    without it, of a log that was trimmed, the oldest of the broker's own that will do."""
    with beside(folder) as store:
        tables, findings = audit(store.view)
        last, base = store.place().lsn, store.base().lsn
        imported = store.view.lookup(META, REPLAY_KEY)
        named = Path(since) if since else _goes_on(store, base) if base else None
        begin, start, why = _start(named, store, findings)
        if imported is not None and key_lsn(imported) > begin + 1:
            why = f"rows were imported after record {key_lsn(imported) - 1}"
        elif not why and base > begin:
            why = f"it was trimmed up to record {base}; give a backup (--since)"
        log: Words = {"first": begin + 1, "last": last, "proved": not why, "why": why}
        log["since"] = str(named) if named else ""
        if why:
            log["words"] = f"from the log: not proved, {why}"
        else:
            sums, more = audit_log(store.entries(begin, LOG_MAX), start)
            findings += more + compare(tables, sums)
            log["unknown"] = sums.unknown
            log["words"] = _log_words(sums, begin, last, log["since"])
            later = _goes_on(store, sums.unknown_to, by_hand=True) if sums.unknown else None
            log["compares"] = str(later) if later else ""
    return {"tables": tables.plain(), "log": log, "findings": [one._asdict() for one in findings]}


def _goes_on(store: StateStore, after: int, *, by_hand: bool = False) -> Path | None:
    """The oldest verified backup of the record ``after``, or a later one, of this log.
    ``by_hand``: one that was never verified will do."""
    found = [
        one for one in _backups(store.folder.parent) if one.verified or (by_hand and not one.failed)
    ]
    for one in sorted(found, key=lambda one: one.manifest.lsn):
        if one.manifest.lsn >= after and _same(store, one.manifest.lsn, one.digest):
            return one.path
    return None


def _start(
    since: Path | None, store: StateStore, findings: list[Finding]
) -> tuple[int, Sums | None, str]:
    """After which record the log is added up, the sums until there, and why it cannot be."""
    if since is None:
        return 0, None, ""
    snapshot.read_manifest(since)
    with opened_at_rest(since) as (env, handles):
        before = StateStore(env, since)
        before.handles.update(handles)
        mark = before.place()
        sums, wrong = audit(before.view)
        before.view.end()
    if mark.lsn and not _same(store, mark.lsn, mark.digest):
        return mark.lsn, None, f"{since} is no backup of this log"
    findings += wrong
    return mark.lsn, sums, ""


def _same(store: StateStore, lsn: int, digest: bytes) -> bool:
    """Whether the log's record ``lsn``, or the last that was trimmed, has this digest."""
    base, mine = store.base(), store.entry(lsn) if lsn else None
    return digest == (base.digest if lsn == base.lsn else mine.digest if mine else b"")


def _log_words(sums: Sums, begin: int, last: int, since: str) -> str:
    erased = f"; {sums.unknown} of them erased, so accounts were not compared"
    after = f" on top of {since}" if since else ""
    of = f"from the log, records {begin + 1} to {last}{after}: {sums.minted} created in all"
    return of + (erased if sums.unknown else "")


def export(folder: Path, *, partition: int, target: str) -> Words:
    """A partition's rows to a file."""
    with beside(folder) as store:
        lsn = store.place().lsn
        rows = partitions.export(store.view, partition, store.era(), lsn, Path(target))
    return {"partition": partition, "rows": rows, "lsn": lsn, "file": target}


def import_rows(folder: Path, *, source: str, dry_run: bool) -> Words:
    """A partition's rows from a file."""
    about, rows = partitions.check_export(Path(source))
    head = {"partition": about.partition, "lsn": about.lsn, "era": about.era}
    if dry_run:
        return {"dry_run": True, **head, "rows": rows}
    done = partitions.import_partition(folder, Path(source))
    return {**head, **done._asdict()}


def check_state(folder: Path, *, replay_max: int | None, since: str, copy: bool) -> Words:
    """Whether the state is what was written; ``copy``: a copy of it, while a broker runs."""
    start = Path(since) if since else None
    if not copy:
        return _report(check.check(folder, replay_max, start))
    place = Path(tempfile.mkdtemp(prefix="check-", dir=folder.parent))
    try:
        with beside(folder) as store:
            snapshot.take(store.env, place / "copy", time.time())
        return _report(check.check_file(place / "copy", replay_max, start))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _report(report: check.Report) -> Words:
    return {
        "ok": not report.problems,
        "problems": report.problems,
        "notes": report.notes,
        "lsn": report.mark.lsn,
        "first": report.base.lsn + 1,
        "rows": report.rows,
        "records": report.records,
        "erased": report.erased,
        "replayed": report.replayed,
    }


def backup(folder: Path, *, target: str) -> Words:
    """A snapshot of the state, while a broker runs or not."""
    with beside(folder) as store:
        manifest = snapshot.take(store.env, Path(target), time.time())
    return {"folder": target, **_manifest(manifest)}


def backup_list(folder: Path) -> Words:
    """The fleet's backups, the newest last."""
    found = sorted(_backups(folder.parent), key=lambda one: (one.manifest.made_at_s, one.path))
    return {"backups": [_listed(one) for one in found]}


def _backups(data_dir: Path) -> list[backups.Found]:
    """Those in the data folder, and where the settings of the last start put them."""
    record = read_json(data_dir / RECORD_FILE) or {}
    folders = backup_folders(data_dir, record.get("state") or {})
    return [one for folder in folders for one in backups.listed(folder)]


def _listed(one: backups.Found) -> Words:
    how = {"auto": one.auto, "verified": one.verified, "failed": one.failed}
    return {"folder": str(one.path), **how, **_manifest(one.manifest)}


def verify(_folder: Path, *, source: str, replay_max: int | None) -> Words:
    """Whether a snapshot is whole."""
    manifest, report = snapshot.verify(Path(source), replay_max)
    return {"folder": source, **_report(report), **_manifest(manifest)}


def restore(folder: Path, *, source: str, dry_run: bool) -> Words:
    """Put a snapshot in the place of the state."""
    if dry_run:
        manifest, report = snapshot.verify(Path(source))
        if report.problems:
            raise SnapshotRefused(f"{source}: {report.problems[0]}")
        return {"dry_run": True, "folder": source, **_manifest(manifest)}
    manifest = snapshot.restore(Path(source), folder)
    return {"folder": source, "kept": str(folder / snapshot.KEPT_FILE), **_manifest(manifest)}


def _manifest(manifest: snapshot.Manifest) -> Words:
    names = ("lsn", "at_ms", "first", "rows", "size_bytes", "sha256", "made_at_s", "era")
    return {name: getattr(manifest, name) for name in names}


VERBS: Final[dict[str, Callable[..., Words]]] = {
    "stats": stats,
    "audit": prove,
    "export": export,
    "import": import_rows,
    "check": check_state,
    "backup": backup,
    "backups": backup_list,
    "verify": verify,
    "restore": restore,
}


def main(argv: list[str]) -> int:
    """Do what is asked; the end is on standard output."""
    verb, asked = argv
    how = json.loads(asked)
    try:
        words: Words = {"done": VERBS[verb](Path(how.pop("folder")), **how)}
    except StoreError as error:
        words = {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
    except RowDamaged as error:
        words = {"error": {"code": StoreDamaged.code, "message": str(error), "hint": ""}}
    except OSError as error:
        text = f"{error.filename or how}: {error.strerror}"
        words = {"error": {"code": "E_SYSTEM", "message": text, "hint": ""}}
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print(json.dumps(words), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
