"""Four lanes: order, priority, patience, and what happens at each limit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import queues
from broker.core.queues import DROPPABLE, PATIENCE_FRAMES, Frame, LaneQueue, Outbox, Put, Queue
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane

SMALL_FRAMES = (4, 4, 4, 4)
SMALL_BYTES = (1000, 1000, 1000, 1000)


def frame(kind: Kind = Kind.EVENT, name: str = "", size: int = 0) -> Frame:
    return Frame(name.encode(), b"x" * size, kind)


def drain(queue: Queue) -> list[Lane]:
    order = []
    while (lane := queue.choose()) is not None:
        order.append(lane)
        queue.sent(lane)
    return order


def test_control_and_high_overtake_all_that_waits() -> None:
    queue = Queue()
    for lane in (Lane.LOW, Lane.NORMAL, Lane.HIGH, Lane.CONTROL):
        for _ in range(20):
            queue.lanes[lane].put(frame())
    order = drain(queue)
    assert order[:40] == [Lane.CONTROL] * 20 + [Lane.HIGH] * 20


def test_low_moves_a_little_under_a_flood_of_normal() -> None:
    queue = Queue()
    queue.lanes[Lane.LOW].put(frame())
    sent = []
    for _ in range(200):
        queue.lanes[Lane.NORMAL].put(frame())
        lane = queue.choose()
        assert lane is not None
        sent.append(lane)
        queue.sent(lane)
    assert sent.count(Lane.LOW) == 1
    assert sent.index(Lane.LOW) == PATIENCE_FRAMES[Lane.LOW]


def test_a_flood_of_high_starves_neither_normal_nor_low() -> None:
    queue = Queue()
    for _ in range(5):
        queue.lanes[Lane.NORMAL].put(frame())
        queue.lanes[Lane.LOW].put(frame())
    sent = Counter()
    for _ in range(1000):
        queue.lanes[Lane.HIGH].put(frame())
        lane = queue.choose()
        assert lane is not None
        sent[lane] += 1
        queue.sent(lane)
    assert sent[Lane.NORMAL] == sent[Lane.LOW] == 5


def test_nothing_overtakes_control() -> None:
    queue = Queue()
    queue.lanes[Lane.LOW].put(frame())
    queue.lanes[Lane.NORMAL].put(frame())
    for _ in range(500):
        queue.lanes[Lane.CONTROL].put(frame())
        lane = queue.choose()
        assert lane is Lane.CONTROL
        queue.sent(lane)


def test_at_the_limit_an_event_pushes_out_the_oldest_event() -> None:
    lane = LaneQueue(3, 1000)
    for name in "abc":
        lane.put(frame(name=name))
    assert lane.put(frame(name="d")) == (Put.QUEUED, 1)
    names = []
    while lane.frames:
        names.append(lane.head().header)
        lane.pop()
    assert names == [b"b", b"c", b"d"]


def test_at_the_limit_a_request_is_refused_and_pushes_nothing_out() -> None:
    lane = LaneQueue(2, 1000)
    lane.put(frame())
    lane.put(frame())
    assert lane.put(frame(Kind.REQUEST)) == (Put.REFUSED, 0)
    assert lane.frames == 2


def test_at_the_limit_a_reply_takes_the_place_of_an_event() -> None:
    lane = LaneQueue(2, 1000)
    lane.put(frame(name="event"))
    lane.put(frame(Kind.REPLY, "first"))
    assert lane.put(frame(Kind.REPLY, "second")) == (Put.QUEUED, 1)
    assert lane.put(frame(Kind.REPLY, "third")) == (Put.DROPPED, 0)
    assert lane.head().header == b"first"


def test_bytes_are_a_limit_too() -> None:
    lane = LaneQueue(100, 10)
    assert lane.put(frame(size=6)) == (Put.QUEUED, 0)
    assert lane.put(frame(Kind.REQUEST, size=6)) == (Put.REFUSED, 0)
    assert lane.put(frame(size=6)) == (Put.QUEUED, 1)
    assert (lane.frames, lane.size_bytes) == (1, 6)


def test_a_full_lane_leaves_the_others_alone() -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    for _ in range(8192 + 10):
        outbox.put(b"x", Lane.LOW, frame())
    assert outbox.put(b"x", Lane.CONTROL, frame(Kind.REQUEST)) is Put.QUEUED
    assert counts == {"dropped_low": 10}


def test_destinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "DESTINATIONS_MAX", 2)
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    puts = [outbox.put(name, Lane.LOW, frame()) for name in (b"a", b"b", b"c", b"a")]
    assert puts == [Put.QUEUED, Put.QUEUED, Put.DROPPED, Put.QUEUED]
    assert outbox.put(b"d", Lane.LOW, frame(Kind.REQUEST)) is Put.REFUSED
    assert counts["dropped_destinations"] == 2


def test_a_destination_that_is_empty_is_forgotten() -> None:
    outbox = Outbox(Counter())
    outbox.put(b"a", Lane.LOW, frame())
    outbox.put(b"b", Lane.LOW, frame())
    outbox.sent(b"a", Lane.LOW)
    assert outbox.waiting() == [b"b"]
    assert outbox.forget(b"b") == 1
    assert len(outbox) == 0
    assert outbox.head(b"b") is None


def test_all_destinations_together_are_bounded_but_control_goes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "OUTBOX_MAX_BYTES", 1000)
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    assert outbox.put(b"a#1", Lane.LOW, frame(size=600)) is Put.QUEUED
    assert outbox.put(b"b#1", Lane.LOW, frame(size=600)) is Put.DROPPED
    assert outbox.put(b"b#1", Lane.LOW, frame(Kind.REQUEST, size=600)) is Put.REFUSED
    assert counts["dropped_outbox"] == 2
    assert outbox.put(b"b#1!hb", Lane.CONTROL, frame(Kind.REPLY, size=600)) is Put.QUEUED
    outbox.sent(b"a#1", Lane.LOW)
    assert outbox.forget(b"b#1!hb") == 1
    assert outbox.size_bytes == 0
    assert outbox.put(b"b#1", Lane.LOW, frame(size=600)) is Put.QUEUED


def test_an_operator_that_never_reads_gets_little() -> None:
    outbox = Outbox(Counter())
    for who, most in ((b"op-7-1", queues.OPERATOR_QUEUE_MAX_FRAMES), (b"a#1", 1000)):
        puts = [outbox.put(who, Lane.HIGH, frame(Kind.REPLY, size=100)) for _ in range(1000)]
        assert puts.count(Put.QUEUED) == most
        assert outbox.depth(who) == most
    assert outbox.size_bytes == 100 * (queues.OPERATOR_QUEUE_MAX_FRAMES + 1000)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "send", "forget"]),
            st.sampled_from([b"a#1", b"b#1", b"op-1-1"]),
            st.sampled_from(list(Lane)),
            st.sampled_from([Kind.EVENT, Kind.REQUEST, Kind.REPLY]),
            st.integers(0, 1 << 20),
        ),
        max_size=200,
    )
)
def test_the_size_of_an_outbox_is_that_of_its_queues(steps: list[Any]) -> None:
    outbox = Outbox(Counter())
    for what, who, lane, kind, size in steps:
        if what == "put":
            outbox.put(who, lane, Frame(b"", bytes(size), kind))
        elif what == "forget":
            outbox.forget(who)
        elif (head := outbox.head(who)) is not None:
            outbox.sent(who, head[0])
        found = [lane.size_bytes for queue in outbox._queues.values() for lane in queue.lanes]
        assert outbox.size_bytes == sum(found)


PUTS = st.tuples(
    st.just("put"),
    st.sampled_from(list(Lane)),
    st.sampled_from([Kind.EVENT, Kind.MESSAGE, Kind.REQUEST, Kind.REPLY, Kind.ERROR]),
    st.integers(0, 600),
)
STEPS = st.lists(st.one_of(PUTS, st.just(("send",))), max_size=200)


@given(STEPS)
def test_limits_order_and_counts_hold_whatever_comes(steps: list[tuple[object, ...]]) -> None:
    """Against a plain model: a list for each lane."""
    queue = Queue(SMALL_FRAMES, SMALL_BYTES)
    model: dict[Lane, list[Frame]] = {lane: [] for lane in Lane}
    for number, step in enumerate(steps):
        if step[0] == "send":
            lane = queue.choose()
            assert (lane is None) == (not any(model.values()))
            if lane is not None:
                assert queue.lanes[lane].head() is model[lane].pop(0)
                queue.sent(lane)
        else:
            _, lane, kind, size = step
            new = frame(kind, str(number), size)
            waiting = model[lane]
            before = len(waiting)
            put, pushed_out = queue.lanes[lane].put(new)
            for _ in range(pushed_out):
                waiting.remove(next(f for f in waiting if f.kind in DROPPABLE))
            if put is Put.QUEUED:
                waiting.append(new)
            assert put is not Put.REFUSED or kind is Kind.REQUEST
            assert put is not Put.REFUSED or len(waiting) == before
        for lane in Lane:
            assert queue.lanes[lane].frames == len(model[lane]) <= 4
            size_bytes = sum(f.size_bytes for f in model[lane])
            assert queue.lanes[lane].size_bytes == size_bytes <= 1000


def test_a_lane_that_is_pushed_through_for_ever_keeps_its_size() -> None:
    """Tombstones behind a request that is never sent do not pile up."""
    lane = LaneQueue(10, 1 << 20)
    lane.put(frame(Kind.REQUEST))
    for _ in range(10_000):
        lane.put(frame())
    assert len(lane._frames) <= 30
