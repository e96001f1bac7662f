"""What a supervisor without a goodbye left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardctl.errors import ShardctlError
from shardctl.launch import write_json
from shardctl.paths import FleetPaths
from shardctl.running import clear_remains, supervisor_pid, take_fleet, where_it_runs
from shardctl.supervisor import procs
from shardctl.supervisor.journal import read_note

pytestmark = pytest.mark.slow


@pytest.fixture
def paths(tmp_path: Path) -> FleetPaths:
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
    return FleetPaths("test", tmp_path / "data", tmp_path / "run")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores TERM."""
    code = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(flush=True)\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def leave(paths: FleetPaths, pid: int, started: str) -> None:
    write_json(
        paths.supervisor_file,
        {"pid": 2**22 + 1, "started": "1",
         "children": [{"name": "node:a", "pid": pid, "started": started}]},
    )  # fmt: skip


def test_a_child_that_lives_on_is_killed_in_the_end(
    paths: FleetPaths, child: subprocess.Popen[bytes]
) -> None:
    leave(paths, child.pid, procs.start_of(child.pid))
    said: list[str] = []
    clear_remains(paths, said.append, drain_s=-1.5)
    assert child.wait(5) == -signal.SIGKILL
    assert "ended without a goodbye" in said[0]
    assert f"node a (pid {child.pid}) did not stop" in said[-1]
    assert not paths.supervisor_file.exists()


def test_a_number_that_another_process_has_now_is_left_alone(
    paths: FleetPaths, child: subprocess.Popen[bytes]
) -> None:
    leave(paths, child.pid, "another start")
    said: list[str] = []
    clear_remains(paths, said.append, drain_s=0)
    assert child.poll() is None
    assert len(said) == 1


def test_the_children_of_a_start_that_was_faster_are_left_alone(
    paths: FleetPaths, child: subprocess.Popen[bytes]
) -> None:
    leave(paths, child.pid, procs.start_of(child.pid))
    mine = {"pid": os.getpid(), "started": procs.start_of(os.getpid())}
    write_json(paths.supervisor_file, (read_note(paths.run_dir) or {}) | mine)
    with pytest.raises(ShardctlError) as caught:
        clear_remains(paths, [].append, drain_s=-1.5)
    assert (caught.value.code, caught.value.exit_code) == ("E_RUNNING", 77)
    assert child.poll() is None


def test_a_clean_end_is_not_spoken_of(paths: FleetPaths) -> None:
    said: list[str] = []
    clear_remains(paths, said.append)
    assert said == []


def test_the_lock_tells_who_runs(paths: FleetPaths) -> None:
    lock = take_fleet(paths)
    with pytest.raises(ShardctlError) as caught:
        take_fleet(paths)
    assert (caught.value.code, caught.value.exit_code) == ("E_RUNNING", 77)
    write_json(paths.supervisor_file, {"pid": 1, "stopping": True})
    with pytest.raises(ShardctlError) as caught:
        take_fleet(paths)
    assert (caught.value.code, caught.value.exit_code) == ("E_STOPPING", 75)
    assert "try again in 10 s" in caught.value.hint
    lock.close()
    take_fleet(paths).close()


def test_a_lock_is_handed_to_another_process(paths: FleetPaths) -> None:
    lock = take_fleet(paths)
    file, env = lock.hand_over()
    code = "import sys\nprint(flush=True)\nsys.stdin.read()"
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(file,)
    ) as heir:
        assert heir.stdout is not None
        heir.stdout.readline()
        lock.close()
        with pytest.raises(ShardctlError):
            take_fleet(paths)
    assert env == {"SHARDCTL_LOCK_FD": str(file)}
    take_fleet(paths).close()


def test_a_fleet_is_found_where_its_record_says(paths: FleetPaths, tmp_path: Path) -> None:
    other = dataclasses.replace(paths, run_dir=tmp_path / "elsewhere")
    write_json(paths.record_file, {"run_dir": str(paths.run_dir)})
    assert where_it_runs(other) == other
    mine = {"pid": os.getpid(), "started": procs.start_of(os.getpid()), "children": []}
    write_json(paths.supervisor_file, mine)
    assert where_it_runs(other) == paths
    assert where_it_runs(paths) == paths


def test_a_supervisor_is_known_by_pid_and_start(paths: FleetPaths) -> None:
    assert supervisor_pid(paths) is None
    mine = {"pid": os.getpid(), "started": procs.start_of(os.getpid()), "children": []}
    write_json(paths.supervisor_file, mine)
    assert supervisor_pid(paths) == os.getpid()
    write_json(paths.supervisor_file, mine | {"started": "0"})
    assert supervisor_pid(paths) is None


def test_a_dead_process_has_no_start(child: subprocess.Popen[bytes]) -> None:
    known = procs.Known("x", child.pid, procs.start_of(child.pid))
    assert procs.lives(known)
    child.kill()
    assert procs.wait_gone([known], 5) == []
    assert procs.start_of(child.pid) == ""  # a zombie does not live
