"""Backups and trimming for real: a broker's process, its disk, its death in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shard_node.state.economy import Deposit, Transfer
from shard_node.state.files import LOG, ROWS, lsn_key, pack
from shard_node.state.keys import Table, gone_key, key_of
from shard_node.state.rollback import Rollback
from shard_node.state.rows import Row, write
from shard_node.state.tx import Actor, Tx
from shard_node.state.values import SetValue
from shard_node.wire import topics
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.state import (
    StateDo,
    StateDone,
    StateRead,
    StateRows,
    StateTrim,
    StateTrimming,
)
from shardctl import offline
from store.backups import FAILED, UNVERIFIED, listed
from store.check import check
from store.snapshot import restore
from tests.support.broker_rig import Rig
from tests.support.state_fill import NAMES, fill
from tests.support.state_store import plant
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEPT = 65_537
RECORDS = KEPT + 4000
WAIT_S = 120.0
MARK = write(Row(7, 5, 5))
"""Of a row that was deleted by record 5."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state that is long enough for something to go."""
    folder = tmp_path_factory.mktemp("filled") / "state"
    fill(folder, RECORDS)
    return folder


@pytest.fixture
def rig(tmp_path: Path, filled: Path) -> Iterator[Rig]:
    with Rig(tmp_path, state={"records": KEPT, "backups": 2}) as rig:
        shutil.copytree(filled, rig.data / "state")
        yield rig


def begin(rig: Rig) -> None:
    rig.launch()
    rig.hear("serving")


def state_of(rig: Rig) -> dict[str, Any]:
    """It is asked again and again, by one peer."""
    peer = rig.peers[0] if rig.peers else rig.operator()
    kind, data = peer.request(topics.STATUS, [])
    assert kind is Kind.REPLY
    found: dict[str, Any] = decode_body(data, dict)["state"]
    return found


def trim(rig: Rig) -> StateTrimming:
    kind, data = rig.operator().request(topics.STATE_TRIM, StateTrim())
    assert kind is Kind.REPLY, data
    return decode_body(data, StateTrimming)


def ended(rig: Rig, runs: int = 1) -> dict[str, Any]:
    """The state's part of the status, once so many backups have ended."""

    def look() -> dict[str, Any] | None:
        state = state_of(rig)
        return state if state["backup"]["runs"] >= runs else None

    return wait_for("the end of the backup", look, WAIT_S)


def do(rig: Rig, number: int, *ops: Any, reason: str = "") -> StateDone:
    name = number.to_bytes(16, "big")
    data = msgspec.msgpack.encode(Tx(name, name, ops, Actor(reason=reason)))
    kind, body = rig.operator().request(topics.STATE_DO, StateDo((data,)))
    assert kind is Kind.REPLY, body
    return decode_body(body, StateDone)


def rows_of(rig: Rig, *keys: bytes) -> tuple[bytes | None, ...]:
    peer = rig.peers[0] if rig.peers else rig.operator()
    kind, body = peer.request(topics.STATE_READ, StateRead(keys))
    assert kind is Kind.REPLY, body
    return decode_body(body, StateRows).rows


def autos(rig: Rig) -> list[str]:
    folder = rig.data / "backups"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def child_of(pid: int) -> int | None:
    """The process that makes a backup."""
    for line in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        return int(line)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for word in (task / "children").read_text().split():
            return int(word)
    return None


def test_it_backs_up_trims_and_can_be_restored(rig: Rig) -> None:
    rig.record["state"]["backup_every_s"] = 1.0  # nobody asks for it
    begin(rig)
    wait_for("the log was trimmed", lambda: state_of(rig)["first_lsn"] == 4001, WAIT_S)
    state = ended(rig)
    backup = state["backup"]
    assert (backup["error"], backup["last"]["lsn"]) == ("", RECORDS)
    assert backup["trimmed_records"] == 4000
    assert rig.status()["warnings"] == []
    refused = do(rig, 1, Rollback(17), reason="too late").outcomes[0].error
    assert refused is not None
    assert refused.code == "E_NO_TX"
    assert "was trimmed from the log" in refused.message
    again = do(rig, 2, Deposit(NAMES[0], 5)).outcomes[0]
    assert do(rig, 2, Deposit(NAMES[0], 5)).outcomes[0] == again
    assert rig.terminate()[0] == 0
    proof = offline.prove(rig.data / "state", since="")
    assert proof["findings"] == []
    assert proof["log"]["proved"], proof["log"]["words"]
    assert proof["log"]["since"] == backup["last"]["folder"]
    report = check(rig.data / "state", since=Path(backup["last"]["folder"]))
    assert (report.problems, report.base.lsn) == ([], 4000)
    assert report.replayed
    restore(Path(backup["last"]["folder"]), rig.data / "state")
    rig.record["state"]["backup_every_s"] = 0
    begin(rig)
    assert (state_of(rig)["first_lsn"], state_of(rig)["lsn"]) == (1, RECORDS)
    assert do(rig, 3, Transfer(NAMES[0], NAMES[1], 1)).outcomes[0].error is None


def test_marks_of_what_was_deleted_before_the_log_begins_are_swept(rig: Rig) -> None:
    begin(rig)
    assert trim(rig).up_to == 4000
    assert ended(rig)["first_lsn"] == 4001
    assert rig.terminate()[0] == 0
    mark = gone_key(key_of(Table.VALUE, "deleted long ago"))
    plant(rig.data / "state", ROWS, mark, pack(mark, MARK))
    begin(rig)
    trim(rig)
    backup = ended(rig)["backup"]["last"]["folder"]
    wait_for("the mark is swept", lambda: rows_of(rig, mark) == (None,), WAIT_S)
    assert do(rig, 9, SetValue("deleted long ago", 1)).outcomes[0].results == ({"version": 8},)
    assert rig.terminate()[0] == 0
    report = check(rig.data / "state", since=Path(backup))
    assert (report.problems, report.replayed) == ([], True)


def test_a_damaged_record_prevents_trimming(rig: Rig) -> None:
    plant(rig.data / "state", LOG, lsn_key(30_000), b"\0\0\0\0damaged")
    begin(rig)
    assert trim(rig).up_to == 4000
    state = ended(rig)
    assert (state["first_lsn"], state["backup"]["last"]) == (1, None)
    warning = next(one for one in rig.status()["warnings"] if "nothing is trimmed" in one)
    assert "shardctl state check --copy" in warning
    assert [name.endswith(FAILED) for name in autos(rig)] == [True]
    assert do(rig, 2, Deposit(NAMES[0], 5)).outcomes[0].error is None


def test_a_copy_that_is_damaged_before_it_is_verified_prevents_trimming(rig: Rig) -> None:
    """A bit of the file, while the verifying process is stopped."""
    begin(rig)
    assert rig.process is not None
    pid = rig.process.pid
    trim(rig)

    def copied() -> Path | None:
        names = [n for n in autos(rig) if n.endswith(UNVERIFIED)]
        return rig.data / "backups" / names[0] / "data.mdb" if names else None

    file = wait_for("the copy is there", copied, WAIT_S)
    child = child_of(pid)
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    with file.open("r+b") as data:
        data.seek(file.stat().st_size // 2)
        byte = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes((byte[0] ^ 4,)))
    os.kill(child, signal.SIGCONT)
    state = ended(rig)
    assert state["first_lsn"] == 1
    assert state["backup"]["error"] != ""


@pytest.mark.parametrize("moment", ["copying", "verifying", "trimming"])
def test_a_kill_in_the_middle_loses_nothing(rig: Rig, moment: str) -> None:
    begin(rig)
    assert rig.process is not None
    trim(rig)
    ends = {"copying": UNVERIFIED + ".part", "verifying": UNVERIFIED}
    if moment == "trimming":
        wait_for("it trims", lambda: state_of(rig)["backup"]["trimmed_records"] > 0, WAIT_S)
    else:
        there = ends[moment]
        look = lambda: any(name.endswith(there) for name in autos(rig))  # noqa: E731
        wait_for("the copy", look, WAIT_S)
    child = child_of(rig.process.pid)
    rig.kill()
    if child is not None:
        gone = lambda: not Path(f"/proc/{child}").exists()  # noqa: E731
        wait_for("the child has ended as well", gone, WAIT_S)
    begin(rig)
    state = state_of(rig)
    assert state["lsn"] == RECORDS
    assert (1 < state["first_lsn"] < 4001) if moment == "trimming" else state["first_lsn"] == 1
    began = trim(rig)
    state = ended(rig, began.runs + 1)
    assert (state["backup"]["error"], state["first_lsn"]) == ("", 4001)
    found = listed(rig.data / "backups")
    assert [one.verified for one in found] == [True] * (2 if moment == "trimming" else 1)
    assert len(autos(rig)) == len(found)  # and nothing half
    assert rig.terminate()[0] == 0
    report = check(rig.data / "state", since=found[0].path)
    assert (report.problems, report.base.lsn, report.replayed) == ([], 4000, True)


def test_commits_go_on_meanwhile(rig: Rig) -> None:
    begin(rig)
    trim(rig)
    slowest_s, count, peer = 0.0, 0, rig.operator()
    while count % 50 or not state_of(rig)["backup"]["runs"]:
        count += 1
        name = (1 << 64 | count).to_bytes(16, "big")
        data = msgspec.msgpack.encode(Tx(name, name, (Deposit(NAMES[0], 1),), Actor()))
        began = time.monotonic()
        kind, _ = peer.request(topics.STATE_DO, StateDo((data,)))
        slowest_s = max(slowest_s, time.monotonic() - began)
        assert kind is Kind.REPLY
    assert count > 10
    assert slowest_s < 2.0, f"{slowest_s:.3f} s"
    assert state_of(rig)["lsn"] == RECORDS + count
