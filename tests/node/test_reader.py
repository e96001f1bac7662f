"""What a failed read of the state's file is called: only damage is damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

import shard_node
from shard_node.shared.reader import CannotRead, Reader
from shard_node.state.keys import Table, key_of
from store.state import StateStore

KEY = key_of(Table.VALUE, "v")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    StateStore.open(tmp_path / "state").close()
    reader = Reader(tmp_path / "state")
    yield reader
    reader.close()


@pytest.mark.parametrize("key", [b"", b"x" * 600], ids=len)
def test_a_key_that_none_can_be(reader: Reader, key: bytes) -> None:
    with pytest.raises(shard_node.BadName, match=f"{len(key)} bytes") as refused:
        reader.get(key)
    assert "1 to 511" in refused.value.hint
    if key:
        with pytest.raises(shard_node.BadName):
            list(reader.scan(key))
        with pytest.raises(shard_node.BadName):
            list(reader.scan(b"", key))
    assert reader.get(KEY) is None


def test_a_full_table_of_readers_is_no_damage(reader: Reader) -> None:
    held: list[Any] = []
    try:
        with pytest.raises(lmdb.ReadersFullError):
            while True:
                held.append(reader._env.begin())
        for read in (lambda: reader.get(KEY), lambda: list(reader.scan(KEY)), reader.mark):
            with pytest.raises(CannotRead, match="no room") as full:
                read()
            assert full.value.retryable and "fetch" in full.value.hint
    finally:
        held.clear()
    assert reader.get(KEY) is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (lmdb.CorruptedError, shard_node.StoreDamaged),
        (lmdb.PageNotFoundError, shard_node.StoreDamaged),
        (lmdb.DiskError, CannotRead),
        (lmdb.MemoryError, CannotRead),
    ],
)
def test_errors_of_lmdb(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], said: type[Exception]
) -> None:
    class Fails:
        def begin(self, **_how: Any) -> Any:
            raise kind("planted")

        def close(self) -> None: ...

    monkeypatch.setattr(reader, "_env", Fails())
    for read in (lambda: reader.get(KEY), lambda: list(reader.scan(KEY)), reader.mark):
        with pytest.raises(said, match="planted"):
            read()
