"""A real LMDB in a real folder."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import pytest

from store.environment import Environment
from store.errors import StoreDamaged, StoreFull, StoreMemory, StoreOpenError
from store.records import CommandsRecord, EpochRecord, Forget, LeaseRecord

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
P_BRANCH, P_LEAF = 1, 2
"""Flags of a page, at byte 10 of its head: lmdb's mdb.c."""
ROOT = Path(__file__).resolve().parents[2]


def run_limited(code: str, folder: Path) -> str:
    """Runs ``code`` in a process of its own, whose limits it may lower."""
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_what_was_written_is_read_after_opening_again(tmp_path: Path) -> None:
    environment = Environment.open(tmp_path / "store")
    environment.write([EpochRecord("a", 3), CommandsRecord("app", "x")])
    environment.write([EpochRecord("a", 4)])
    environment.close()
    again = Environment.open(tmp_path / "store")
    durable = again.read()
    again.close()
    assert durable.epochs["a"].epoch == 4
    assert durable.digests == {"app": "x"}


def test_forget_removes(tmp_path: Path) -> None:
    environment = Environment.open(tmp_path / "store")
    environment.write([LeaseRecord("x", "a", 1, 2.0, "boot")])
    environment.write([Forget(LeaseRecord, "x"), Forget(LeaseRecord, "never")])
    assert environment.read().leases == {}
    environment.close()


def test_nobody_else_may_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        Environment.open(tmp_path / "store").close()
    finally:
        os.umask(mask)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store").iterdir()}
    assert modes == {"data.mdb": 0o600, "lock.mdb": 0o600}


def test_the_engine_is_pinned(tmp_path: Path) -> None:
    Environment.open(tmp_path / "store").close()
    with lmdb.open(str(tmp_path / "store"), readonly=True) as env:
        assert env.lib_version()[0] == 0


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDamaged, match="store") as caught:
        Environment.open(tmp_path / "store")
    assert str(caught.value).count(str(tmp_path)) == 1


def test_another_schema_is_refused(tmp_path: Path) -> None:
    Environment.open(tmp_path / "store").close()
    with lmdb.open(str(tmp_path / "store")) as env, env.begin(write=True) as txn:
        txn.put(b"schema", b"999")
    with pytest.raises(StoreDamaged, match="999"):
        Environment.open(tmp_path / "store")


def test_a_damaged_record_is_never_served_silently(tmp_path: Path) -> None:
    Environment.open(tmp_path / "store").close()
    with lmdb.open(str(tmp_path / "store")) as env, env.begin(write=True) as txn:
        txn.put(b"plan", b"\xc1")
    environment = Environment.open(tmp_path / "store")
    with pytest.raises(StoreDamaged, match="plan"):
        environment.read()
    environment.close()


@pytest.mark.parametrize("depth", ["root", "leaf"])
def test_a_damaged_page_is_an_error_of_ours(tmp_path: Path, depth: str) -> None:
    """A tree of two levels; pages whose head is zeroed are of no type."""
    environment = Environment.open(tmp_path / "store")
    environment.write([EpochRecord(f"n{number}", number) for number in range(500)])
    environment.close()
    path = tmp_path / "store" / "data.mdb"
    data = bytearray(path.read_bytes())
    pages = range(2 * PAGE_BYTES, len(data), PAGE_BYTES)
    kinds = {at: int.from_bytes(data[at + 10 : at + 12], "little") for at in pages}
    wanted = P_BRANCH if depth == "root" else P_LEAF
    damaged = [at for at, kind in kinds.items() if kind & wanted]
    assert damaged
    for at in damaged:
        data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(StoreDamaged):
        Environment.open(tmp_path / "store").read()


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreOpenError):
        Environment.open(tmp_path / "store")


def test_a_full_map_is_an_error_and_passes(tmp_path: Path) -> None:
    environment = Environment.open(tmp_path / "store", map_max_bytes=1 << 16)
    with pytest.raises(StoreFull):
        environment.write(CommandsRecord(str(n), "x" * 1000) for n in range(100))
    assert environment.read().digests == {}
    environment.write([EpochRecord("a", 1)])
    assert environment.read().epochs["a"].epoch == 1
    environment.close()


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_passes(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a small disk: a write fails and the file stays."""
    said = run_limited(
        """
        import resource, sys
        from pathlib import Path
        from store.environment import Environment
        from store.errors import StoreFull
        from store.records import CommandsRecord, EpochRecord
        environment = Environment.open(Path(sys.argv[1]) / "store")
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            environment.write(CommandsRecord(str(n), "x" * 1000) for n in range(1000))
        except StoreFull as error:
            print("full", bool(error.hint), environment.read().digests)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        environment.write([EpochRecord("a", 9)])
        print(environment.read().epochs["a"].epoch)
        """,
        tmp_path,
    )
    assert said.splitlines() == ["full True {}", "9"]


@pytest.mark.slow
def test_a_small_address_space_is_an_error_with_a_hint(tmp_path: Path) -> None:
    said = run_limited(
        """
        import resource, sys
        from pathlib import Path
        from store.environment import Environment
        from store.errors import StoreMemory
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        try:
            Environment.open(Path(sys.argv[1]) / "store")
        except StoreMemory as error:
            print(error.code, "ulimit" in error.hint)
        """,
        tmp_path,
    )
    assert said.split() == [StoreMemory.code, "True"]
