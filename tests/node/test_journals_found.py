"""Which shards can RESUME, as a broker and a dry run see it in journals, from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from shard_node.journal.found import resumable
from shard_node.journal.place import Place
from tests.support.journals import (
    APPLICATION,
    BOOT,
    SHARD,
    SHARDS,
    begun,
    guild_create,
    place_in,
    session,
)


def found(place: Place, **other: Any) -> dict[int, frozenset[int]]:
    asked = {"boot_id": BOOT, "application": APPLICATION, "max_age_s": 60.0, **other}
    return resumable(place.segments(SHARD)[0].parent.parent, **asked)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With a journal that has a session and a guild."""
    place = place_in(tmp_path)
    with_session(place)
    return place


def with_session(place: Place) -> None:
    journal = begun(place)
    journal.session(0, session("s", (10,)))
    guild_create(journal, 1, 10)
    journal.close()


def newest(place: Place) -> Path:
    return place.segments(SHARD)[-1]


def test_a_journal_with_a_session_can_be_resumed(place: Place) -> None:
    assert found(place) == {SHARDS: frozenset({SHARD})}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert resumable(tmp_path / "journal", BOOT, APPLICATION, 60.0) == {}


@pytest.mark.parametrize("other", [{"boot_id": "another"}, {"application": "another"}])
def test_a_session_of_another_boot_or_application_is_none(
    place: Place, other: dict[str, Any]
) -> None:
    assert found(place, **other) == {}


def test_a_session_that_nobody_had_for_long_is_none(place: Place) -> None:
    hour_ago = time.time() - 3600
    os.utime(newest(place), (hour_ago, hour_ago))
    assert found(place) == {}
    assert found(place, max_age_s=7200.0) == {SHARDS: frozenset({SHARD})}


def test_the_newest_segment_counts(place: Place) -> None:
    """A process that was never ready has begun one: who follows would IDENTIFY."""
    begun(place, epoch=2).close()
    assert newest(place).stem.endswith("a#2")
    assert found(place) == {}


@pytest.mark.parametrize("keep", [0, 3, 20, 60])
def test_a_torn_segment_promises_nothing(place: Place, keep: int) -> None:
    os.truncate(newest(place), keep)
    assert found(place) == {}


def test_noise_breaks_nothing(place: Place) -> None:
    data = newest(place).read_bytes()
    for at in range(min(len(data), 200)):
        torn = bytearray(data)
        torn[at] ^= 0xFF
        newest(place).write_bytes(bytes(torn))
        assert sum(map(len, found(place).values())) <= 1, at
    newest(place).write_bytes(data.replace(BOOT.encode(), b"root"))
    assert found(place) == {}


def test_what_is_no_journal_is_passed_over(place: Place) -> None:
    root = place.segments(SHARD)[0].parent.parent
    (root / "notes-of-mine").mkdir()
    (root / "a-file").write_text("x")
    assert found(place) == {SHARDS: frozenset({SHARD})}
