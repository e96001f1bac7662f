"""A request for a key that none can be is refused as one, and is no damage of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.ports.state import StoredState
from shard_node.state.errors import BadName
from store.state import StateStore


@pytest.mark.parametrize("key", [b"", b"x" * 600], ids=len)
def test_a_key_of_no_possible_length(tmp_path: Path, key: bytes) -> None:
    store = StateStore.open(tmp_path / "state")
    try:
        view = StoredState(store).view
        with pytest.raises(BadName, match=f"{len(key)} bytes") as refused:
            view.get(key)
        assert refused.value.hint
        assert list(view.scan(b"")) == []
        if key:
            with pytest.raises(BadName):
                list(view.scan(key))
            with pytest.raises(BadName):
                list(view.scan(b"", key))
    finally:
        store.close()
