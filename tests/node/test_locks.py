"""One holder a shard, whatever happens to it: stopped, killed, forked, opened twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shard_node.journal.place import GuildPlace, Place
from tests.support.journals import (
    APPLICATION,
    BOOT,
    SHARD,
    SHARDS,
    begun,
    place_in,
    session,
)
from tests.support.waiting import wait_for

HOLDER = """
import sys, pathlib
sys.path.insert(0, {root!r})
from tests.support.journals import SHARD, place_in
place = place_in(pathlib.Path({folder!r}))
print("taken" if place.take(SHARD) else "refused", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""
ROOT = Path(__file__).resolve().parents[2]
FREED_S = 5.0


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the shard."""
    code = HOLDER.format(root=str(ROOT), folder=str(folder))
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "taken\n"
            yield child
        finally:
            child.kill()


def tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = place_in(tmp_path)
    yield made
    made.close()


def test_a_shard_has_one_holder_and_shards_are_apart(place: Place, tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        assert not place.take(SHARD)
        assert place.take(SHARD + 1)
        assert place.held == {SHARD + 1}
        tell(child, "place.free(SHARD)")
        assert place.take(SHARD)
        place.free(SHARD)
        tell(child, "assert place.take(SHARD)")
        assert not place.take(SHARD)


def test_another_count_of_shards_has_locks_of_its_own(place: Place, tmp_path: Path) -> None:
    with holder(tmp_path):
        other = place_in(tmp_path, num_shards=8)
        assert other.take(SHARD)
        other.close()
        assert not place.take(SHARD)


def test_a_stopped_process_keeps_its_shard_and_a_killed_one_does_not(
    place: Place, tmp_path: Path
) -> None:
    with holder(tmp_path) as child:
        child.send_signal(signal.SIGSTOP)
        assert not place.take(SHARD)
        child.send_signal(signal.SIGCONT)
        child.kill()
        # Nobody has reaped it.
        wait_for("the lock of a killed process", lambda: place.take(SHARD), FREED_S)


def test_a_forked_child_has_no_lock_and_takes_none_away(place: Place, tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        tell(child, "import os")
        tell(child, "child = os.fork() or (place.close(), os._exit(0))")
        tell(child, "os.waitpid(child, 0)")
        assert not place.take(SHARD), "closed in the child, held by its parent"


def test_a_fork_of_a_killed_holder_does_not_keep_the_shard(place: Place, tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        tell(child, "import os, time, sys")
        tell(child, "child = os.fork() or (os.closerange(0, 3), time.sleep(60), os._exit(0))")
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("print(child, flush=True)\n")
        child.stdin.flush()
        forked = int(child.stdout.readline())
        try:
            child.kill()
            wait_for("the lock of a killed process", lambda: place.take(SHARD), FREED_S)
        finally:
            os.kill(forked, signal.SIGKILL)


def test_a_second_place_of_a_process_neither_shares_nor_drops_a_lock(
    place: Place, tmp_path: Path
) -> None:
    """Closing any descriptor of the file would drop the locks of all of them."""
    with holder(tmp_path) as child:
        tell(child, "second = place_in(pathlib.Path(place.folder).parent)")
        tell(child, "assert not second.take(SHARD) and second.take(SHARD + 1)")
        tell(child, "second.close()")
        assert not place.take(SHARD)
        assert place.take(SHARD + 1)
        tell(child, "place.close()")
        assert place.take(SHARD)


def test_who_waits_has_the_shard_within_milliseconds_of_a_death(
    place: Place, tmp_path: Path
) -> None:
    async def go() -> float:
        with holder(tmp_path) as child:
            assert not await place.wait(SHARD, 0.01)
            waiting = asyncio.create_task(place.wait(SHARD, FREED_S))
            await asyncio.sleep(0)
            child.kill()
            begin = time.monotonic()
            assert await waiting
            return time.monotonic() - begin

    assert asyncio.run(go()) < 1.0


def test_who_gave_up_waiting_takes_nothing_later(place: Place, tmp_path: Path) -> None:
    async def go() -> None:
        with holder(tmp_path) as child:
            waiting = asyncio.create_task(place.wait(SHARD, FREED_S))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            tell(child, "place.free(SHARD)")
        assert place.held == set()

    asyncio.run(go())


def test_only_its_owner_may_look_into_a_journal(place: Place) -> None:
    begun(place).session(1, session())
    found = [place.folder, place.of(SHARD), *place.segments(SHARD), place.folder / "locks"]
    assert [oct(path.stat().st_mode & 0o777) for path in found] == [
        "0o700", "0o700", "0o600", "0o600",
    ]  # fmt: skip


def test_a_guild_has_a_lock_that_is_no_shards(place: Place, tmp_path: Path) -> None:
    """In the same file, so closing the one must drop nothing of the other."""
    guild = (1 << 61) + (SHARDS << 20) + SHARD
    guilds = GuildPlace(place.folder, BOOT, APPLICATION)
    with holder(tmp_path) as child:
        assert place.take(SHARD + 1)
        assert guilds.take(guild)
        tell(child, "from shard_node.journal.place import GuildPlace")
        tell(child, f"guilds = GuildPlace(place.folder, {BOOT!r}, {APPLICATION!r})")
        tell(child, f"assert not guilds.take({guild})")
        guilds.close()
        tell(child, f"assert guilds.take({guild}) and not place.take(SHARD + 1)")
        tell(child, "guilds.close()")
        assert not place.take(SHARD)


def test_the_journal_of_a_guild_goes_when_nobody_has_it(place: Place, tmp_path: Path) -> None:
    mine = GuildPlace(place.folder, BOOT, APPLICATION)
    other = GuildPlace(place.folder, BOOT, APPLICATION)
    path = mine.next_segment(9, "a", 1)
    path.touch()
    assert other.take(9)
    assert not mine.forget(9)
    assert path.exists()
    other.close()
    assert mine.forget(9)
    assert not path.parent.exists()
    assert mine.held == set()
    mine.close()
