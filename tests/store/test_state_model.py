"""Any sequence of batches, renewals, failures and reopenings: LMDB holds what a dict holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from shard_node.state.views import DictView
from store.errors import StoreFailed
from store.state import StateStore
from store.statewriter import StateWriter
from tests.support.state_store import WAIT_S, Ends

# Few bytes, so that keys meet, lie beside each other and begin with each other.
KEYS = st.binary(min_size=2, max_size=5).map(lambda data: bytes(byte % 3 for byte in data))
ROWS = st.one_of(st.none(), st.binary(max_size=20), st.integers(3000, 9000).map(bytes))
BATCHES = st.dictionaries(KEYS, ROWS, max_size=6)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.model = DictView()
        self.seen = DictView()
        """What the view shows: the model at the last renewal."""
        self.open()

    def open(self) -> None:
        self.store = StateStore.open(Path(self._folder.name) / "state", 64 << 20)
        self.ends = Ends()
        self.writer = StateWriter(self.store, self.ends)
        self.submitted = 0

    def give(self, batch: dict[bytes, bytes | None], **extra: object) -> None:
        self.submitted += 1
        self.writer.submit(self.submitted, batch, **extra)  # type: ignore[arg-type]

    @rule(batches=st.lists(BATCHES, min_size=1, max_size=4))
    def commit(self, batches: list[dict[bytes, bytes | None]]) -> None:
        for batch in batches:
            self.give(batch)
            self.model.write(batch)
        assert all(error is None for _, error in self.ends.wait(self.submitted))

    @rule(good=BATCHES, bad=BATCHES, after=BATCHES)
    def fail(
        self,
        good: dict[bytes, bytes | None],
        bad: dict[bytes, bytes | None],
        after: dict[bytes, bytes | None],
    ) -> None:
        """A key that LMDB cannot have: the batch and what stands on it are not kept."""
        self.give(good)
        self.model.write(good)
        self.give(bad | {b"\0" * 600: b"x"})
        self.give(after)
        ends = self.ends.wait(self.submitted)[-3:]
        assert [isinstance(error, StoreFailed) for _, error in ends] == [False, True, True]
        self.ends.ends = [(token, None) for token, _ in self.ends.ends]
        self.writer.reset()

    @rule()
    def renew(self) -> None:
        assert self.writer.settle(WAIT_S)
        self.store.renew()
        self.seen = DictView(self.model.rows)

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()
        self.seen = DictView(self.model.rows)

    @rule(prefix=KEYS | st.just(b""), after=KEYS | st.just(b""))
    def scan(self, prefix: bytes, after: bytes) -> None:
        view = self.store.view
        assert list(view.scan(prefix, after)) == list(self.seen.scan(prefix, after))
        assert list(view.scan(prefix[:1], after)) == list(self.seen.scan(prefix[:1], after))

    @rule(keys=st.lists(KEYS, max_size=8))
    def read(self, keys: list[bytes]) -> None:
        assert [self.store.view.get(key) for key in keys] == [self.seen.get(key) for key in keys]

    def close(self) -> None:
        assert self.writer.close(WAIT_S)
        self.store.close()

    def teardown(self) -> None:
        self.close()
        self._folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
