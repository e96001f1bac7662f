"""The skeleton of the file: each planted fault is found before the engine is given it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from shard_node.state.values import SetValue
from store.errors import StoreDamaged
from store.offline import DATA_FILE
from store.pages import fault
from store.state import StateStore
from tests.support.state_store import opened

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
META_TXN = 16 + 24 + 2 * 48 + 8
BRANCH, LEAF = 1, 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Trees of two levels and more, and free pages."""
    with opened(tmp_path / "state") as rig:
        rig.fill(800)
        for number in range(30):
            rig.do(SetValue("name1", "x" * 300 * number))
            rig.flush()
    return tmp_path / "state" / DATA_FILE


def branches(data: bytearray) -> list[int]:
    """Where the branch pages begin that name more than one page."""
    pages = range(2 * PAGE_BYTES, len(data), PAGE_BYTES)
    return [at for at in pages if data[at + 10] == BRANCH and lower(data, at) > 16 + 2]


def lower(data: bytearray, at: int) -> int:
    return int.from_bytes(data[at + 12 : at + 14], "little")


def nodes(data: bytearray, at: int) -> list[int]:
    count = (lower(data, at) - 16) // 2
    return [at + offset for offset in struct.unpack_from(f"<{count}H", data, at + 16)]


def test_a_whole_file_has_no_fault_nor_one_that_is_not_there(path: Path, tmp_path: Path) -> None:
    assert fault(path) == ""
    assert fault(tmp_path / "nowhere") == ""
    (tmp_path / "other").write_bytes(b"not a database" * 1000)
    assert fault(tmp_path / "other") == ""
    (tmp_path / "empty").touch()
    assert fault(tmp_path / "empty") == ""
    StateStore.open(tmp_path / "new").close()
    assert fault(tmp_path / "new" / DATA_FILE) == ""


def test_a_page_that_is_named_twice(path: Path) -> None:
    data = bytearray(path.read_bytes())
    found = []
    for at in branches(data):
        first, second, *_ = nodes(data, at)
        changed = bytearray(data)
        changed[first : first + 6] = data[second : second + 6]
        path.write_bytes(changed)
        found.append(fault(path))
    assert any("named twice" in text for text in found), found
    # Branch pages that are free may say what they like.
    assert all(text == "" or "named twice" in text for text in found), found


def test_an_old_page_or_one_of_another_place_or_none(path: Path) -> None:
    """An old leaf is whole in itself: only that it is among the free pages tells."""
    data = bytearray(path.read_bytes())
    node = nodes(data, next(at for at in branches(data) if live_branch(path, data, at)))[0]
    numbers = [at // PAGE_BYTES for at in range(0, len(data), PAGE_BYTES) if data[at + 10] == LEAF]
    own = int.from_bytes(data[node : node + 6], "little")
    for number in {*numbers} - {own}:
        data[node : node + 6] = number.to_bytes(6, "little")
        path.write_bytes(data)
        assert "named twice" in fault(path), number
    data[node : node + 6] = (len(data) // PAGE_BYTES + 5).to_bytes(6, "little")
    path.write_bytes(data)
    assert "not there" in fault(path)


def live_branch(path: Path, data: bytearray, at: int) -> bool:
    changed = bytearray(data)
    changed[at + 10] = 2
    path.write_bytes(changed)
    return fault(path) != ""


@pytest.mark.parametrize("meta", [0, 1])
def test_a_meta_page_of_another_commit(path: Path, meta: int) -> None:
    """The engine would take the older of the two for the newest, and forget a commit."""
    data = bytearray(path.read_bytes())
    for bit in range(2, 64):
        changed = bytearray(data)
        changed[meta * PAGE_BYTES + META_TXN + bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert "the meta pages are of the commits" in fault(path), bit


def test_a_count_that_is_not_right(path: Path) -> None:
    data = bytearray(path.read_bytes())
    live = [at for at in branches(data) if live_branch(path, data, at)]
    changed = bytearray(data)
    changed[live[0] + 12] -= 2
    path.write_bytes(changed)
    assert "and says" in fault(path)


def test_it_is_not_opened(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[META_TXN + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="commits") as caught:
        StateStore.open(path.parent)
    assert "check" in caught.value.hint


@pytest.mark.parametrize("size", [0, PAGE_BYTES, 2 * PAGE_BYTES])
def test_a_first_commit_that_never_was(tmp_path: Path, size: int) -> None:
    """A power cut at the very first start: nothing was kept yet, so nothing is lost."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / DATA_FILE).write_bytes(bytes(size))
    store = StateStore.open(tmp_path / "state")
    assert store.place().lsn == 0
    store.close()


def test_a_large_file_of_nothing_is_not_thrown_away(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(StoreDamaged):
        StateStore.open(path.parent)
    assert path.stat().st_size == 1 << 20
