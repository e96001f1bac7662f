"""`[state]` of the settings, as the broker reads it; what `status --verbose` says of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.config import LaunchRecord, read_record
from broker.core.keeping import Keeping
from broker.errors import ConfigError as BrokerConfigError
from shard_node.state.trimming import RECORDS_KEPT_MIN
from shardctl import config, keeping
from shardctl.cli.state_lines import state_lines
from shardctl.errors import ConfigError
from shardctl.launch import Bot, Record, save_record

RECORD = Record("f", "ipc:///r/s", "/d", "/r", Bot("/b", "main.py"))


def as_broker_reads(folder: Path, state: dict[str, Any]) -> LaunchRecord:
    save_record(dataclasses.replace(RECORD, state=state), folder / "fleet.json")
    return read_record(folder / "fleet.json")


def test_without_settings_it_is_the_brokers_defaults(tmp_path: Path) -> None:
    read = as_broker_reads(tmp_path, keeping.recorded({}, "f", tmp_path))
    assert Keeping(**msgspec.structs.asdict(read.state)) == Keeping()
    day_ms = 86_400_000
    assert Keeping() == Keeping(90 * day_ms, 10_000_000, 86_400.0, 3, "")
    assert keeping.RECORDS_MIN == RECORDS_KEPT_MIN


def test_what_is_set_goes_all_the_way(tmp_path: Path) -> None:
    (tmp_path / "shardctl.toml").write_text(
        '[state]\nkeep_log = "1d12h"\nkeep_records = 70_000\nbackup_every = "90m"\nbackups = 5\n'
        'backup_folder = "elsewhere"\n'
    )
    table = config.load(tmp_path).state
    state = as_broker_reads(tmp_path, keeping.recorded(table, "f", tmp_path)).state
    found = Keeping(**msgspec.structs.asdict(state))
    assert found == Keeping(129_600_000, 70_000, 5400.0, 5, str(tmp_path / "elsewhere" / "f"))
    assert keeping.backup_folders(Path("/d"), {"folder": "/x/f"}) == [
        Path("/d/backups"),
        Path("/x/f"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('keep_log = "forever"', {"log_ms": 0}),
        ('backup_every = "never"', {"backup_every_s": 0.0}),
        ("keep_records = 0", {"records": 0}),
        ('backup_folder = "/mnt/b"', {"folder": "/mnt/b/f"}),
    ],
)
def test_the_ends_of_what_may_be_set(tmp_path: Path, line: str, words: dict[str, Any]) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.shardctl.state]\n{line}\n")
    assert keeping.recorded(config.load(tmp_path).state, "f", Path("/y")) == words


@pytest.mark.parametrize(
    "line",
    [
        'keep_log = "90"', "keep_log = 90", 'keep_log = ""', 'keep_log = "0d"',
        'keep_log = "200000d"',
        "keep_records = 65536", "keep_records = true", "keep_records = -1", 'backup_every = "59s"',
        'backup_every = "forever"', "backups = 0", "backups = 1001", 'backup_folder = ""',
        "keep = 1",
    ],
)  # fmt: skip
def test_what_may_not_be_set_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "shardctl.toml").write_text(f"shards = 2\n[state]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert "shardctl.toml:3: " in str(caught.value)
    assert "Allowed: " in caught.value.consequence


@pytest.mark.parametrize(
    "state", [{"backups": 0}, {"records": -1}, {"folder": "here"}, {"other": 1}, {"log_ms": "x"}],
    ids=str,
)  # fmt: skip
def test_a_record_that_says_what_cannot_be_is_refused(tmp_path: Path, state: Any) -> None:
    with pytest.raises(BrokerConfigError, match="state"):
        as_broker_reads(tmp_path, state)


STATE: dict[str, Any] = {
    "lsn": 1200, "first_lsn": 201, "commits": 7, "commits_failed": 0, "waiting": 2,
    "last_commit_ms": 1.25, "forgetting": 0, "log_at_ms": 5, "file_bytes": 3 << 20,
    "used_bytes": 2 << 20, "reader_behind": 0, "reader_s": 0.0,
    "backup": {
        "doing": "", "runs": 1, "trimmed_records": 200, "next_in_s": 7200.0,
        "error": "", "hint": "",
        "last": {"folder": "/b/auto-1", "lsn": 900, "made_at_s": 1e9, "size_bytes": 1 << 20},
    },
}  # fmt: skip


def test_the_lines_of_a_status() -> None:
    log, backups = state_lines(STATE)
    assert log == (
        "state: 1000 records (201 to 1200); 7 commits, the last in 1.2 ms; 2 waiting; "
        "file 3 MiB, 2 MiB in use"
    )
    assert "verified, up to transaction 900, 1 MiB, in /b/auto-1" in backups
    assert backups.endswith("200 records trimmed since the broker's start; next in 2 h 00 min")
    assert list(state_lines(None)) == []
    assert list(state_lines({"lsn": 1})) == []


def test_the_lines_of_one_with_troubles() -> None:
    state = json.loads(json.dumps(STATE)) | {
        "reader_behind": 900, "reader_s": 65.0, "commits_failed": 1, "forgetting": 1,
    }  # fmt: skip
    state["backup"] |= {"last": None, "error": "no room", "next_in_s": None}
    log, backups = state_lines(state)
    assert "1 failed; 2 waiting" in log
    assert log.endswith("oldest reader 900 commits behind for 1 min 05 s; 1 person being forgotten")
    assert backups.startswith("backups: none so far; the newest try failed: no room; ")
    assert backups.endswith("no more are made (backup_every)")
