"""Journals for tests: a place, a writer, what events look like."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shard_node.journal.follow import Follower
from shard_node.journal.place import Place
from shard_node.journal.records import Head, Session
from shard_node.journal.story import Story
from shard_node.journal.writer import ShardJournal

SHARD, SHARDS = 1, 4
APPLICATION, BOOT = "app", "boot"


class StillLoop(asyncio.AbstractEventLoop):
    """A loop that runs what it was asked to when a test says so."""

    def __init__(self) -> None:
        self.soon = list[Callable[[], object]]()
        self.later = list[tuple[float, Callable[[], object]]]()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.soon.append(callback)
        return asyncio.Handle(callback, args, self, context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        self.later.append((delay, callback))
        return asyncio.TimerHandle(delay, callback, args, self, context)

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.later = [one for one in self.later if one[1] != handle._callback]  # type: ignore[attr-defined]

    def turn(self) -> None:
        """What was asked for the next turn."""
        waiting, self.soon = self.soon, []
        for callback in waiting:
            callback()

    def retry(self) -> None:
        """The time of everything later has come."""
        waiting, self.later = self.later, []
        for _, callback in waiting:
            callback()


def place_in(folder: Path, **more: Any) -> Place:
    told = {"num_shards": SHARDS, "boot_id": BOOT, "application": APPLICATION, **more}
    return Place(folder / "journal", **told)


def begun(
    place: Place, story: Story | None = None, *, node: str = "a", epoch: int = 1, loop: Any = None
) -> ShardJournal:
    """A writer in a new segment."""
    head = Head(BOOT, APPLICATION, SHARDS, SHARD, node, epoch, os.getpid(), 0, 0.0)
    path = place.next_segment(SHARD, node, epoch)
    return ShardJournal(path, head, story or Story(), loop or StillLoop())


def session(name: str = "s", guilds: tuple[int, ...] = ()) -> Session:
    return Session(name, "wss://resume", {"id": "7"}, {"id": "8", "flags": 0}, list(guilds))


def text(event: str, seq: int, data: dict[str, Any]) -> str:
    return json.dumps({"op": 0, "t": event, "s": seq, "d": data})


def guild_create(journal: ShardJournal, seq: int, guild: int, **more: Any) -> None:
    data = {"id": str(guild), "unavailable": False, "channels": [], "members": [], **more}
    journal.event(seq, "GUILD_CREATE", text("GUILD_CREATE", seq, data), guild)


def channel_create(journal: ShardJournal, seq: int, guild: int, number: int, **more: Any) -> None:
    data = {"id": str(number), "guild_id": str(guild), "type": 0, "position": 0, **more}
    journal.event(seq, "CHANNEL_CREATE", text("CHANNEL_CREATE", seq, data), guild)


def read(place: Place) -> Follower:
    """A journal that was read to its end, and closed."""
    follower = Follower(place, SHARD)
    follower.more()
    follower.close()
    return follower


def total_bytes(place: Place) -> int:
    return sum(path.stat().st_size for path in place.segments(SHARD))


def all_bytes(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in place.segments(SHARD))
