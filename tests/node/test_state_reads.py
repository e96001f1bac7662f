"""Reading the state's file beside a real broker; catching up; copies in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

import shard_node
from shard_node.peer.connect import Client
from shard_node.shared.reader import CannotRead, Reader
from shard_node.state import files
from shard_node.state.keys import Table, key_of
from store import snapshot
from store.state import StateStore
from tests.node.shared_states import StateBroker
from tests.peer.nodes import make, running, until
from tests.support.aio import async_test
from tests.support.broker_rig import Rig

GUILD = 81384788765712384


class MyConfig(msgspec.Struct):
    prefix: str = "!"
    note: str = ""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        rig.launch()
        rig.hear("serving")
        yield rig


def client(rig: Rig, name: str, *, reads: bool = True) -> Client:
    return Client(rig.endpoint, name, rig.data / "state" if reads else None)


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False], ids=["file", "copy"])
@async_test
async def test_a_write_is_read_by_its_writer_at_once_and_by_others(rig: Rig, reads: bool) -> None:
    one, two = client(rig, "one"), client(rig, "two", reads=reads)
    await one.open()
    await two.open()
    try:
        await two.state.sync()
        assert (two._fleet_state._reader is not None) is reads
        for number in range(1, 50):
            tx = await one.economy.deposit("a", 1)
            assert one.economy.balance("a") == number
        assert await two.state.sync(tx.id) >= tx.id
        assert two.economy.balance("a") == 49
        waiting = asyncio.ensure_future(two.state.sync(tx.id + 1))
        await one.economy.deposit("a", 1)
        await waiting
        assert two.economy.balance("a") == 50
        cfg = two.guild_config(GUILD, MyConfig)
        await cfg.update(prefix="?")
        assert cfg.get() == MyConfig("?")
        assert await two.cooldowns.acquire("k", 1, 3600)
        with pytest.raises(shard_node.RequestTimeout):
            await two.state.sync(10_000, timeout_s=0.1)
    finally:
        one.close()
        two.close()


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False], ids=["file", "copy"])
@async_test
async def test_a_killed_broker_loses_nothing_and_no_change_is_missed(rig: Rig, reads: bool) -> None:
    one, two = client(rig, "one"), client(rig, "two", reads=reads)
    heard: list[Any] = []
    two.on(shard_node.GuildConfigChanged, lambda message: heard.append(message.body))
    await one.open()
    await two.open()
    try:
        await two.state.sync()
        cfg = one.guild_config(GUILD, MyConfig)
        await cfg.update(prefix="1")
        await until(lambda: len(heard) == 1)
        await until(lambda: two._fleet_state._intake.lsn == 1)
        deposits = [asyncio.ensure_future(one.economy.deposit("a", 1)) for _ in range(200)]
        await deposits[0]
        rig.kill()
        rig.launch()
        rig.hear("serving")
        done = await asyncio.gather(*deposits)
        assert len({tx.id for tx in done}) == 200
        assert await one.economy.fetch("a") == 200
        await cfg.update(prefix="2", if_version=1)
        await until(lambda: len(heard) == 2)
        assert [(c.changed, c.old_version, c.new_version) for c in heard] == [
            ({"prefix": "1"}, 0, 1), ({"prefix": "2"}, 1, 2),
        ]  # fmt: skip
        await two.state.sync()
        assert two.guild_config(GUILD, MyConfig).get().prefix == "2"
        assert two.economy.balance("a") == 200
    finally:
        one.close()
        two.close()


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False], ids=["file", "copy"])
@async_test
async def test_who_outlives_a_restored_backup_reads_what_was_restored(
    rig: Rig, reads: bool
) -> None:
    first = client(rig, "first")
    await first.open()
    await first.state.set("a", "of the backup")
    first.close()
    rig.terminate()
    store = StateStore.open(rig.data / "state")
    snapshot.take(store.env, rig.data / "backup", 1.0)
    store.close()
    rig.launch()
    rig.hear("serving")
    one, heard = client(rig, "one", reads=reads), []
    one.on(shard_node.ValueChanged, lambda message: heard.append(message.body))
    await one.open()
    try:
        await one.state.sync()
        await one.state.set("a", "later")
        await one.state.set("lost", 1)
        assert (one.state.get("a"), one.state.get("lost")) == ("later", 1)
        await until(lambda: len(heard) == 2)
        rig.terminate()
        snapshot.restore(rig.data / "backup", rig.data / "state")
        rig.launch()
        rig.hear("serving")
        for number in range(5):  # the log goes beyond where it was
            await one.state.set("b", number)
            assert one.state.get("b") == number
        await one.state.sync()
        assert (one.state.get("a"), one.state.get("lost")) == ("of the backup", None)
        await until(lambda: heard[-1].changed == {"value": 4})
        told = [change.changed for change in heard[2:] if change.name == "a"]
        assert told == [{"value": "of the backup"}]
        if not reads:
            assert [c.new_version for c in heard[2:] if c.name == "lost"] == [0]
    finally:
        one.close()


# --- what was missed, with a broker played by the test


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("copy", [False, True])
@async_test
async def test_what_changed_while_the_broker_was_away_is_told_once(
    tmp_path: Path, trimmed: bool, copy: bool
) -> None:
    endpoint = f"ipc://{tmp_path}/b.sock"
    broker = StateBroker(endpoint)
    broker.__enter__()
    node, heard = make(endpoint, "a"), []
    if copy:
        node._fleet_state.keep_copy()
    node.on(shard_node.GuildConfigChanged, lambda message: heard.append(message.body))
    try:
        async with running(node):
            cfg = node.guild_config(GUILD, MyConfig)
            await cfg.update(prefix="1")
            await node.guild_config(7, MyConfig).update(prefix="x")
            await until(lambda: len(heard) == 2 and node._fleet_state._intake.lsn == 2)
            broker.close()
            memory = broker.memory
            with StateBroker(f"ipc://{tmp_path}/other.sock", memory) as aside:
                other = make(aside.endpoint, "b")
                async with running(other):
                    await other.guild_config(GUILD, MyConfig).update(prefix="2")
                    await other.guild_config(GUILD, MyConfig).update(note="n")
                    await other.guild_config(7, MyConfig).delete()
                    await other.economy.deposit("a", 1)
            broker = StateBroker(endpoint, memory)
            broker.first = 5 if trimmed else 1
            broker.__enter__()
            await until(lambda: len(heard) == 4)
            await node.state.fetch("x")
            found = {change.guild: change for change in heard[2:]}
            assert found[GUILD].changed == {"prefix": "2", "note": "n"}
            assert found[GUILD].new_version == 3
            assert found[GUILD].old_version == (0 if trimmed and not copy else 1)
            assert found[7].new_version == 0
            if copy:
                await node.state.sync()
                assert cfg.get() == MyConfig("2", "n")
                assert node.economy.balance("a") == 1
            await cfg.update(prefix="3")
            await until(lambda: len(heard) == 5)
            assert heard[-1].old_version == 3
    finally:
        broker.close()


@async_test
async def test_a_change_that_is_told_twice_is_heard_once(tmp_path: Path) -> None:
    with StateBroker(f"ipc://{tmp_path}/b.sock") as broker:
        node, heard = make(broker.endpoint, "a"), []
        node.on(shard_node.ValueChanged, lambda message: heard.append(message.body))
        node.on(shard_node.StateUpdate, lambda message: heard.append(message.body))
        tell = broker.tell
        broker.tell = lambda applied: (tell(applied), tell(applied))  # type: ignore[assignment]
        async with running(node):
            await node.state.set("a", 1)
            await node.state.set("a", 2)
            await until(lambda: len(heard) == 4)
            assert [type(body).__name__ for body in heard] == ["StateUpdate", "ValueChanged"] * 2
            assert heard[-1].changed == {"value": 2}


@async_test
async def test_a_copy_that_missed_a_change_asks_for_the_row(tmp_path: Path) -> None:
    with StateBroker(f"ipc://{tmp_path}/b.sock") as broker:
        node = make(broker.endpoint, "a")
        node._fleet_state.keep_copy()
        async with running(node):
            await node.state.sync()
            await node.state.set("a", 1)
            broker.tells = False
            node._fleet_state._replica.lsn = 10  # type: ignore[union-attr]
            await node.state.set("a", 2)
            assert node.state.get("a") == 1
            broker.tells = True
            await node.state.set("a", 3)
            await until(lambda: node.state.get("a") == 3)


# --- the file


@pytest.mark.slow
@async_test
async def test_a_damaged_row_is_never_served(rig: Rig) -> None:
    one = client(rig, "one")
    await one.open()
    try:
        for number in range(20):
            await one.state.set(f"v{number}", number)
    finally:
        one.close()
    rig.terminate()
    folder, key = rig.data / "state", key_of(Table.VALUE, "v7")
    env = lmdb.open(str(folder), max_dbs=8, lib_version=0)
    rows = env.open_db(files.ROWS)
    with env.begin(write=True) as txn:
        stored = bytearray(txn.get(key, db=rows))
        stored[-1] ^= 1
        txn.put(key, bytes(stored), db=rows)
    env.close()
    reader = Reader(folder)
    with pytest.raises(shard_node.StoreDamaged) as damaged:
        reader.get(key)
    assert "check" in damaged.value.hint
    with pytest.raises(shard_node.StoreDamaged):
        list(reader.scan(key[:2]))
    assert reader.get(key_of(Table.VALUE, "v8")) is not None
    assert reader.get(key_of(Table.VALUE, "absent")) is None
    assert reader.mark().lsn == 20
    reader.close()


@pytest.mark.slow
def test_where_readers_cannot_lock_nothing_is_read(rig: Rig, monkeypatch: Any) -> None:
    rig.terminate()
    folder = rig.data / "state"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotRead, match="lock"):
        Reader(folder)
    monkeypatch.undo()
    Reader(folder).close()
    with pytest.raises(CannotRead, match="no state"):
        Reader(folder / "nothing")


def test_a_map_that_grew_is_read_on(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path), map_size=1 << 16, max_dbs=8, lib_version=0)
    rows, _ = env.open_db(files.ROWS), env.open_db(files.META)
    key = key_of(Table.VALUE, "a")
    with env.begin(write=True) as txn:
        txn.put(key, files.pack(key, b"old"), db=rows)
    reader = Reader_in_child(tmp_path)
    try:
        assert reader.ask() == "old"
        env.set_mapsize(1 << 22)
        with env.begin(write=True) as txn:
            for number in range(2000):
                name = key_of(Table.VALUE, f"n{number}")
                txn.put(name, files.pack(name, b"x" * 100), db=rows)
            txn.put(key, files.pack(key, b"new"), db=rows)
        assert reader.ask() == "new"
    finally:
        reader.close()
        env.close()


class Reader_in_child:  # noqa: N801
    """A reader in a process of its own: one environment is opened once in a process."""

    def __init__(self, folder: Path) -> None:
        import subprocess
        import sys

        code = (
            "import sys; from pathlib import Path; from shard_node.shared.reader import Reader; "
            "from shard_node.state.keys import Table, key_of; "
            f"reader = Reader(Path({str(folder)!r})); key = key_of(Table.VALUE, 'a'); "
            "[print(reader.get(key).decode(), flush=True) for _ in sys.stdin]"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)
