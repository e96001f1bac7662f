"""`backup`, `state check|export|import|stats`, `economy audit`: on files, in a process beside."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shard_node.state.economy import Account, Deposit, Transfer
from shard_node.state.files import META, REPLAY_KEY, ROWS, lsn_key
from shard_node.state.keys import Table, key_of, partition_of
from shard_node.state.rows import write
from shardctl import launch, offline
from shardctl.cli import cli
from shardctl.paths import create_folders, fleet_paths
from store.offline import DATA_FILE, LOCK_FILE
from store.snapshot import KEPT_FILE
from store.statecommit import put
from tests.support.state_store import Rig, opened
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

RECORDS = 60


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a fleet that does not run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHARDCTL_FLEET", "test")
    monkeypatch.delenv("COLUMNS", raising=False)
    paths = fleet_paths("test")
    create_folders(paths)
    return paths.data_dir


@pytest.fixture
def rig(data: Path) -> Iterator[Rig]:
    """Its state, open and written as a running broker has it."""
    with opened(data / "state") as rig:
        rig.fill(RECORDS)
        yield rig


@pytest.fixture
def rest(data: Path) -> Path:
    """Its state, at rest."""
    with opened(data / "state") as rig:
        rig.fill(RECORDS)
    return data


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def shown(*args: str, code: int = 0) -> Any:
    done = run(*args, "--json")
    assert done.exit_code == code, done.output
    value = json.loads(done.stdout)
    assert value["schema"] == 1
    return value


def refused(code: str, exit_code: int, *args: str) -> str:
    done = run(*args)
    assert (done.exit_code, done.stdout) == (exit_code, ""), done.output
    assert done.stderr.startswith(f"error[{code}]: "), done.stderr
    return done.stderr


# --- backups


def test_a_backup_is_made_while_it_is_written_verified_and_restored(
    data: Path, tmp_path: Path
) -> None:
    with opened(data / "state") as rig:
        rig.fill(RECORDS)
        made = shown("backup", "create", str(tmp_path / "b"))
        assert (made["lsn"], made["first"]) == (RECORDS, 1)
        rig.fill(2 * RECORDS)
    report = shown("backup", "verify", made["folder"])
    assert (report["ok"], report["replayed"], report["records"]) == (True, True, RECORDS)
    assert "clean" in run("backup", "verify", made["folder"]).stdout
    refused("E_CONFIRM", 2, "backup", "restore", made["folder"])
    assert shown("backup", "restore", made["folder"], "--dry-run")["dry_run"]
    assert shown("state", "stats")["log"]["last"] == 2 * RECORDS
    done = run("backup", "restore", made["folder"], "--yes")
    assert done.exit_code == 0, done.output
    assert f"up to transaction {RECORDS}" in done.stdout
    assert shown("state", "stats")["log"]["last"] == RECORDS
    assert (data / "state" / KEPT_FILE).exists()
    assert shown("state", "check")["ok"]


def test_without_a_place_it_goes_into_the_data_folder(rig: Rig, data: Path) -> None:
    done = run("backup", "create")
    folder = Path(done.stdout.strip())
    assert folder.parent == data / "backups"
    assert "next: shardctl backup verify" in done.stderr


def test_a_backup_goes_into_a_new_folder_of_one_that_is_there(rig: Rig, tmp_path: Path) -> None:
    taken, nowhere = tmp_path / "b", tmp_path / "bakcups" / "b"
    shown("backup", "create", str(taken))
    said = refused("E_TAKEN", 2, "backup", "create", str(taken))
    assert "ANOTHER" in said and "backup list" in said and "verify" not in said
    (tmp_path / "link").symlink_to(nowhere)
    refused("E_TAKEN", 2, "backup", "create", str(tmp_path / "link"))
    said = refused("E_NO_FOLDER", 2, "backup", "create", str(nowhere))
    assert f"mkdir -p {nowhere.parent}" in said
    assert not nowhere.parent.exists()


def test_a_restore_refuses_a_running_fleet_and_a_damaged_backup(rest: Path, tmp_path: Path) -> None:
    made = shown("backup", "create", str(tmp_path / "b"))["folder"]
    with (rest / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = refused("E_STORE_IN_USE", 77, "backup", "restore", made, "--yes")
        assert "shardctl stop --fleet test" in said
        refused("E_STORE_IN_USE", 77, "state", "check")
    file = Path(made) / DATA_FILE
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    file.write_bytes(damaged)
    assert not shown("backup", "verify", made, code=1)["ok"]
    assert "1 problem" in run("backup", "verify", made).stdout
    refused("E_SNAPSHOT", 1, "backup", "restore", made, "--yes")
    refused("E_SNAPSHOT", 1, "backup", "verify", str(tmp_path))


def test_a_fleet_whose_broker_is_just_away_runs(
    rest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shown("backup", "create", str(tmp_path / "b"))["folder"]
    monkeypatch.setattr("shardctl.cli.offline.supervisor_pid", lambda _paths: 1)
    shown("state", "export", str(tmp_path / "part"), "-p", "7")
    for words in (
        ("backup", "restore", made, "--yes"),
        ("state", "check"),
        ("state", "import", str(tmp_path / "part"), "--yes"),
    ):
        assert "the fleet test runs" in refused("E_STORE_IN_USE", 77, *words)
    assert shown("backup", "restore", made, "--dry-run")["dry_run"]


# --- checks


def test_a_flipped_bit_is_found(rest: Path) -> None:
    assert "which lead to these rows" in run("state", "check").stdout
    file = rest / "state" / DATA_FILE
    data = file.read_bytes()
    assert b"name" in data
    file.write_bytes(data.replace(b"name", b"mane"))  # in old pages too, wherever the live one is
    report = shown("state", "check", code=1)
    assert report["problems"]
    assert "problem" in run("state", "check").stdout


def test_a_copy_is_checked_while_it_is_written(rig: Rig, data: Path) -> None:
    report = shown("state", "check", "--copy")
    assert (report["ok"], report["replayed"]) == (True, True)
    assert not list(data.glob("check-*"))
    assert shown("state", "check", "--copy", "--replay-max", "1")["notes"]


def test_a_state_that_is_not_there_is_told(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "part"
    for words in (
        ("state", "stats"),
        ("state", "check"),
        ("state", "check", "--copy"),
        ("state", "export", str(file), "-p", "7"),
        ("economy", "audit"),
        ("backup", "create"),
    ):
        assert "never started" in refused("E_NO_STATE", 4, *words)
    file.write_text("x")
    refused("E_NO_STATE", 4, "state", "import", str(file), "--yes")
    refused("E_EXPORT", 1, "state", "import", str(file), "--dry-run")


# --- partitions


def test_a_partition_goes_out_and_in(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "part"
    with opened(data / "state") as rig:
        rig.do(Deposit("user:7", 5))
        rig.flush()
        out = shown("state", "export", str(file), "--id", "7")
        assert out["partition"] == partition_of(7)
        assert out["rows"] > 0
        rig.do(Deposit("user:7", 5))
        rig.flush()
    assert shown("state", "import", str(file), "--dry-run")["rows"] == out["rows"]
    refused("E_CONFIRM", 2, "state", "import", str(file))
    assert shown("state", "import", str(file), "--yes")["written"] > 0
    with opened(data / "state") as rig:
        row = rig.store.view.get(key_of(Table.ACCOUNT, "user:7"))
        assert row is not None
    assert "exists" in refused("E_USAGE", 2, "state", "export", str(file), "-p", "7")
    nowhere = str(tmp_path / "nowhere" / "part")
    assert "there is no folder" in refused("E_USAGE", 2, "state", "export", nowhere, "-p", "7")
    refused("E_USAGE", 2, "state", "export", str(file))
    refused("E_USAGE", 2, "state", "export", str(file), "-p", "256")
    file.write_bytes(file.read_bytes()[:-1])
    said = refused("E_EXPORT", 1, "state", "import", str(file), "--yes")
    assert "ends before its end" in said
    other = tmp_path / "other"
    for data_of in (b"", b"x", b"name,balance\nann,5\n", bytes(5000), file.read_bytes()[40:]):
        other.write_bytes(data_of)
        said = refused("E_EXPORT", 1, "state", "import", str(other), "--yes")
        assert "is no export of shardctl" in said
        assert "hint: shardctl state export" in said


def test_looking_at_it_leaves_its_files_private(rest: Path) -> None:
    (rest / "state" / "lock.mdb").unlink()
    shown("state", "stats")
    assert {path.stat().st_mode & 0o777 for path in (rest / "state").iterdir()} == {0o600}


def test_the_figures(rig: Rig) -> None:
    found = shown("state", "stats")
    assert found["log"] == {"first": 1, "last": RECORDS}
    rows = sum(found["tables"].values())
    assert rows == len(rig.model.view.rows) == sum(p["rows"] for p in found["by_partition"])
    text = run("state", "stats").stdout
    assert f"log: {RECORDS} records, 1 to {RECORDS}" in text
    peoples = {"value", "account", "config", "member", "permission", "user", "premium", "ban"}
    peoples.add("cooldown")
    kept = sum(count for name, count in found["tables"].items() if name not in peoples)
    assert ["bookkeeping", str(kept)] in [line.split() for line in text.splitlines()]
    assert "\ntotal " not in text


# --- the audit


def test_the_money_is_proved_from_the_tables_and_the_log(rig: Rig) -> None:
    rig.do(Deposit("ann", 10))
    rig.do(Transfer("ann", "bob", 4))
    rig.flush()
    report = shown("economy", "audit")
    assert report["findings"] == []
    assert report["log"]["proved"]
    assert report["tables"]["balance"] == report["tables"]["created"]
    assert run("economy", "audit").stdout.endswith("no difference\n")


def plant(rig: Rig, name: bytes, key: bytes, value: bytes) -> None:
    with rig.store.env.begin(write=True) as txn:
        put(txn, rig.store.handles[name], key, value)


def test_a_planted_coin_is_found_by_both(rig: Rig) -> None:
    rig.do(Deposit("ann", 10))
    rig.flush()
    plant(rig, ROWS, key_of(Table.ACCOUNT, "ann"), write(Account(2, 1, 1, balance=11)))
    report = shown("economy", "audit", code=1)
    assert {one["code"] for one in report["findings"]} >= {"sum", "log_sum", "log_account"}
    done = run("economy", "audit")
    assert done.exit_code == 1
    assert "differences" in done.stdout


def test_the_log_is_proved_from_a_backup_on(rig: Rig, tmp_path: Path) -> None:
    made = shown("backup", "create", str(tmp_path / "b"))["folder"]
    rig.do(Deposit("ann", 10))
    rig.flush()
    report = shown("economy", "audit", "--since", made)
    assert (report["findings"], report["log"]["first"]) == ([], RECORDS + 1)


def test_what_the_log_cannot_prove_is_said(rig: Rig) -> None:
    plant(rig, META, REPLAY_KEY, lsn_key(5))
    report = shown("economy", "audit")
    assert not report["log"]["proved"]
    assert "imported after record 4" in run("economy", "audit").stdout


# --- the process beside


def test_one_that_dies_is_told(rest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardctl.cli.offline._BOOTSTRAP", "import os; os.kill(os.getpid(), 9)")
    assert "by signal 9" in refused("E_BUG", 1, "state", "stats")


def test_ctrl_c_leaves_nothing_half_done(rest: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "shardctl", "state", "check", "--copy", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    ) as process:
        wait_for(
            "the copy has begun, or all is done",
            lambda: list(rest.glob("check-*")) or process.poll() is not None,
            20.0,
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode in (0, 130)  # 0: it was done at that moment
    assert not list(rest.glob("check-*"))


def test_an_installation_without_a_broker_is_told(
    rest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise launch.LaunchError("no broker here")

    monkeypatch.setattr("shardctl.cli.offline.daemon_folder", nowhere)
    assert "no broker here" in refused("E_INSTALL", 78, "state", "stats")


def test_every_verb_is_known() -> None:
    assert set(offline.VERBS) == {
        "stats", "audit", "export", "import", "check", "backup", "backups", "verify",
        "restore",
    }  # fmt: skip
