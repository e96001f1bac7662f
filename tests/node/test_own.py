"""What a process wrote and the state's file does not show yet: its own reads have it at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import shard_node
from shard_node.peer.connect import Client
from shard_node.shared import own
from shard_node.shared.own import OwnRows
from shard_node.shared.reader import CannotRead
from shard_node.state.files import Mark
from shard_node.state.keys import Table, key_of, prefix_of
from shard_node.state.views import DictView
from tests.peer.nodes import until
from tests.support.aio import async_test
from tests.support.broker_rig import Rig

GUILD = 81384788765712384


class File:
    """A reader whose file shows what the test puts there; ``fails`` looks at it fail."""

    def __init__(self, **rows: bytes) -> None:
        self.view = DictView({name.encode(): row for name, row in rows.items()})
        self.lsn = self.fails = 0

    def show(self, lsn: int, **rows: bytes | None) -> None:
        self.view.write({name.encode(): row for name, row in rows.items()})
        self.lsn = lsn

    def mark(self) -> Mark:
        if self.fails:
            self.fails -= 1
            raise CannotRead("planted")
        return Mark(self.lsn)

    def get(self, key: bytes) -> bytes | None:
        return self.view.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self.view.scan(prefix, after)


class Kept:
    """Own rows over a file; ``emptied`` counts the words that the file has caught up."""

    def __init__(self, **rows: bytes) -> None:
        self.file, self.emptied = File(**rows), 0
        self.rows = OwnRows(self.file, self._empty)  # type: ignore[arg-type]

    def _empty(self) -> None:
        self.emptied += 1


def add(kept: Kept, lsn: int, rows: tuple[tuple[bytes, bytes | None], ...]) -> None:
    kept.rows.add(lsn, msgspec.msgpack.encode(dict(rows)))


@async_test
async def test_what_was_written_is_read_until_the_file_shows_it() -> None:
    kept = Kept(a=b"old", b=b"there")
    add(kept, 5, ((b"a", b"mine"), (b"b", None), (b"c", b"new")))
    assert [kept.rows.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"mine", None, b"new", None]
    kept.file.show(4, a=b"before mine", d=b"other")
    assert [kept.rows.get(key) for key in (b"a", b"b", b"c", b"d")] == [
        b"mine", None, b"new", b"other",
    ]  # fmt: skip
    kept.file.show(6, a=b"after mine", b=b"made again", c=None)
    assert [kept.rows.get(key) for key in (b"a", b"b", b"c")] == [
        b"after mine",
        b"made again",
        None,
    ]
    kept.rows.close()


@pytest.mark.parametrize("order", [(7, 8), (8, 7)], ids=["in-order", "late"])
@async_test
async def test_the_newest_of_several_writes_is_read(order: tuple[int, int]) -> None:
    kept = Kept()
    for lsn in order:
        add(kept, lsn, ((b"a", b"of %d" % lsn),))
    assert kept.rows.get(b"a") == b"of 8"
    kept.file.show(7, a=b"of 7")
    assert kept.rows.get(b"a") == b"of 8"
    kept.rows.close()


@async_test
async def test_a_scan_has_them_in_their_places() -> None:
    kept = Kept(ka=b"1", kc=b"1", ke=b"1", other=b"1")
    add(kept, 3, ((b"kb", b"2"), (b"kc", None), (b"ke", b"2"), (b"kf", b"2"), (b"x", b"2")))
    wanted = [(b"ka", b"1"), (b"kb", b"2"), (b"ke", b"2"), (b"kf", b"2")]
    assert list(kept.rows.scan(b"k")) == wanted
    assert list(kept.rows.scan(b"k", b"kb")) == wanted[2:]
    kept.file.show(3, kb=b"3", kc=None, ke=None, kf=b"3")
    assert list(kept.rows.scan(b"k")) == [(b"ka", b"1"), (b"kb", b"3"), (b"kf", b"3")]
    kept.rows.close()


@async_test
async def test_a_scan_bears_writes_that_come_meanwhile() -> None:
    """A thread of the bot's scans while the loop's adds, and another thread's read looks into
    that: here at each key that is looked at."""
    kept = Kept()
    late = iter(range(100, 200))

    class Key(bytes):
        def startswith(self, *prefix: Any) -> bool:
            add(kept, 2, ((b"k%d" % next(late), b"2"),))
            assert kept.rows.get(b"other") is None
            return super().startswith(*prefix)

    add(kept, 1, ((b"first", b"1"),))
    assert kept.rows.get(b"first") == b"1"
    kept.rows._rows = {Key(b"k%d" % place): (1, b"1") for place in range(9)}
    assert [key for key, row in kept.rows.scan(b"k") if row == b"1"] == [
        b"k%d" % place for place in range(9)
    ]
    kept.rows.close()


@async_test
async def test_the_word_that_the_file_has_caught_up_comes_then_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own, "LOOKED_S", 0.001)
    looks, kept = 0, Kept()

    def look() -> Mark:
        nonlocal looks
        looks += 1
        return File.mark(kept.file)

    kept.file.mark = look  # type: ignore[method-assign]
    add(kept, 2, ((b"a", b"1"),))
    add(kept, 4, ((b"b", b"1"),))
    kept.file.show(2, a=b"1")
    await until(lambda: looks >= 3)
    assert kept.emptied == 0
    kept.file.fails = 2  # and is looked at again
    kept.file.show(4, b=b"1")
    await until(lambda: kept.emptied)
    seen = looks
    await asyncio.sleep(0.01)
    assert (kept.emptied, looks) == (1, seen)
    add(kept, 6, ((b"a", b"2"),))
    kept.file.show(6, a=b"2")
    await until(lambda: kept.emptied == 2)


@async_test
async def test_of_another_file_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "LOOKED_S", 0.001)
    monkeypatch.setattr(own, "KEPT_MAX", 2)
    kept = Kept(a=b"restored")
    add(kept, 900, ((b"a", b"lost"), (b"b", b"lost")))
    assert not kept.rows.full
    assert kept.rows.get(b"a") == b"lost"  # it is looked into
    assert kept.rows.full
    kept.rows.clear()
    add(kept, 901, ((b"a", b"lost"),))
    add(kept, 902, ((b"a", b"lost"),))
    assert kept.rows.full
    kept.rows.clear()
    assert not kept.rows.full
    assert (kept.rows.get(b"a"), list(kept.rows.scan(b""))) == (b"restored", [(b"a", b"restored")])
    await asyncio.sleep(0.01)
    assert kept.emptied == 0  # whoever cleared it knows
    add(kept, 2, ((b"a", b"mine"),))
    assert kept.rows.get(b"a") == b"mine"
    kept.file.show(2, a=b"mine")
    await until(lambda: kept.emptied == 1)


@async_test
async def test_of_what_was_read_and_what_was_not_the_newest_counts() -> None:
    kept = Kept()
    add(kept, 7, ((b"a", b"of 7"), (b"b", b"of 7")))
    assert kept.rows.get(b"a") == b"of 7"
    add(kept, 6, ((b"a", b"of 6"), (b"b", b"of 6")))
    add(kept, 8, ((b"a", b"of 8"),))
    assert [kept.rows.get(key) for key in (b"a", b"b")] == [b"of 8", b"of 7"]
    kept.rows.close()


@async_test
async def test_rows_that_cannot_be_read_spoil_no_others() -> None:
    kept = Kept(a=b"old")
    kept.rows.add(1, b"\xc1")
    add(kept, 2, ((b"b", b"mine"),))
    assert [kept.rows.get(key) for key in (b"a", b"b")] == [b"old", b"mine"]
    kept.rows.close()


@async_test
async def test_reads_of_many_threads_see_what_was_written() -> None:
    """Each reads what was written before it began, whoever looks into the answers."""
    kept, missing = Kept(), list[int]()
    written = 0

    def reads() -> None:
        while (seen := written) < 2000:
            row = kept.rows.get(b"a")
            if int(row or b"0") < seen:
                missing.append(seen)

    threads = [threading.Thread(target=reads) for _ in range(3)]
    for thread in threads:
        thread.start()
    for lsn in range(1, 2001):
        add(kept, lsn, ((b"a", b"%d" % lsn),))
        written = lsn
    for thread in threads:
        thread.join(5.0)
    assert not missing
    kept.rows.close()


# --- with a real broker, whose file shows nothing while the test holds it back

HOLDS = """
import os, time
import store.settler as settler
settle = settler.Settler._settle
def held(self, items):
    while os.path.exists({gate!r}):
        time.sleep(0.002)
    return settle(self, items)
settler.Settler._settle = held
"""


class MyConfig(msgspec.Struct):
    prefix: str = "!"


@pytest.mark.slow
@async_test
async def test_a_writer_reads_what_is_durable_and_others_what_the_file_shows(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    with Rig(tmp_path) as rig:
        rig.prelude = HOLDS.format(gate=str(gate))
        rig.launch()
        rig.hear("serving")
        one, two = (Client(rig.endpoint, name, rig.data / "state") for name in ("one", "two"))
        heard: list[tuple[Any, Any]] = []  # a change, and what a read says at that moment
        two.on(
            shard_node.GuildConfigChanged,
            lambda message: heard.append(
                (message.body, two.guild_config(message.body.guild, MyConfig).get())
            ),
        )
        await one.open()
        await two.open()
        try:
            await held_back(one, two, gate, heard)
        finally:
            gate.unlink(missing_ok=True)
            one.close()
            two.close()


async def held_back(one: Client, two: Client, gate: Path, heard: list[tuple[Any, Any]]) -> None:
    await one.economy.deposit("a", 10)
    await one.economy.deposit("b", 1)
    await one.state.set("gone", 1)
    tx = await one.guild_config(GUILD, MyConfig).update(prefix="1")
    await two.state.sync(await one.state.sync())
    await until(lambda: len(heard) == 1)
    state, reader = one._fleet_state, one._fleet_state._reader
    assert reader is not None
    await until(lambda: state.get == reader.get)
    shown = reader.mark().lsn

    gate.touch()
    await one.economy.transfer("a", "b", 4)
    assert (one.economy.balance("a"), one.economy.balance("b")) == (6, 5)
    await one.guild_config(GUILD, MyConfig).update(prefix="2")
    assert one.guild_config(GUILD, MyConfig).get() == MyConfig("2")
    await one.state.delete("gone")
    assert one.state.get("gone") is None
    await one.state.set("made", 1)
    names = [key for key, _ in state.scan(prefix_of(Table.VALUE, "made"))]
    assert names == [key_of(Table.VALUE, "made")]
    assert list(state.scan(prefix_of(Table.VALUE, "gone"))) == []
    tx = await one.economy.transfer("b", "a", 1)
    assert reader.mark().lsn == shown < tx.id

    waiting = asyncio.ensure_future(two.state.sync(tx.id))
    assert await two.economy.fetch("a") == 7  # the broker knows, and has read the sync by now
    assert (two.economy.balance("a"), two.state.get("gone"), two.state.get("made")) == (10, 1, None)
    assert two.guild_config(GUILD, MyConfig).get() == MyConfig("1")
    assert (waiting.done(), len(heard)) == (False, 1)

    gate.unlink()
    assert await waiting >= tx.id
    assert (two.economy.balance("a"), two.state.get("gone"), two.state.get("made")) == (7, None, 1)
    await until(lambda: len(heard) == 2)
    assert [(change.changed, read) for change, read in heard] == [
        ({"prefix": "1"}, MyConfig("1")), ({"prefix": "2"}, MyConfig("2")),
    ]  # fmt: skip
    await until(lambda: state.get == reader.get)
    assert (one.economy.balance("a"), one.economy.balance("b")) == (7, 4)
