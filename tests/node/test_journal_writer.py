"""The journal's writer: kills, full disks, cleaning, and what must never be written."""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shard_node.journal import writer
from shard_node.journal.cleaning import DEAD_MAX_BYTES
from shard_node.journal.place import Place
from shard_node.journal.segment import Segment
from tests.support.journals import (
    SHARD,
    StillLoop,
    all_bytes,
    begun,
    channel_create,
    guild_create,
    place_in,
    read,
    session,
    text,
    total_bytes,
)
from tests.support.mounts import mounted

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys, pathlib
sys.path.insert(0, {root!r})
from tests.support.journals import *
place = place_in(pathlib.Path({folder!r}))
assert place.take(SHARD)
journal = begun(place, read(place).story)
journal.session(1, session())
guild_create(journal, 2, 10)
for seq in range(3, 10**9):
    channel_create(journal, seq, 10, seq, name="x" * (seq * 7919 % 20000))
    journal.flush()
    print(seq, flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path)


@pytest.mark.slow
def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    code = CHILD.format(root=str(ROOT), folder=str(tmp_path))
    chance = random.Random(5)
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        with child:
            assert child.stdout is not None
            assert child.stdout.readline()
            time.sleep(chance.random() * 0.02)
            child.send_signal(signal.SIGKILL)
            said = [int(line) for line in child.stdout.read().splitlines(True) if line[-1] == "\n"]
        place = place_in(tmp_path)
        found = read(place)
        assert found.problem == ""
        assert found.story.handled_seq >= max(said, default=3)
        seqs = [piece.seq for piece in found.story.pieces()]
        assert seqs == list(range(2, found.story.handled_seq + 1))
        place.close()


def test_interactions_never_reach_the_file(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    raw = text("INTERACTION_CREATE", 2, {"id": "1", "guild_id": "10", "token": "canary-token"})
    journal.event(2, "INTERACTION_CREATE", raw, 10)
    journal.started(2, "INTERACTION_CREATE", 10, "1")
    journal.flush()
    assert b"canary" not in all_bytes(place)
    assert read(place).story.handled_seq == 2
    guild_create(journal, 3, 10, name="canary")
    journal.flush()
    assert b"canary" in all_bytes(place), "the look would see it"


def test_cleaning_bounds_what_is_dead_and_loses_nothing(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    seq, guilds = 1, range(100, 140)
    for guild in guilds:
        seq += 1
        guild_create(journal, seq, guild, name="n" * 2000)
    most = 0
    for turn in range(9000):
        seq += 1
        raw = {"id": "5", "guild_id": str(100 + turn % 40), "type": 0, "name": f"{seq}"}
        raw["topic"] = "t" * 4000
        journal.event(seq, "CHANNEL_CREATE", text("CHANNEL_CREATE", seq, raw), 100 + turn % 40)
        journal.last(seq, 5, seq)
        if not turn % 25:
            journal.clean(0.003)
            live = journal.story.guilds.live_bytes
            most = max(most, total_bytes(place) - 2 * live)
    assert seq * 4000 > 3 * DEAD_MAX_BYTES, "enough to clean"
    assert most < 16 << 20
    journal.flush()
    found = read(place)
    assert found.problem == ""
    assert sorted(found.story.guilds) == list(guilds)
    assert list(found.story.pieces()) == list(journal.story.pieces())
    assert found.story.session is not None
    gc.collect()
    held = [
        one for one in gc.get_objects() if isinstance(one, dict) and one.get("topic") == "t" * 4000
    ]
    assert held == [raw] or len(held) <= 1, "no raw guild stays in memory"


def test_a_full_disk_waits_in_memory_and_then_goes_on(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        place, loop = place_in(disk), StillLoop()
        journal = begun(place, loop=loop)
        journal.session(1, session())
        guild_create(journal, 2, 10, name="n" * 700_000)
        journal.flush()
        ballast = disk / "ballast"
        with pytest.raises(OSError):
            ballast.write_bytes(bytes(1 << 20))
        for seq in range(3, 9):
            channel_create(journal, seq, 10, seq, name="x" * 30_000)
            journal.flush()
        assert journal.broken == ""
        assert read(place).story.handled_seq < 8
        ballast.unlink()
        loop.retry()
        assert [piece.seq for piece in read(place).story.pieces()] == list(range(2, 9))
        journal.close()
        place.close()


def test_a_disk_that_stays_full_breaks_the_journal_and_no_bot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PENDING_MAX_BYTES", 1 << 20)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=512k", "tmpfs") as disk:
        place = place_in(disk)
        journal = begun(place)
        journal.session(1, session())
        guild_create(journal, 2, 10)
        for seq in range(3, 30):
            channel_create(journal, seq, 10, seq, name="x" * 100_000)
            journal.flush()
        assert "No space left on device" in journal.broken
        assert "IDENTIFY" in journal.broken
        assert place.segments(SHARD) == []
        journal.seen(40)
        journal.done(3)
        journal.flush()
        journal.session(1, session("new"))
        assert journal.broken == ""
        assert read(place).story.session == session("new")
        journal.close()
        place.close()


def test_who_releases_on_a_full_disk_leaves_no_journal(tmp_path: Path) -> None:
    """The next holder would handle again what is not in the file."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        place = place_in(disk)
        journal = begun(place)
        journal.session(1, session())
        guild_create(journal, 2, 10, name="n" * 600_000)
        journal.release("b", 0.0, "move")
        assert place.segments(SHARD) == []
        assert journal.broken
        place.close()


def test_what_was_copied_stays_until_the_copies_are_in_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while a segment is cleaned, and the process is killed then."""
    journal = begun(place)
    journal.session(1, session())
    guilds = range(100, 104)
    for seq, guild in enumerate(guilds, 2):
        guild_create(journal, seq, guild, name="n" * 2000)
    raw = {"id": "5", "guild_id": "100", "type": 0, "name": "x", "topic": "t" * 60_000}
    for seq in range(10, 600):
        journal.event(seq, "CHANNEL_CREATE", text("CHANNEL_CREATE", seq, raw), 100)
        journal.flush()
    assert len(place.segments(SHARD)) > 2

    def full(self: Segment, _data: object) -> int:
        self.why = "No space left on device"
        return 0

    with monkeypatch.context() as disk:
        disk.setattr(Segment, "_write", full)
        journal.clean(10.0)
        assert sorted(read(place).story.guilds) == list(guilds)
    before = place.segments(SHARD)[0]
    assert journal._segment is not None
    assert journal._segment.retry()
    journal.clean(10.0)
    assert before not in place.segments(SHARD)
    assert sorted(read(place).story.guilds) == list(guilds)
    journal.close()
