"""A steady load of players: interactions and events, each at its own rate."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from shard_node.sandbox.gestures import Unplayable
from shard_node.sandbox.pace import Pace
from shard_node.sandbox.players import Players
from shard_node.sandbox.state import SandboxState

RATE_MAX_PER_S: Final = 20_000.0
SECONDS_MAX: Final = 7 * 86_400.0
LOADS_MAX: Final = 64
"""Loads remembered; the oldest finished one is forgotten."""
BATCH_MAX: Final = 64
"""Acts between two turns of the loop, so that a load that catches up starves nobody."""
TICK_MIN_S: Final = 0.002
EVENT_KINDS: Final = ("message", "role", "message", "member", "message", "presence")
"""Drawn in turn; one that no session's intents ask for gives way to the next."""


class TooManyLoads(Exception):
    """All loads that can be remembered are still running."""


@dataclass
class Load:
    """One load. Times in seconds; ``lag_max_s`` is how late the latest batch went out."""

    id: str
    interactions: Pace
    events: Pace
    guild_id: int | None
    started_at: float
    interactions_sent: int = 0
    events_sent: int = 0
    lag_max_s: float = 0.0
    ended_at: float | None = None
    cancelled: bool = False
    error: str | None = None
    kinds: Iterator[str] = field(default_factory=lambda: itertools.cycle(EVENT_KINDS))

    def report(self, now: float) -> dict[str, Any]:
        """What ``GET /sandbox/load/{id}`` says."""
        return {
            "id": self.id,
            "done": self.ended_at is not None,
            "cancelled": self.cancelled,
            "elapsed_s": round((self.ended_at or now) - self.started_at, 3),
            "seconds": self.interactions.seconds,
            "interactions_sent": self.interactions_sent,
            "interactions_total": self.interactions.total,
            "events_sent": self.events_sent,
            "events_total": self.events.total,
            "lag_max_s": round(self.lag_max_s, 4),
            "error": self.error,
        }


class Loads:
    """All loads of a sandbox; each is a task that waits for its next deadline."""

    def __init__(self, state: SandboxState, players: Players) -> None:
        self._state = state
        self._players = players
        self._loads: dict[str, Load] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)

    def find(self, load_id: str) -> Load | None:
        """A load that is remembered."""
        return self._loads.get(load_id)

    def start(
        self,
        *,
        interactions_per_s: float,
        events_per_s: float,
        seconds: float,
        guild_id: int | None,
    ) -> Load:
        """Begin a load now. Raises TooManyLoads."""
        self._make_room()
        load = Load(
            id=str(next(self._numbers)),
            interactions=Pace(interactions_per_s, seconds),
            events=Pace(events_per_s, seconds),
            guild_id=guild_id,
            started_at=self._state.now(),
        )
        self._loads[load.id] = load
        task = asyncio.get_running_loop().create_task(self._run(load))
        self._tasks[load.id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(load.id, None))
        return load

    async def cancel(self, load: Load) -> None:
        """End a load now; what it has sent stays sent."""
        task = self._tasks.get(load.id)
        if task is not None:
            load.cancelled = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """End all loads."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> None:
        if len(self._loads) < LOADS_MAX:
            return
        done = next((load for load in self._loads.values() if load.ended_at is not None), None)
        if done is None:
            raise TooManyLoads
        del self._loads[done.id]

    async def _run(self, load: Load) -> None:
        try:
            await self._play_all(load)
        except (Unplayable, KeyError) as error:
            load.error = str(error) if isinstance(error, Unplayable) else f"no guild {error}"
        finally:
            load.ended_at = self._state.now()

    async def _play_all(self, load: Load) -> None:
        while True:
            elapsed_s = self._state.now() - load.started_at
            if self._play_due(load, elapsed_s):
                await asyncio.sleep(0)
                continue
            next_s = min(
                load.interactions.next_at_s(load.interactions_sent),
                load.events.next_at_s(load.events_sent),
                load.interactions.seconds,
            )
            if elapsed_s >= load.interactions.seconds:
                return
            await asyncio.sleep(max(TICK_MIN_S, next_s - elapsed_s))

    def _play_due(self, load: Load, elapsed_s: float) -> bool:
        """One batch of what is due; True when there may be more."""
        for _ in range(BATCH_MAX):
            slash_s = load.interactions.next_at_s(load.interactions_sent)
            event_s = load.events.next_at_s(load.events_sent)
            if min(slash_s, event_s) > elapsed_s:
                return False
            load.lag_max_s = max(load.lag_max_s, elapsed_s - min(slash_s, event_s))
            if slash_s <= event_s:
                self._players.play("slash", load.guild_id, {})
                load.interactions_sent += 1
            else:
                self._play_event(load)
                load.events_sent += 1
        return True

    def _play_event(self, load: Load) -> None:
        """The next kind of event; those that nobody asks for are passed over."""
        for _ in EVENT_KINDS:
            if self._players.play(next(load.kinds), load.guild_id, {"asks": False}):
                return
        raise Unplayable(
            "no session's intents ask for any event", "give the bot the intents of its events"
        )
