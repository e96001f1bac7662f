"""The broker's lock, and files that nobody writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.ports import folders
from store.errors import StoreDamaged, StoreInUse, StoreOpenError
from store.offline import DATA_FILE, JOURNAL_FILES, LOCK_FILE, broker_kept_out, opened_at_rest
from store.state import StateStore


def test_the_lock_is_the_brokers(tmp_path: Path) -> None:
    assert LOCK_FILE == folders.LOCK_FILE
    with broker_kept_out(tmp_path):
        with pytest.raises(folders.LockedError):
            folders.take_lock(tmp_path)
        with pytest.raises(StoreInUse), broker_kept_out(tmp_path):
            pass
    with broker_kept_out(tmp_path):
        pass
    with pytest.raises(StoreOpenError), broker_kept_out(tmp_path / "nowhere"):
        pass


def test_opened_at_rest_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreOpenError, match=DATA_FILE), opened_at_rest(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / DATA_FILE).write_bytes(b"x" * 10_000)
    with pytest.raises(StoreDamaged), opened_at_rest(tmp_path):
        pass
    StateStore.open(tmp_path / "state").close()
    (tmp_path / "state" / "lock.mdb").unlink()
    with opened_at_rest(tmp_path / "state") as (env, handles), env.begin() as txn:
        assert set(handles) == {b"rows", b"log", b"meta"}
        assert txn.stat(handles[b"log"])["entries"] == 0
    found = {path.name for path in (tmp_path / "state").iterdir()}
    assert found == {DATA_FILE, *JOURNAL_FILES}
