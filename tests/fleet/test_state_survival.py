"""A whole fleet, whose disk is full or has changed bits: who writes is told, what is damaged is
never served, everything else goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node import sync
from shard_node.shared import reader
from shard_node.shared.reader import Reader
from shard_node.state.errors import StoreDamaged, StoreFull
from shard_node.state.files import LOG, ROWS, lsn_key
from shard_node.state.keys import Table, key_of
from store.offline import DATA_FILE
from tests.support.broker_rig import Rig
from tests.support.fleet import Fleet
from tests.support.mounts import mounted
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DISK_MIB = 48
LEFT_BYTES = 64 << 10
CONFIGS = 40
WAIT_S = 30.0


def small_disk(where: Path) -> AbstractContextManager[Path]:
    """A file system of its own that is soon full."""
    return mounted(where, "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs")


@contextmanager
def client(fleet: Fleet, name: str) -> Iterator[sync.SyncClient]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "SHARDCTL_FLEET"):
            patch.setenv(variable, fleet.env[variable])
        connection = sync.connect(name=name)
        node = connection.open()
    try:
        yield node
    finally:
        connection.close()


def say(fleet: Fleet, guild: str, *words: str) -> str:
    """What the bot answers to a command in the guild."""
    done = fleet.run("invoke", guild, *words, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return " ".join(reply["content"] for reply in found["replies"])


def shown(fleet: Fleet, *args: str, code: int = 0) -> Any:
    done = fleet.run(*args, "--json")
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return json.loads(done.stdout)


# --- the disk is full


def write(node: sync.SyncClient, number: int) -> None:
    with node.transaction() as tx:
        tx.economy.transfer("bank", f"account{number % 5}", 1)
        tx.guild_config(number % CONFIGS + 1).update(text="x" * 3000, number=number)


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def until_full(node: sync.SyncClient, disk: Path, begin: int) -> int:
    """Write until the disk is full. How often it was confirmed."""
    with contextlib.suppress(OSError):  # the broker may take what was free a moment ago
        (disk / "ballast").write_bytes(bytes(max(0, free_bytes(disk) - LEFT_BYTES)))
    for number in range(begin, begin + 5000):
        try:
            write(node, number)
        except StoreFull as error:
            assert error.code == "E_STORE_FULL"
            assert error.hint
            return number - begin
    raise AssertionError(f"{free_bytes(disk)} bytes are left and it still writes")


def sums(node: sync.SyncClient) -> tuple[int, int]:
    """What the accounts that were paid have: as it is read here, and as the broker has it."""
    accounts = [f"account{number}" for number in range(5)]
    return sum(map(node.economy.balance, accounts)), sum(map(node.economy.fetch, accounts))


def test_writers_are_told_that_the_disk_is_full_and_the_rest_goes_on(tmp_path: Path) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk"))
        fleet = stack.enter_context(Fleet(disk, "full"))
        fleet.start(shards=2, nodes=2, guilds=4)
        guild = fleet.control("guilds")[0]["id"]
        node, other = (stack.enter_context(client(fleet, name)) for name in ("one", "two"))
        other.serve("echo", lambda message: message.body)
        node.economy.deposit("bank", 1_000_000)
        for number in range(CONFIGS):
            write(node, number)
        confirmed = CONFIGS
        for _ in range(3):
            confirmed += until_full(node, disk, confirmed)
            for _ in range(3):
                with pytest.raises(StoreFull):
                    write(node, confirmed)
            goes_on(fleet, guild, node, confirmed)
            (disk / "ballast").unlink()
            write(node, confirmed)
            confirmed += 1
            assert sums(node) == (confirmed, confirmed)
        fleet.kill("broker")
        wait_for("the broker", lambda: node.broker_up and node.state.sync(), WAIT_S)
        assert sums(other) == (confirmed, confirmed)
        assert shown(fleet, "economy", "audit")["findings"] == []
        fleet.stop()
        report = shown(fleet, "state", "check")
        assert (report["ok"], report["replayed"]) == (True, True), report


def goes_on(fleet: Fleet, guild: str, node: sync.SyncClient, confirmed: int) -> None:
    """Reads here and at the broker, messages, the bot's own commands."""
    assert sums(node) == (confirmed, confirmed)
    assert node.guild_config(1).get()["text"] == "x" * 3000
    assert len(node.state.log(limit=100)) == min(100, confirmed + 1)
    for number in range(50):
        assert node.request(shard_node.Node("two"), "echo", number) == number
    assert say(fleet, guild, "balance") == "You have 0 coins."
    assert fleet.run("status").returncode == 0


LIES = """
from store.errors import StoreFull
from store.state import StateStore
append = StateStore.append
def lying(self, batches):
    try:
        return append(self, batches)
    except StoreFull:
        return self.journal.last
StateStore.append = lying
"""


def test_the_writes_see_a_broker_that_says_nothing_of_a_full_disk(tmp_path: Path) -> None:
    """The planted fault."""
    with small_disk(tmp_path / "disk") as disk, Rig(disk) as rig:
        rig.prelude = LIES
        rig.launch()
        rig.hear("serving")
        with sync.connect(rig.endpoint, "one") as node:
            node.economy.deposit("bank", 1_000_000)
            for number in range(CONFIGS):
                write(node, number)
            with pytest.raises((AssertionError, shard_node.ShardNodeError)) as caught:
                until_full(node, disk, CONFIGS)
            assert not isinstance(caught.value, StoreFull)


# --- bits of the file change


def damage(file: Path, stored: bytes) -> None:
    """Change a bit at the end of what is stored, in each place of the file that has it: old
    pages have it as well."""
    data, at, count = file.read_bytes(), 0, 0
    with file.open("r+b") as out:
        while (at := data.find(stored, at)) >= 0:
            at, count = at + len(stored), count + 1
            out.seek(at - 1)
            out.write(bytes((data[at - 1] ^ 1,)))
    assert count > 0


def damage_row(fleet: Fleet, guild: int) -> bytes:
    """The row of a guild's configuration, as nobody wrote it. Its key."""
    key = key_of(Table.CONFIG, guild)
    damage_stored(fleet, ROWS, key)
    return key


def damage_stored(fleet: Fleet, name: bytes, key: bytes) -> None:
    """What is stored under a key in one of the databases."""
    folder = fleet.paths.data_dir / "state"
    look = Reader(folder)
    database = look._env.open_db(name, create=False)
    stored = look._env.begin(db=database).get(key)
    look.close()
    damage(folder / DATA_FILE, bytes(stored))


def served(node: sync.SyncClient, guild: int) -> list[str]:
    """To whom a damaged configuration is given."""
    config, found = node.guild_config(guild), []
    reads = {
        "here": config.get,
        "by the broker": config.fetch,
        "to a writer": lambda: config.update(other=1),
    }
    for name, read in reads.items():
        try:
            found.append(f"{name}: {read()}")
        except StoreDamaged as error:
            assert "state check" in (error.hint or "")
    return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, "bits") as fleet:
        fleet.start(shards=2, nodes=1, guilds=2)
        yield fleet


def test_what_is_damaged_is_served_by_nobody_and_check_names_it(fleet: Fleet) -> None:
    """The broker's own memory of what it wrote is whole: it starts anew after the damage."""
    guild = fleet.control("guilds")[0]["id"]
    with client(fleet, "one") as node:
        for number in range(1, CONFIGS):
            node.guild_config(number).update(text=f"row {number}")
        say(fleet, guild, "config", "prefix=?")
        keys = [damage_row(fleet, 7), damage_row(fleet, int(guild))]
        with pytest.raises(StoreDamaged):
            node.guild_config(7).get()
        fleet.kill("broker")
        wait_for("the broker", lambda: node.broker_up and node.state.sync(), WAIT_S)
        assert served(node, 7) == []
        assert "?" not in say(fleet, guild, "config")
        neighbour = node.guild_config(8)  # the others are read, and written on
        assert (neighbour.get(), neighbour.fetch()) == ({"text": "row 8"}, {"text": "row 8"})
        neighbour.update(more=1)
        assert neighbour.get() == {"text": "row 8", "more": 1}
        damage_stored(fleet, LOG, lsn_key(12))
        with pytest.raises(StoreDamaged):
            node.state.log(limit=1000)
        assert len(node.state.log(after=13, limit=1000)) == CONFIGS + 1 - 13
    done = fleet.run("state", "get", "7", "--table", "config")
    assert done.returncode != 0
    assert "E_STORE_DAMAGED" in done.stderr
    fleet.stop()
    problems = shown(fleet, "state", "check", code=1)["problems"]
    for name in (*keys, lsn_key(12)):
        assert any(repr(name) in problem for problem in problems), problems


def test_the_look_sees_a_reader_that_checks_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault, on the side of the node."""
    monkeypatch.setattr(Reader, "get", trusting)
    with client(fleet, "one") as node:
        node.guild_config(7).update(text="row 7")
        node.state.sync()
        damage_row(fleet, 7)
        assert [text.split(":")[0] for text in served(node, 7)][:1] == ["here"]


def trusting(self: Any, key: bytes) -> bytes:
    with self._begin() as txn:
        return bytes(txn.get(key, db=self._rows)[reader.CRC_BYTES :])
