"""What waits for its commit lies over what is durable, for scans as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from broker.core.overlay import Overlay
from broker.core.stateport import MemoryPort
from shard_node.state.errors import StoreDamaged
from shard_node.state.machine import apply
from shard_node.state.tx import Tx
from shard_node.state.values import SetValue
from tests.support.state import World

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

    def __init__(self, count: int) -> None:
        self.port, self.world, self.reads = MemoryPort(), World(), 0
        self.txs = [self.world.tx(SetValue("v", number)) for number in range(count)]
        for tx in self.txs:
            applied = self.world.submit(tx, 1)
            self.port.commit(applied.writes, [applied.entry])
        read = self.port.op_ids

        def counted(after: int, limit: int) -> list[bytes]:
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
    monkeypatch.setattr("broker.core.overlay.DONE_KEPT", 10)
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
    monkeypatch.setattr("broker.core.overlay.DONE_KEPT", 10)
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


def test_a_log_with_a_hole_tells_of_nothing_that_it_was_not_applied() -> None:
    log = Log(30)
    log.port.op_ids = lambda after, limit: [bytes(16)] * (limit - 1)  # type: ignore[method-assign]
    overlay = Overlay(log.port)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            log.do(overlay, log.world.tx(SetValue("v", 1)))
