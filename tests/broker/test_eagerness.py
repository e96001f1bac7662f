"""When the broker looks before it sleeps, and when it does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from broker.ports.eagerness import LONE_MAX_BYTES, PASSED_BY_MAX, SPIN_S, Eagerness
from broker.ports.listener import Listener


def test_a_lone_small_frame_is_followed_by_one_look() -> None:
    eager = Eagerness(2)
    assert not eager.wanted()
    eager.turn(1, 300)
    assert eager.wanted()
    eager.tried(True)
    assert not eager.wanted(), "the frame before the last sleep counts no more"


@pytest.mark.parametrize(("frames", "size"), [(0, 0), (2, 300), (1, LONE_MAX_BYTES + 1)])
def test_a_load_is_none(frames: int, size: int) -> None:
    eager = Eagerness(2)
    eager.turn(frames, size)
    assert not eager.wanted()


def test_a_single_processor_is_left_to_who_answers() -> None:
    eager = Eagerness(1)
    eager.turn(1, 300)
    assert not eager.wanted()


def test_where_nothing_follows_it_looks_ever_more_rarely() -> None:
    eager, looks = Eagerness(2), 0
    for _ in range(10_000):
        eager.turn(1, 300)
        if eager.wanted():
            looks += 1
            eager.tried(False)
    assert looks <= 10_000 / PASSED_BY_MAX + 10
    passed_by = 0
    while passed_by < 200:
        eager.turn(1, 300)
        if eager.wanted():
            eager.tried(True)
            passed_by = 0
        else:
            passed_by += 1
            assert passed_by <= PASSED_BY_MAX
        if eager._pass_by == 0:
            break
    assert eager._pass_by == 0, "a few that are followed bring it back"


def test_the_listener_sleeps_in_the_end(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "b.sock")
    listener._eagerness = Eagerness(2)
    try:
        listener._eagerness.turn(1, 300)
        begun, used = time.monotonic(), time.process_time()
        assert not listener.wait(0.2)
        assert time.monotonic() - begun >= 0.19
        assert time.process_time() - used < 100 * SPIN_S
    finally:
        listener.close()
