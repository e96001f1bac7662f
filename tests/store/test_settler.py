"""What is durable comes into the file, in its order, all of it, whatever fails on the way."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

from shard_node.state.economy import Deposit
from shard_node.state.files import Mark
from shard_node.state.values import SetValue
from store.errors import StoreError, StoreFailed, StoreFull
from store.settler import Settler
from store.state import StateStore
from store.statecommit import Batch, Frames
from store.statewriter import StateWriter
from tests.support.state_store import WAIT_S, Ends, Rig, opened

SMALL_MAP = 1 << 18


def batch(token: int) -> Batch:
    return Batch(token, 0, {}, (), None, {}, None)


class Held:
    """A store whose commits wait until the test lets them."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.errors: list[StoreError] = []
        self.commits: list[tuple[list[int], Frames | None]] = []

    def commit(self, batches: list[Batch], frames: Frames | None = None) -> None:
        self.entered.release()
        assert self.go.acquire(timeout=WAIT_S)
        if self.errors:
            raise self.errors.pop()
        self.commits.append(([one.token for one in batches], frames))


def started(store: Held) -> tuple[Settler, queue.SimpleQueue[tuple[int, StoreError | None]]]:
    heard: queue.SimpleQueue[tuple[int, StoreError | None]] = queue.SimpleQueue()
    settler = Settler(store, lambda tokens, error: heard.put((-tokens[0], error)))
    settler.settled = lambda token, error: heard.put((token, error))
    return settler, heard


def test_what_waits_goes_in_together_and_a_note_hides_no_token() -> None:
    store = Held()
    settler, heard = started(store)
    settler.put([batch(1)], 1)
    assert store.entered.acquire(timeout=WAIT_S)
    for number, token in ((2, 2), (3, 3), (4, 0)):
        settler.put([batch(token)], number)
    for _ in range(2):
        store.go.release()
    assert [heard.get(timeout=WAIT_S) for _ in range(2)] == [(1, None), (3, None)]
    assert store.commits == [([1], Frames(1, 1)), ([2, 3, 0], Frames(2, 4))]
    assert settler.close(WAIT_S)


def test_work_goes_alone_and_in_its_place() -> None:
    store = Held()
    settler, heard = started(store)
    for _ in range(3):
        store.go.release()
    settler.put([batch(1)], 1)
    settler.put([batch(7)], 0)
    settler.put([batch(2)], 2)
    assert [heard.get(timeout=WAIT_S) for _ in range(3)] == [(1, None), (-7, None), (2, None)]
    assert settler.wait(WAIT_S)
    assert settler.close(WAIT_S)


def test_nothing_passes_what_the_file_did_not_take_not_even_at_the_end() -> None:
    store = Held()
    store.errors = [StoreFull("full")]
    settler, heard = started(store)
    settler.put([batch(1)], 1)
    assert store.entered.acquire(timeout=WAIT_S)
    settler.put([batch(2)], 2)
    settler.put([batch(7)], 0)
    for _ in range(3):
        store.go.release()
    token, error = heard.get(timeout=WAIT_S)
    assert (token, type(error)) == (1, StoreFull)
    assert settler.close(WAIT_S)
    assert store.commits in ([], [([1], Frames(1, 1)), ([2], Frames(2, 2)), ([7], None)])


def test_what_was_confirmed_on_a_full_disk_is_there_after_a_stop_and_a_start(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path / "state", map_max_bytes=SMALL_MAP)
    rig.do(Deposit("a", 5))
    rig.flush()
    heard: queue.SimpleQueue[StoreError | None] = queue.SimpleQueue()
    rig.writer.on_settled(lambda _, error: heard.put(error))
    rig.do(*(SetValue(f"n{number}", "z" * 3000) for number in range(80)))
    assert rig.ends.wait(2)[-1][1] is None
    assert isinstance(heard.get(timeout=WAIT_S), StoreFull)
    rig.give({}, (), None, notes={"cooldowns": b"x"})
    rig.ends.wait(3)
    rig.close()
    with opened(tmp_path / "state") as again:
        assert again.store.place().lsn == 2
        assert dict(again.store.view.scan(b"")) == rig.model.view.rows
        assert again.store.note("cooldowns") == b"x"


@pytest.mark.parametrize("first", [1, 3, 9])
def test_a_frame_is_not_left_out(tmp_path: Path, first: int) -> None:
    with opened(tmp_path / "state") as rig:
        rig.do(Deposit("a", 5))
        rig.flush()
        with pytest.raises(StoreFailed, match=f"frame {first} of the journal came where 2 was due"):
            rig.store.commit([batch(0)], Frames(first, 9))


def test_many_frames_come_back_at_once(tmp_path: Path) -> None:
    """Of a process that was killed; each is a transaction."""
    store = StateStore.open(tmp_path / "state")
    model = Rig(tmp_path / "model")
    writer = StateWriter(store, ends := Ends())
    writer._settler.close(WAIT_S)  # from here on nothing comes into the file
    for number in range(200):
        applied = model.do(Deposit("a", number + 1))
        writer.submit(number, applied.writes, (applied.entry,), Mark(*model.model.place))
    assert all(error is None for _, error in ends.wait(200))
    writer.close(WAIT_S)
    store.close()
    model.close()
    with opened(tmp_path / "state") as again:
        assert dict(again.store.view.scan(b"")) == model.model.view.rows
        assert again.store.place().lsn == 200
