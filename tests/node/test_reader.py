"""What a failed read of the state's file is called: only damage is damage."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

import shard_node
from shard_node.shared.fleet import FleetState
from shard_node.shared.reader import DATA_FILE, CannotRead, Reader
from shard_node.state import rows
from shard_node.state.keys import Table, key_of
from shard_node.state.values import SetValue, Value
from store.state import StateStore
from tests.support.aio import async_test
from tests.support.state_store import opened
from tests.support.waiting import wait_for

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


def made(folder: Path, value: str) -> Path:
    """The file of a state that has this value."""
    with opened(folder) as rig:
        rig.do(SetValue("v", value))
        rig.flush()
    return folder / DATA_FILE


def value_of(reader: Reader | FleetState) -> Any:
    row = rows.read(Value, reader.get(KEY))
    return None if row is None else row.value


def test_another_file_in_its_place_is_read_by_all(reader: Reader, tmp_path: Path) -> None:
    other = Reader(tmp_path / "state")
    made(tmp_path / "restored", "restored").replace(tmp_path / "state" / DATA_FILE)
    assert (value_of(reader), value_of(other)) == (None, None)
    assert (reader.renew(), other.renew(), reader.renew()) == (True, False, False)
    assert (value_of(reader), value_of(other)) == ("restored", "restored")
    assert reader.mark().lsn == other.mark().lsn == 1
    other.close()
    assert value_of(reader) == "restored"


def test_a_file_that_is_gone_is_an_error_until_it_is_back(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "state" / DATA_FILE
    kept = path.rename(tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(CannotRead, match="no state's file"):
            reader.renew()
        for look in (lambda: reader.get(KEY), lambda: list(reader.scan(KEY)), reader.mark):
            with pytest.raises(CannotRead, match="cannot be opened"):
                look()
    kept.rename(path)
    assert reader.renew()
    assert value_of(reader) is None


def test_threads_read_on_while_the_file_is_replaced(reader: Reader, tmp_path: Path) -> None:
    new = [made(tmp_path / f"{number}", f"v{number}") for number in range(12)]
    wanted, found, wrong = {None, *(f"v{n}" for n in range(12))}, set[Any](), list[Exception]()
    ended = threading.Event()

    def look() -> None:
        try:
            while not ended.is_set():
                found.add(value_of(reader))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number, file in enumerate(new):
            file.replace(tmp_path / "state" / DATA_FILE)
            assert reader.renew()
            assert value_of(reader) == f"v{number}"
            wait_for("a thread that reads it", lambda number=number: f"v{number}" in found)
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)
    assert wrong == []
    assert found <= wanted


class Asks:
    """A broker that does not answer."""

    broker_up = True

    async def ask(self, topic: str, body: Any, **_how: Any) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize("replaced", [True, False], ids=["restored", "imported"])
@async_test
async def test_in_another_era_nothing_of_the_last_one_is_read(
    tmp_path: Path, replaced: bool
) -> None:
    made(tmp_path / "state", "at rest")
    state = FleetState(Asks(), "a", tmp_path / "state", lambda _: None, lambda _: None)
    state.open()
    try:
        for era, wanted in (("one", "mine"), ("two", "restored" if replaced else "at rest")):
            if era == "two" and replaced:
                made(tmp_path / "new", "restored").replace(tmp_path / "state" / DATA_FILE)
            state.registered(0, era)
            if era == "one":
                assert state._own is not None
                mine = Value(version=9, lsn=900, origin=900, value="mine")
                state._own.add(900, msgspec.msgpack.encode({KEY: rows.write(mine)}))
                state.get = state._own.get  # type: ignore[method-assign]
                state.registered(0, era)  # the same file, and the same era: it will show it
            assert value_of(state) == wanted
            ((_, row),) = state.scan(KEY)
            assert row == state.get(KEY)
        (tmp_path / "state" / DATA_FILE).unlink()
        state.registered(0, "two")
        assert (state._reader, state._own) == (None, None)
        assert state._replica is not None  # what there is without a file
        with pytest.raises(shard_node.BrokerUnavailable):
            state.get(KEY)
    finally:
        state.close()


def test_the_state_is_closed_after_its_loop(tmp_path: Path) -> None:
    """A bot that fails at its start may leave the catching up behind."""
    state = FleetState(Asks(), "a", None, lambda _: None, lambda _: None)
    loop = asyncio.new_event_loop()
    loop.call_soon(state.missed)
    for _ in range(3):  # until it waits for its answer
        loop.run_until_complete(asyncio.sleep(0))
    task = state._task
    assert task is not None and not task.done()
    loop.close()
    state.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()  # type: ignore[union-attr]
