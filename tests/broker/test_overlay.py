"""What waits for its commit lies over what is durable, for scans as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from broker.core.overlay import Overlay
from broker.core.stateport import MemoryPort
from shard_node.state.errors import StoreDamaged
from shard_node.state.log import Entry
from shard_node.state.machine import apply, encode_tx
from shard_node.state.opids import WINDOW, Known, OpIds, Window
from shard_node.state.tx import Tx
from shard_node.state.values import SetValue
from tests.support.state import World
from tests.support.state_world import StateWorld

keys = st.binary(min_size=2, max_size=3).map(lambda key: bytes(byte % 3 for byte in key))
changes = st.dictionaries(keys, st.none() | st.binary(max_size=1), max_size=8)
steps = st.lists(changes | st.sampled_from(["seal", "scan"]), max_size=20)


@given(changes, steps, keys, st.just(b"") | keys)
def test_a_scan_sees_all_layers_as_one(
    durable: dict, steps: list, prefix: bytes, after: bytes
) -> None:
    port = MemoryPort()
    port.view.write(durable)
    overlay = Overlay(port)
    rows = dict(durable)
    for step in [*steps, "scan"]:
        if step == "seal":
            overlay.seal()
        elif step == "scan":
            wanted = sorted(
                (key, row)
                for key, row in rows.items()
                if row is not None and key.startswith(prefix) and key > after
            )
            assert list(overlay.scan(prefix, after)) == wanted
        else:
            overlay.layer.writes.update(step)
            rows |= step


class Log:
    """A port whose records and reads of op ids are counted."""

    def __init__(self, count: int, step_ms: int = 0, window: Window = WINDOW) -> None:
        self.port, self.world, self.reads = MemoryPort(), World(), 0
        self.world.op_ids = OpIds(window=window)
        self.txs = [self.world.tx(SetValue("v", number)) for number in range(count)]
        for number, tx in enumerate(self.txs):
            applied = self.world.submit(tx, 1 + number * step_ms)
            self.port.commit(applied.writes, [applied.entry])
        read = self.port.op_ids

        def counted(after: int, limit: int) -> list[Known]:
            self.reads += limit
            return read(after, limit)

        self.port.op_ids = counted  # type: ignore[method-assign]

    def do(self, overlay: Overlay, tx: Tx) -> int:
        applied = apply(overlay, overlay, tx, 1, overlay.place)
        if applied.entry is not None:
            overlay.add(applied)
        return applied.lsn


def test_what_was_applied_before_the_start_is_known_before_anything_is_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.core.overlay.WINDOW", Window(10, 30_000, 10))
    log = Log(30)
    overlay = Overlay(log.port)
    assert log.reads == 0
    assert log.do(overlay, log.txs[20]) == 21
    assert log.do(overlay, log.txs[29]) == 30
    assert log.reads == 10
    assert log.do(overlay, log.txs[19]) == 31  # too old
    assert log.do(overlay, log.txs[20]) == 32  # and now this one is
    assert log.do(overlay, log.txs[19]) == 31
    assert log.reads == 10


def test_what_was_not_kept_was_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.overlay.WINDOW", Window(10, 30_000, 10))
    log = Log(30)
    overlay = Overlay(log.port)
    new = [log.world.tx(SetValue("w", number)) for number in range(3)]
    assert [log.do(overlay, tx) for tx in new] == [31, 32, 33]
    overlay.reset()
    assert log.do(overlay, log.txs[20]) == 21
    assert log.reads == 10 + 3  # the ones that had to go for the three
    assert [log.do(overlay, tx) for tx in reversed(new)] == [31, 32, 33]


def test_where_others_wrote_the_log_it_is_read_anew() -> None:
    log, other = Log(30), Log(30)
    for count in (29, 30, 31):
        overlay = Overlay(log.port)
        assert log.do(overlay, log.txs[-1]) == 30
        theirs = MemoryPort()
        other.world = World()
        txs = [other.world.tx(SetValue("w", n), user=7) for n in range(count)]
        txs = [structs.replace(tx, op_id=tx.op_id[::-1]) for tx in txs]
        for tx in txs:
            applied = other.world.submit(tx, 1)
            theirs.commit(applied.writes, [applied.entry])
        overlay._port = overlay._done._port = theirs
        overlay.reset()
        assert [log.do(overlay, tx) for tx in txs] == list(range(1, count + 1))
        assert log.do(overlay, log.txs[-1]) == count + 1


@pytest.mark.parametrize(("step_ms", "known"), [(10_000, 10), (2000, 16), (1, 25)])
def test_what_a_sender_may_send_again_is_known_after_a_start_as_before(
    monkeypatch: pytest.MonkeyPatch, step_ms: int, known: int
) -> None:
    window = Window(10, 30_000, 25)
    monkeypatch.setattr("broker.core.overlay.WINDOW", window)
    log = Log(60, step_ms, window)
    overlay = Overlay(log.port)
    applied = [overlay.applied(tx.op_id) for tx in log.txs]
    assert applied == [log.world.applied(tx.op_id) for tx in log.txs]
    assert applied == [None] * (60 - known) + list(range(61 - known, 61))
    assert log.reads == known


def broken(log: Log, *damaged: int) -> None:
    """These records cannot be read any more."""
    op_ids, entry = log.port.op_ids, log.port.entry

    def read(after: int, limit: int) -> list[Known]:
        if any(after < lsn <= after + limit for lsn in damaged):
            raise StoreDamaged("a record cannot be read")
        return op_ids(after, limit)

    def read_one(lsn: int) -> Entry | None:
        if lsn in damaged:
            raise StoreDamaged("a record cannot be read")
        return entry(lsn)

    log.port.op_ids, log.port.entry = read, read_one  # type: ignore[method-assign]


@pytest.mark.parametrize("damaged", [(30,), (1,), (17, 18), tuple(range(1, 31))])
def test_damaged_records_alone_are_not_known(
    monkeypatch: pytest.MonkeyPatch, damaged: tuple[int, ...]
) -> None:
    monkeypatch.setattr("broker.core.overlay.PIECE", 4)
    log = Log(30)
    broken(log, *damaged)
    overlay = Overlay(log.port)
    assert log.do(overlay, log.world.tx(SetValue("v", 1))) == 31
    assert overlay.unread == damaged
    for lsn, tx in enumerate(log.txs, 1):
        assert overlay.applied(tx.op_id) == (None if lsn in damaged else lsn)
    overlay.reset()
    assert log.do(overlay, log.world.tx(SetValue("v", 2))) == 31
    assert overlay.unread == damaged


def test_a_log_with_a_hole_goes_on_without_it() -> None:
    log = Log(30)
    log.port.op_ids = lambda after, limit: []  # type: ignore[method-assign]
    overlay = Overlay(log.port)
    assert log.do(overlay, log.world.tx(SetValue("v", 1))) == 31
    assert overlay.unread == tuple(range(1, 31))


def test_a_broker_knows_them_before_it_serves_and_tells_of_damaged_ones() -> None:
    log = Log(30)
    broken(log, 17)
    world = StateWorld(log.port, auto=True)
    assert log.reads > 0
    assert ["record 17" in text for text in world.errors] == [True]
    log.reads = 0
    done = world.answer(world.do(encode_tx(log.txs[20]))).outcomes[0]
    assert (done.lsn, log.reads) == (21, 0)
